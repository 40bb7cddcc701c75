"""
Guest-to-guest rows of tests/bench/run net: two devices at vmdev-switch, and DPDK's testpmd with two vhost ports, driven
by the same front-end (frontend-bench-pair).
"""
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import time

RING_LEN, AREA_LEN = 1 << 20, 8192  # devices/process/contract.h
MSG_PORT, MSG_BEGIN = 128, 131
TAGGED, UNTAGGED, BOUND = 2, 4, 1
ROWS = {'pair-64': ['--len=64'], 'pair-1514': ['--len=1514'], 'pair-64k-gso': ['--len=65536'],
        'pair-64-100k': ['--len=64', '--rate=100000']}


class PairError(Exception):
    """What is missing or went wrong, in words."""


def await_path(path, process):
    end = time.monotonic() + 10
    while not os.path.exists(path):
        if process.poll() is not None or time.monotonic() > end:
            raise PairError(f'{process.args[0]} does not listen')
        time.sleep(0.01)


def children(pid):
    with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{pid}/children') as f:
        return [int(word) for word in f.read().split()]
    return []


def with_children(pids):
    return [p for pid in pids for p in [pid, *children(pid)]]


def port_message(n):
    mac = bytes([0x52, 0x54, 0, 0, 0, 1 + n])
    return struct.pack('<III', MSG_PORT, 1 + n, TAGGED | UNTAGGED | BOUND) + mac + struct.pack(
        '<HHHHHI', 0, 1, 1, 4094, 0, 1) + b'vm/net'


@contextlib.contextmanager
def vmdev(options, directory):
    """Two vmdev-net and their vmdev-switch, as vmdevd connects them, without sandboxes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started, sockets = [], []
    try:
        started.append(subprocess.Popen(
            ['/bin/sh', '-c', f'exec "$0" --arranged 3<&{theirs.fileno()}', options.switch], pass_fds=[theirs.fileno()]))
        ours.settimeout(10)
        ours.recv(64)
        for n in range(2):
            memory = os.memfd_create('port')
            os.ftruncate(memory, AREA_LEN + 2 * RING_LEN)
            fds = [memory, os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)]
            socket.send_fds(ours, [port_message(n)], fds)
            sockets.append(f'{directory}/vmdev-{n}')
            started.append(subprocess.Popen(
                [options.net, '--side=switch', f'--port={",".join(map(str, fds))}', '--queues=1', '--queue-size=1024',
                 f'--socket-path={sockets[-1]}'], pass_fds=fds, stderr=subprocess.DEVNULL))
            for fd in fds:
                os.close(fd)
        ours.send(struct.pack('<I', MSG_BEGIN))
        for path, process in zip(sockets, started[1:]):
            await_path(path, process)
        time.sleep(0.2)
        yield sockets, with_children([p.pid for p in started])
    finally:
        for process in started:
            process.send_signal(signal.SIGTERM)
        for process in started:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
        ours.close()
        theirs.close()


@contextlib.contextmanager
def testpmd(_options, directory):
    """One core that forwards, another (idle) for the command line: as DPDK wants it."""
    program = shutil.which('dpdk-testpmd')
    if not program:
        raise PairError('no dpdk-testpmd: apt-get install dpdk')
    sockets = [f'{directory}/testpmd-{n}' for n in range(2)]
    process = subprocess.Popen(
        [program, '-l', '0,1', '--no-huge', '-m', '512', '--no-pci', '--in-memory', '--file-prefix=vmdev-bench',
         f'--vdev=net_vhost0,iface={sockets[0]},queues=1', f'--vdev=net_vhost1,iface={sockets[1]},queues=1', '--',
         '--forward-mode=io', '--auto-start', '--total-num-mbufs=16384', '--stats-period=1000'],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for path in sockets:
            await_path(path, process)
        time.sleep(1)
        yield sockets, [process.pid]
    finally:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        process.kill()
        process.wait()


def version():
    program = shutil.which('dpdk-testpmd')
    said = subprocess.run([program, '--version'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout if program else ''
    found = re.search(r'\d+\.\d+\.\d+', said)
    return f'dpdk-testpmd {found.group() if found else ""}'.strip()


def idle_us(pids):
    """CPU per second of doing nothing."""
    def now():
        return sum(sum(int(x) for x in open(f'/proc/{pid}/stat').read().rsplit(')', 1)[1].split()[11:13]) for pid in pids)
    before = now()
    time.sleep(1)
    return (now() - before) * 1e6 / os.sysconf('SC_CLK_TCK')


class Bench:
    def __init__(self, options, last_object, progress):
        self.options, self.last_object, self.progress = options, last_object, progress

    def measure(self, engine, row, directory):
        with engine(self.options, directory) as (sockets, pids):
            return self.last_object([self.options.pair, f'--from={sockets[0]}', f'--to={sockets[1]}',
                                     *(f'--pid={pid}' for pid in pids), f'--seconds={self.options.seconds}', *ROWS[row]])

    def row(self, name, directory):
        runs = {'vmdev': [], 'peer': []}
        for n in range(self.options.rounds):
            for engine, how in (('vmdev', vmdev), ('peer', testpmd)):
                self.progress(f'{name}, round {n + 1} of {self.options.rounds}: {engine}')
                runs[engine].append(self.measure(how, name, directory))
        m = {e: {k: statistics.median(r[k] for r in each) for k in ('per_second', 'cpu_us')} for e, each in runs.items()}
        return {'row': name, 'vmdev': round(m['vmdev']['per_second']), 'peer': round(m['peer']['per_second']), 'limit': None,
                'ratio': round(m['vmdev']['per_second'] / m['peer']['per_second'], 3),
                'cpu_ratio': round(m['vmdev']['cpu_us'] / m['peer']['cpu_us'], 3),
                'cpu_us': {e: round(m[e]['cpu_us'], 4) for e in m},
                'per_cpu_second': {e: round(1e6 / m[e]['cpu_us']) for e in m}}

    def idle(self, directory):
        with vmdev(self.options, directory) as (_, pids):
            return idle_us(pids)


def show(rows):
    print(f'{"":18}{"frames per second":^32}{"":3}{"CPU per frame, us":^26}{"":3}{"frames per CPU second":^32}')
    print(f'{"":18}{"vmdev":>12}{"testpmd":>12}{"/peer":>8}{"vmdev":>12}{"testpmd":>10}{"/peer":>7}{"vmdev":>14}{"testpmd":>12}{"/peer":>7}')
    for r in rows:
        c, per = r['cpu_us'], r['per_cpu_second']
        print(f'{r["row"]:18}{r["vmdev"]:>12,}{r["peer"]:>12,}{r["ratio"]:>8.2f}{c["vmdev"]:>12.3f}{c["peer"]:>10.3f}'
              f'{r["cpu_ratio"]:>7.2f}{per["vmdev"]:>14,}{per["peer"]:>12,}{per["vmdev"] / per["peer"]:>7.2f}')
