"""
The file system device against virtiofsd: rows, set-up and figures. See tests/bench/run.

virtiofsd runs with its fastest thread setting of those tried (a short run of each first, row by row), without its own sandbox
and filter, as vmdev-fs does here when it is started by hand. Its inodes are file handles ("peer", its default) and,
as a second peer, descriptors ("peer-fd", --inode-file-handles=never).
"""
import contextlib
import os
import shutil
import signal
import statistics
import subprocess
import tempfile

MIB = 1 << 20
DATA_LEN = 256 * MIB
N_FILES = 4096
N_ENTRIES = 10000
THREADS = (0, 1, 2, 4)

# "awake": a driver that never sleeps.
ROWS = ('lookup-getattr', 'lookup-getattr-awake', 'create-unlink', 'read-4k-random', 'read-4k-random-awake',
        'read-1m-sequential', 'write-1m-sequential', 'readdirplus-10000')


def make_directory(where):
    top = tempfile.mkdtemp(prefix='vmdev-bench-fs-', dir=where)
    for name in ('lookup', 'create', 'list'):
        os.mkdir(f'{top}/{name}')
    for i in range(N_FILES):
        open(f'{top}/lookup/f{i:05}', 'w').close()
    for i in range(N_ENTRIES):
        open(f'{top}/list/entry-{i:05}', 'w').close()
    with open(f'{top}/data', 'wb') as f:
        for _ in range(DATA_LEN // MIB):
            f.write(os.urandom(MIB))
        f.flush()
        os.fsync(f.fileno())
    return top


def warm(directory):
    with open(f'{directory}/data', 'rb') as f:
        while f.read(4 * MIB):
            pass


@contextlib.contextmanager
def back_end(argv, socket):
    """A process that serves the socket; a fresh one for each run, so that each starts with nothing known."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(socket)
    with tempfile.TemporaryFile() as log:
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            yield p.pid
        finally:
            p.send_signal(signal.SIGTERM)
            try:
                p.wait(10)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()


def virtiofsd(program, socket, directory, threads, handles):
    return [program, f'--socket-path={socket}', f'--shared-dir={directory}', '--sandbox=none', '--seccomp=none',
            '--cache=auto', '--log-level=error', f'--thread-pool-size={threads}', f'--inode-file-handles={handles}']


def vmdev(program, socket, directory):
    return [program, '--name=bench/fs', f'--socket-path={socket}', f'--shared-dir={directory}', '--tag=bench',
            '--cache=auto']


class Bench:
    def __init__(self, options, peer, last_object, progress):
        self.options, self.peer, self.last_object, self.progress = options, peer, last_object, progress

    def once(self, row, engine, threads, seconds):
        warm(self.directory)
        name = row.removesuffix('-awake')
        how = [self.options.bench, f'--row={name}', f'--dir={self.directory}', f'--depth={self.options.depth}',
               f'--seconds={seconds}', *(['--awake'] if name != row else [])]
        socket = f'{self.directory}/socket'
        if engine == 'limit':
            return self.last_object([*how, '--bare'])
        if engine == 'vmdev':
            argv = vmdev(self.options.vmdev, socket, self.directory)
        else:
            argv = virtiofsd(self.peer, socket, self.directory, threads, 'prefer' if engine == 'peer' else 'never')
        with back_end(argv, socket) as pid:
            return self.last_object([*how, f'--socket={socket}', f'--pid={pid}'])

    def fastest_threads(self, row, engine):
        rates = {n: self.once(row, engine, n, self.options.seconds / 3)['per_second'] for n in THREADS}
        return max(rates, key=rates.get)

    def row(self, row):
        engines = ('vmdev', 'peer', 'peer-fd', 'limit')
        threads = {'vmdev': None, 'limit': None}
        for engine in engines[1:3]:
            self.progress(f'{row}: threads of {engine}')
            threads[engine] = self.fastest_threads(row, engine)
        runs = {engine: [] for engine in engines}
        for n in range(self.options.rounds):
            for engine in engines:
                self.progress(f'{row}, round {n + 1} of {self.options.rounds}: {engine}')
                runs[engine].append(self.once(row, engine, threads[engine], self.options.seconds))
        return figures(row, runs, threads)

    def run(self, rows):
        self.directory = make_directory(self.options.dir)
        try:
            return [self.row(row) for row in rows]
        finally:
            shutil.rmtree(self.directory)


def figures(row, runs, threads):
    rate = {e: statistics.median(r['per_second'] for r in got) for e, got in runs.items()}
    cpu = {e: statistics.median(r['cpu_us'] for r in got) for e, got in runs.items()}
    return {'row': row, 'vmdev': round(rate['vmdev']), 'peer': round(rate['peer']),
            'peer_fd': round(rate['peer-fd']), 'limit': round(rate['limit']),
            'ratio': round(rate['vmdev'] / rate['peer'], 3),
            'cpu_ratio': round(cpu['vmdev'] / cpu['peer'], 3),
            'ratio_fd': round(rate['vmdev'] / rate['peer-fd'], 3),
            'cpu_ratio_fd': round(cpu['vmdev'] / cpu['peer-fd'], 3),
            'limit_ratio': round(rate['vmdev'] / rate['limit'], 3),
            'cpu_us': {e: round(c, 3) for e, c in cpu.items()},
            'peer_threads': threads['peer'], 'peer_fd_threads': threads['peer-fd'],
            'p50_us': {e: statistics.median(r['latency_us']['p50'] for r in got) for e, got in runs.items()},
            'p99_us': {e: statistics.median(r['latency_us']['p99'] for r in got) for e, got in runs.items()}}


def show(rows, peer_name):
    print(f'{"":22}{"units of work per second":^42}{"":14}{"CPU per unit, us":^30}')
    print(f'{"":22}{"vmdev":>10}{"peer":>10}{"peer-fd":>10}{"limit":>10}{"ratio":>7}{"-fd":>7}'
          f'{"vmdev":>10}{"peer":>9}{"peer-fd":>9}{"ratio":>7}{"-fd":>7}')
    for r in rows:
        print(f'{r["row"]:22}{r["vmdev"]:>10,}{r["peer"]:>10,}{r["peer_fd"]:>10,}{r["limit"]:>10,}{r["ratio"]:>7.2f}'
              f'{r["ratio_fd"]:>7.2f}{r["cpu_us"]["vmdev"]:>10.2f}{r["cpu_us"]["peer"]:>9.2f}'
              f'{r["cpu_us"]["peer-fd"]:>9.2f}{r["cpu_ratio"]:>7.2f}{r["cpu_ratio_fd"]:>7.2f}')
    print(f'peer: {peer_name}; peer-fd: the same with --inode-file-handles=never; limit: the same system calls, '
          'without any back-end, from one thread')
