"""
Processes that never outlive the program that started them.

The program becomes the reaper of everything below it (PR_SET_CHILD_SUBREAPER): a device's keeper whose vmdevd died
comes back here and is found. SIGINT, SIGTERM and SIGHUP end the program by way of its `with` blocks.
"""
import contextlib
import ctypes
import os
import signal
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def parents_of_all():
    """{parent: its children} of every process."""
    parents = {}
    for name in os.listdir('/proc'):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f'/proc/{name}/stat') as f:
                    parents.setdefault(int(f.read().rsplit(')', 1)[1].split()[1]), []).append(int(name))
    return parents


def children_of(pid):
    """All descendants, parents first."""
    parents = parents_of_all()
    found, queue = [], [pid]
    while queue:
        below = parents.get(queue.pop(0), [])
        found += below
        queue += below
    return found


def reap():
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def kill_each(pids, number):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def is_alive(pid):
    with contextlib.suppress(OSError, IndexError):
        with open(f'/proc/{pid}/stat') as f:
            return f.read().rsplit(')', 1)[1].split()[0] not in 'ZX'
    return False


def end_all(patience=20.0):
    """Ends whatever is still below this process: asks its children, which clean up after themselves, then kills."""
    end = time.monotonic() + patience
    asked = set()
    while time.monotonic() < end:
        reap()
        left = [pid for pid in parents_of_all().get(os.getpid(), []) if is_alive(pid)]
        if not left:
            break
        kill_each(set(left) - asked, signal.SIGTERM)
        asked |= set(left)
        time.sleep(0.02)
    while left := [pid for pid in children_of(os.getpid()) if is_alive(pid)]:
        kill_each(left, signal.SIGKILL)
        reap()
        time.sleep(0.02)
    reap()


def leave(number, _frame):
    # One signal is enough; the way out is not to be interrupted half-way.
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, signal.SIG_IGN)
    sys.exit(128 + number)


@contextlib.contextmanager
def household():
    """Everything started inside is gone outside, however the inside ends."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for s in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(s, leave)
    try:
        yield
    finally:
        end_all()
