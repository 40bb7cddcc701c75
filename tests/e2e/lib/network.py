"""
A network of the test's own: the process, and all that it starts, is in a network namespace that nobody else sees. What is
in there, interfaces and addresses, ends with it.
"""
import contextlib
import ctypes
import json
import os
import socket
import stat
import subprocess
import tempfile

CLONE_NEWNET = 0x40000000
# As udhcpc wants it: what the lease says becomes the interface's. One line, as a command of the guest's is.
LEASE = r'''printf '#!/bin/sh\n[ "$1" = bound ] || exit 0\nip addr add $ip/$mask dev $interface\n''' \
        r'''ip route add default via $router\nip link set $interface mtu ${mtu:-1500}\n' >/tmp/lease; ''' \
        'chmod +x /tmp/lease'


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
def macvtap(name, parent, mac):
    """
    A macvtap on an interface, with its character device, for which nobody cares in a network namespace: sysfs, as it is seen from
    there, knows its number.
    """
    ip(f'link add link {parent} name {name} address {mac} type macvtap mode bridge')
    ip(f'link set {name} up')
    index = socket.if_nametoindex(name)
    done = subprocess.run(['unshare', '-m', 'sh', '-c', f'mount -t sysfs s /sys && cat /sys/class/net/{name}/macvtap/tap{index}/dev'],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    path, made = f'/dev/tap{index}', False
    if done.returncode != 0:
        raise NetworkError(f'macvtap {name}: {done.stdout.strip()}')
    if not os.path.exists(path):
        major, _, minor = done.stdout.strip().partition(':')
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(int(major), int(minor)))
        made = True
    try:
        yield
    finally:
        if made:
            os.unlink(path)


@contextlib.contextmanager
def dhcp_server(interface, first, last, router):
    """busybox's, in the foreground."""
    with tempfile.TemporaryDirectory(prefix='vmdev-dhcp-') as d:
        with open(f'{d}/conf', 'w') as f:
            f.write(f'interface {interface}\nstart {first}\nend {last}\noption subnet 255.255.255.0\noption router {router}\n'
                    f'lease_file {d}/leases\npidfile {d}/pid\n')
        open(f'{d}/leases', 'w').close()
        with server('busybox', 'udhcpd', '-f', f'{d}/conf'):
            yield


@contextlib.contextmanager
def server(*argv):
    """A server in the test's network, as long as the block lasts."""
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield child
    finally:
        child.kill()
        child.wait()
