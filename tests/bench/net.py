"""
The network device against a bare tap and DPDK's testpmd: rows, set-up and figures. See tests/bench/run.

All engines of a row are there from its beginning to its end, each with its front-end (frontend-bench-net) that knows nothing of
the others, and take turns in short slices: a machine's speed changes within seconds. Who polls is halted meanwhile.
Everything is in a network namespace of its own.
"""
import contextlib
import ctypes
import glob
import json
import os
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time

RING_LEN, AREA_LEN = 1 << 20, 8192  # devices/process/contract.h
MSG_PORT, MSG_BEGIN = 128, 131
TAGGED, UNTAGGED, BOUND = 2, 4, 1
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000

# What is measured, and against whom. testpmd's tap has no offloads, so no frames of 64 KiB (45 segments, as Linux sends them).
# "pair-64-100k": 100,000 frames a second and no more, for what being woken costs.
ROWS = {
    'tx-64': ('tx', ['--len=64'], ('vmdev', 'peer', 'limit')),
    'tx-1514': ('tx', ['--len=1514'], ('vmdev', 'peer', 'limit')),
    'tx-64k-gso': ('tx', ['--len=65214'], ('vmdev', 'limit')),
    'rx-64': ('rx', ['--len=64'], ('vmdev', 'peer', 'limit')),
    'rx-1514': ('rx', ['--len=1514'], ('vmdev', 'peer', 'limit')),
    'rx-64k-gso': ('rx', ['--len=65214'], ('vmdev', 'limit')),
    'ping-64': ('ping', ['--len=64'], ('vmdev', 'peer', 'limit')),
    'pair-64': ('pair', ['--len=64'], ('vmdev', 'peer', 'limit')),
    'pair-1514': ('pair', ['--len=1514'], ('vmdev', 'peer', 'limit')),
    'pair-64k-gso': ('pair', ['--len=65214'], ('vmdev', 'peer', 'limit')),
    'pair-64-100k': ('pair', ['--len=64', '--rate=100000'], ('vmdev', 'peer')),
}


class NetError(Exception):
    """What is missing or went wrong, in words."""


def frame_len(row):
    return int(ROWS[row][1][0].removeprefix('--len='))


def enter_namespace():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) < 0 or not os.access('/dev/net/tun', os.R_OK | os.W_OK):
        raise NetError('no network namespace of its own, or no /dev/net/tun: run it as root')
    # A sysfs shows the interfaces of where it was mounted.
    subprocess.run(['mount', '--make-rprivate', '/'], check=True)
    subprocess.run(['mount', '-t', 'sysfs', 'sysfs', '/sys'], check=True)
    # Or the kernel sends frames of its own. /proc/sys is the namespace's of whoever reads it.
    with contextlib.suppress(OSError), open('/proc/sys/net/ipv6/conf/default/disable_ipv6', 'w') as f:
        f.write('1')


def await_that(what, process, there):
    end = time.monotonic() + 15
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            raise NetError(f'{what} does not come up')
        time.sleep(0.01)


def await_socket(path, process):
    await_that(process.args[0], process, lambda: os.path.exists(path))


def set_up(interface, process):
    await_that(f'interface {interface}', process, lambda: os.path.exists(f'/sys/class/net/{interface}'))
    subprocess.run(['ip', 'link', 'set', interface, 'up'], check=True)


def children(pid):
    with contextlib.suppress(OSError), open(f'/proc/{pid}/task/{pid}/children') as f:
        return [int(word) for word in f.read().split()]
    return []


def with_children(processes, keepers):
    """A keeper has its worker a moment after its socket is there."""
    for keeper in keepers:
        await_that(keeper.args[0], keeper, lambda: children(keeper.pid))
    return [p for process in processes for p in [process.pid, *children(process.pid)]]


@contextlib.contextmanager
def ending(processes):
    """Those that are in the list at the end are asked to go, then made to."""
    try:
        yield
    finally:
        for process in processes:
            process.send_signal(signal.SIGCONT)
            process.send_signal(signal.SIGTERM)
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()


def port_message(n):
    mac = bytes([0x52, 0x54, 0, 0, 0, 1 + n])
    return struct.pack('<III', MSG_PORT, 1 + n, TAGGED | UNTAGGED | BOUND) + mac + struct.pack(
        '<HHHHHI', 0, 1, 1, 4094, 0, 1) + b'vm/net'


def start(argv, **kw):
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **kw)


@contextlib.contextmanager
def vmdev_tap(options, directory):
    path, interface = f'{directory}/vmdev', 'vb0'
    started = []
    with ending(started):
        started.append(start([options.net, '--side=tap', f'--tap={interface}', '--queues=1', '--queue-size=1024',
                              f'--socket-path={path}']))
        await_socket(path, started[0])
        set_up(interface, started[0])
        yield [f'--from={path}', f'--interface={interface}'], with_children(started, started)


@contextlib.contextmanager
def vmdev_pair(options, directory):
    """Two vmdev-net and their vmdev-switch, as vmdevd connects them, without sandboxes."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    started, sockets = [], []
    with ours, theirs, ending(started):
        started.append(start(['/bin/bash', '-c', f'exec "$0" --arranged 3<&{theirs.fileno()}', options.switch],
                             pass_fds=[theirs.fileno()]))
        ours.settimeout(10)
        ours.recv(64)
        for n in range(2):
            memory = os.memfd_create('port')
            os.ftruncate(memory, AREA_LEN + 2 * RING_LEN)
            fds = [memory, os.eventfd(0, os.EFD_NONBLOCK), os.eventfd(0, os.EFD_NONBLOCK)]
            socket.send_fds(ours, [port_message(n)], fds)
            sockets.append(f'{directory}/vmdev-{n}')
            started.append(start([options.net, '--side=switch', f'--port={",".join(map(str, fds))}', '--queues=1',
                                  '--queue-size=1024', f'--socket-path={sockets[-1]}'], pass_fds=fds))
            for fd in fds:
                os.close(fd)
        ours.send(struct.pack('<I', MSG_BEGIN))
        for path, process in zip(sockets, started[1:]):
            await_socket(path, process)
        yield [f'--from={sockets[0]}', f'--to={sockets[1]}'], with_children(started, started[1:])


def drivers_of(program):
    """Unpacked, it does not find its drivers by itself."""
    root = f'{os.path.dirname(program)}/root'
    names = [p for name in ('mempool_ring', 'net_vhost', 'net_tap')
             for p in glob.glob(f'{root}/usr/lib/x86_64-linux-gnu/dpdk/pmds-*/librte_{name}.so')]
    return [word for path in names for word in ('-d', path)]


@contextlib.contextmanager
def testpmd(options, devices):
    """One core that forwards, another (idle) for the command line: as DPDK wants it."""
    started = []
    with ending(started):
        started.append(start(
            [options.testpmd, '-l', '0,1', '--no-huge', '-m', '512', '--no-pci', '--in-memory', *drivers_of(options.testpmd),
             *(f'--vdev={device}' for device in devices), '--', '--forward-mode=io', '--auto-start',
             '--total-num-mbufs=16384', '--stats-period=1000', '--disable-link-check']))
        yield started[0]


@contextlib.contextmanager
def testpmd_tap(options, directory):
    path, interface = f'{directory}/testpmd', 'vb1'
    with testpmd(options, [f'net_vhost0,iface={path},queues=1', f'net_tap0,iface={interface}']) as process:
        await_socket(path, process)
        set_up(interface, process)
        time.sleep(1)
        yield [f'--from={path}', f'--interface={interface}', '--halt'], [process.pid]


@contextlib.contextmanager
def testpmd_pair(options, directory):
    paths = [f'{directory}/testpmd-{n}' for n in range(2)]
    with testpmd(options, [f'net_vhost{n},iface={path},queues=1' for n, path in enumerate(paths)]) as process:
        for path in paths:
            await_socket(path, process)
        time.sleep(1)
        yield [f'--from={paths[0]}', f'--to={paths[1]}', '--halt'], [process.pid]


@contextlib.contextmanager
def bare_tap(_options, _directory):
    yield ['--bare', '--interface=vb2'], []


@contextlib.contextmanager
def bare_pair(_options, _directory):
    yield ['--bare'], []


TAP = {'vmdev': vmdev_tap, 'peer': testpmd_tap, 'limit': bare_tap}
PAIR = {'vmdev': vmdev_pair, 'peer': testpmd_pair, 'limit': bare_pair}


class Engine:
    """A back-end that runs, and its front-end."""

    def __init__(self, options, row, words, pids):
        kind, more, _ = ROWS[row]
        self.p = subprocess.Popen([options.bench, f'--row={kind}', *words, *(f'--pid={pid}' for pid in pids), *more],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.read('ready')

    def read(self, wanted=''):
        line = self.p.stdout.readline()
        if not line.startswith(wanted or '{'):
            raise NetError(f'{" ".join(self.p.args)} failed')
        return line

    def slice(self, seconds):
        self.p.stdin.write(f'{seconds}\n')
        self.p.stdin.flush()
        return json.loads(self.read())

    def close(self):
        self.p.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.p.wait(5)
        self.p.kill()
        self.p.wait()


def idle_us(pids):
    """CPU per second of doing nothing."""
    def now():
        total = 0
        for pid in pids:
            for task in glob.glob(f'/proc/{pid}/task/*/schedstat'):
                with open(task) as f:
                    total += int(f.read().split()[0])
        return total / 1000
    before = now()
    time.sleep(1)
    return now() - before


def leave_driver_alone(kind):
    """
    The driver looks for work all the time, on the first processor. Woken from there a back-end may be put there as well,
    if all are busy for a moment, and then the two take turns. In "ping" nobody looks for work: there it is the scheduler's affair.
    """
    every = os.sched_getaffinity(1)
    os.sched_setaffinity(0, every - {0} if kind != 'ping' and every - {0} else every)


class Bench:
    def __init__(self, options, progress):
        self.options, self.progress = options, progress

    def row(self, name):
        kind, _, engines = ROWS[name]
        leave_driver_alone(kind)
        makers = PAIR if kind == 'pair' else TAP
        runs = {engine: [] for engine in engines}
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix='vmdev-bench-'))
            there = {}
            for engine in engines:
                self.progress(f'{name}: {engine} starts')
                words, pids = stack.enter_context(makers[engine](self.options, directory))
                there[engine] = Engine(self.options, name, words, pids)
                stack.callback(there[engine].close)
                if engine == 'vmdev':
                    ours = pids
            for n in range(self.options.rounds):
                for engine in engines:
                    self.progress(f'{name}, round {n + 1} of {self.options.rounds}: {engine}')
                    runs[engine].append(there[engine].slice(self.options.seconds))
            idle = idle_us(ours)
        return figures(name, runs, idle)

    def run(self, rows):
        enter_namespace()
        return [self.row(row) for row in rows]


def ratio(m, key, engine):
    return round(m['vmdev'][key] / m[engine][key], 3) if m.get(engine, {}).get(key) else None


def share(what, runs):
    return {e: round(sum(r[what] for r in got) / max(1, sum(r['n'] + r['lost'] for r in got)), 4) for e, got in runs.items()}


def figures(name, runs, idle):
    """
    For each engine the median of all slices. `lost`: the share of frames that was sent and did not come; `late`: that came
    after some milliseconds in which none had.
    """
    m = {e: {k: statistics.median(r[k] for r in got) for k in ('per_second', 'cpu_us', 'p50_us', 'p99_us')}
         for e, got in runs.items()}
    rate = {e: round(v['per_second']) for e, v in m.items()}
    per_cpu = {e: round(1e6 / v['cpu_us']) if v['cpu_us'] else None for e, v in m.items()}
    row = {'row': name, **{e: rate.get(e) for e in ('vmdev', 'peer', 'limit')},
           'ratio': ratio(m, 'per_second', 'peer'), 'cpu_ratio': ratio(m, 'cpu_us', 'peer'),
           'limit_ratio': ratio(m, 'per_second', 'limit'), 'limit_cpu_ratio': ratio(m, 'cpu_us', 'limit'),
           'cpu_us': {e: round(v['cpu_us'], 4) for e, v in m.items()}, 'per_cpu_second': per_cpu,
           'gbit_s': {e: round(r * frame_len(name) * 8 / 1e9, 3) for e, r in rate.items()},
           'lost': share('lost', runs), 'late': share('late', runs),
           'idle_us_per_second': round(idle)}
    if ROWS[name][0] == 'ping':
        row['p50_us'] = {e: v['p50_us'] for e, v in m.items()}
        row['p99_us'] = {e: v['p99_us'] for e, v in m.items()}
    return row


def cell(value, width, form=','):
    return f'{value:>{width}{form}}' if value is not None else f'{"–":>{width}}'


def show(rows, peer_name):
    print(f'{"":14}{"frames per second":^33}{"":14}{"Gbit/s":^8}{"CPU per frame, us":^27}{"":14}{"idle":>8}')
    print(f'{"":14}{"vmdev":>11}{"peer":>11}{"limit":>11}{"/peer":>7}{"/limit":>7}{"vmdev":>8}'
          f'{"vmdev":>9}{"peer":>9}{"limit":>9}{"/peer":>7}{"/limit":>7}{"us/s":>8}')
    for r in rows:
        cpu = r['cpu_us']
        print(f'{r["row"]:14}{cell(r["vmdev"], 11)}{cell(r["peer"], 11)}{cell(r["limit"], 11)}{cell(r["ratio"], 7, ".2f")}'
              f'{cell(r["limit_ratio"], 7, ".2f")}{r["gbit_s"]["vmdev"]:>8.2f}'
              f'{cell(cpu.get("vmdev"), 9, ".3f")}{cell(cpu.get("peer"), 9, ".3f")}{cell(cpu.get("limit"), 9, ".3f")}'
              f'{cell(r["cpu_ratio"], 7, ".2f")}{cell(r["limit_cpu_ratio"], 7, ".2f")}{r["idle_us_per_second"]:>8}')
        if 'p50_us' in r:
            print(f'{"":14}round trip, us: ' + ', '.join(f'{e} {r["p50_us"][e]} (p99 {r["p99_us"][e]})' for e in r['p50_us']))
        for what in ('lost', 'late'):
            if any(r[what].values()):
                print(f'{"":14}{what}: ' + ', '.join(f'{e} {part:.2%}' for e, part in r[what].items()))
    print(f'peer: {peer_name}; limit: one process that writes to, or reads from, a tap without any device; '
          'from guest to guest three processes that copy as devices and switch do, and do nothing else')
