"""
A network of the test's own: the process, and all that it starts, is in a network namespace that nobody else sees. What is
in there, interfaces and addresses, ends with it.
"""
import contextlib
import ctypes
import json
import os
import subprocess

CLONE_NEWNET = 0x40000000


class NetworkError(Exception):
    """The network of the test cannot be made; the text says why."""


def enter():
    """Leaves the host's network for good."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) < 0:
        raise NetworkError(f'no network namespace: {os.strerror(ctypes.get_errno())}')
    ip('link set lo up')


def ip(words):
    done = subprocess.run(['ip', *words.split()], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise NetworkError(f'ip {words}: {done.stdout.strip()}')
    return done.stdout


def bridge(name, address, mtu=1500):
    ip(f'link add {name} type bridge')
    ip(f'link set {name} up mtu {mtu}')
    ip(f'addr add {address} dev {name}')


def longest_of(lines):
    """What guest-frames says among others' lines: {received, sent}, the length of the longest frame each way."""
    found = [line for line in lines if line.startswith('@frames ')]
    if not found:
        raise NetworkError(f'no frames were watched: {"; ".join(lines[-3:])}')
    return json.loads(found[-1].partition(' ')[2])


@contextlib.contextmanager
def watched(frames, interface):
    """Watches an interface of the test's as long as the block lasts; the longest frames, filled in at its end."""
    longest = {}
    with subprocess.Popen([frames, interface, 'cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as child:
        yield longest
        said, _ = child.communicate()  # ends cat, and with it the watching
    longest.update(longest_of(said.splitlines()))


@contextlib.contextmanager
def server(*argv):
    """A server in the test's network, as long as the block lasts."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
