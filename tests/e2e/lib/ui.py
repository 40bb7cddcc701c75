"""
What a person sees: steps with their result, a progress line on a terminal, a table at the end.
"""
import os
import shutil
import sys
import time


class Screen:
    def __init__(self, out=None, quiet=False):
        self.out, self.quiet = out or sys.stdout, quiet
        self.tty = self.out.isatty() and os.environ.get('TERM', 'dumb') != 'dumb'
        self.colour = self.tty and 'NO_COLOR' not in os.environ
        self.drawn = False
        self.last = 0.0

    def paint(self, code, text):
        return f'\033[{code}m{text}\033[0m' if self.colour else text

    def clear(self):
        if self.drawn:
            self.out.write('\r\033[K')
            self.drawn = False

    def line(self, text=''):
        if not self.quiet:
            self.clear()
            print(text, file=self.out, flush=True)

    def step(self, what, said=''):
        """A step that is done, and what came of it."""
        self.line(f'  {self.paint("32", "✓")} {what:<26}{self.paint("2", said)}')

    def note(self, text):
        self.line(f'  {self.paint("33", "!")} {text}')

    def progress(self, text):
        """What is going on: redrawn on a terminal, every five seconds elsewhere."""
        if self.quiet:
            return
        now = time.monotonic()
        if self.tty:
            if now - self.last > 0.1:
                width = shutil.get_terminal_size().columns - 1
                self.out.write('\r\033[K' + f'  … {text}'[:width])
                self.out.flush()
                self.drawn, self.last = True, now
        elif now - self.last > 5:
            self.last = now
            self.line(f'  … {text}')

    def table(self, title, rows, good):
        width = max([len(title)] + [len(key) + len(str(value)) + 6 for key, value in rows]) + 4
        mark = self.paint('1;32', 'nothing lost') if good else self.paint('1;31', 'FAILED')
        self.line()
        self.line('  ' + self.paint('1', title))
        self.line('  ' + '─' * width)
        for key, value in rows:
            self.line(f'  {key:<18}{str(value):>{width - 18}}')
        self.line('  ' + '─' * width)
        self.line(f'  {mark}')


def thousands(n):
    return f'{n:,}'


def milliseconds(ms):
    return '–' if ms is None else f'{ms:.2f} ms'
