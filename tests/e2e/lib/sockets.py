"""
guest-sockets (tests/e2e/guest/sockets.c) at both ends of a vsock device: in a guest, told over its console, and on the host.
"""
import json
import os
import subprocess
import threading
import time

from .guest import Guest, GuestError


def vsock_document(vm, directory, **more):
    """A VM with one vsock device."""
    return {'vm': vm, 'devices': {'root': {
        'type': 'vsock', 'uds': f'{directory}/{vm}.vsock',
        'restart': {'limit': 100000, 'interval': '1s', 'backoff': '0'}, **more}}}


class End:
    """One run of guest-sockets, wherever it is: what it has said so far."""

    def __init__(self):
        self.listening = threading.Event()
        self.progress, self.result, self.wrongs = {}, None, []

    def take_line(self, line):
        word, _, rest = line.partition(' ')
        if word == '@listening':
            self.listening.set()
        elif word == '@load':
            self.progress = json.loads(rest)
        elif word == '@done':
            self.result = json.loads(rest)
        elif word == '@wrong':
            self.wrongs.append(rest)


class HostEnd(End):
    def __init__(self, program, *words):
        super().__init__()
        self.process = subprocess.Popen([program, *map(str, words)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if words[0] == 'serve' and not self.listening.wait(10):
            raise GuestError(f'{" ".join(map(str, words))} does not listen: {self.wrongs}')

    def read(self):
        for line in self.process.stdout:
            self.take_line(line.strip())

    def stop(self):
        try:
            self.process.stdin.write('stop\n')
            self.process.stdin.flush()
        except OSError:
            pass

    def finish(self, timeout=60):
        """Its result, when it has ended."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.close()
            raise GuestError(f'an end on the host does not end: {self.progress} {self.wrongs[:3]}') from None
        self.reader.join(5)
        if self.result is None:
            raise GuestError(f'an end on the host gave no result: {self.wrongs}')
        return self.result

    def close(self):
        self.process.kill()
        self.process.wait()


class GuestEnd(End):
    def __init__(self, guest, name):
        super().__init__()
        self.guest, self.name = guest, name

    def stop(self):
        self.guest.say(f'stop {self.name}')

    def finish(self, timeout=60):
        self.guest.wait(lambda: self.result is not None, timeout, f'the end of {self.name}: {self.wrongs[:3]} {self.progress}')
        return self.result


class SocketsGuest(Guest):
    """with SocketsGuest(vmm, socket, program) as guest: end = guest.run('dial', 'vsock:2:5000')"""

    def __init__(self, vmm, socket, program, memory=256 << 20):
        super().__init__(vmm, socket, program, ['sockets'], memory, device='vsock')
        self.ends = {}

    def start(self):
        super().start()
        self.wait(lambda: '@guest ready' in self.lines, 90, 'the guest')
        return self

    def run(self, *words):
        end = GuestEnd(self, f'e{len(self.ends)}')
        self.ends[end.name] = end
        self.say(f'{end.name} {" ".join(map(str, words))}')
        if words[0] == 'serve':
            self.wait(end.listening.is_set, 20, f'{" ".join(map(str, words))} in the guest: {end.wrongs}')
        return end

    def take_line(self, line):
        if line.startswith('#'):
            name, _, rest = line[1:].partition(' ')
            self.lines.append(line)
            if name in self.ends:
                self.ends[name].take_line(rest)
                done = [end.progress.get('ios', 0) for end in self.ends.values()]
                self.progress = {'ios': sum(done)}
            return
        super().take_line(line)

    def end(self):
        self.say('end')
        self.wait_off()


def pump(guests, seconds):
    """Consoles have to be read."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for guest in guests:
            guest.poll(0.02)


def program_of(build):
    return os.path.join(build, 'tests/e2e/guest-sockets')
