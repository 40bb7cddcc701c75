"""
The vsock device against vhost-device-vsock: rows, set-up and figures. See tests/bench/run.

"peer" has its default buffer (64 KiB a connection), "peer-best" the best of several sizes, tried before each row. Both
back-ends are started by hand. With vmdev-vsock so started a host program's connection is accepted by the worker itself, as
in a supervised device; a guest's is made by the helper process, in vmdevd's place, and its CPU is counted.
"""
import contextlib
import os
import shutil
import statistics
import tempfile
import time

import fs

ROWS = ('connect-host', 'connect-guest', 'connect-host-8', 'connect-guest-8', 'stream-out-64k', 'stream-in-4k', 'round-trip-1')
BUFFERS = (128 << 10, 256 << 10, 1 << 20, 4 << 20)
STREAMS = ('stream-out-64k', 'stream-in-4k')
ENGINES = ('vmdev', 'peer', 'peer-best', 'limit')


def naming(path):
    """The back-end's processes: the helper of one by hand is nobody's child."""
    for pid in filter(str.isdigit, os.listdir('/proc')):
        with contextlib.suppress(OSError), open(f'/proc/{pid}/cmdline', 'rb') as f:
            if path.encode() in f.read():
                yield int(pid)


class Bench:
    def __init__(self, options, peer, last_object, progress):
        self.options, self.peer, self.last_object, self.progress = options, peer, last_object, progress

    def argv(self, engine, buffer):
        if engine == 'vmdev':
            return [self.options.vmdev, '--name=bench/vsock', '--guest-cid=42', f'--socket-path={self.top}/socket',
                    f'--uds-path={self.top}/uds']
        vm = f'guest-cid=42,socket={self.top}/socket,uds-path={self.top}/uds'
        return [self.peer, '--vm', vm + (f',tx-buffer-size={buffer}' if buffer else '')]

    def once(self, row, engine, buffer, seconds):
        for name in os.listdir(self.top):
            os.unlink(f'{self.top}/{name}')
        how = [self.options.bench, f'--row={row}', f'--uds={self.top}/uds', f'--seconds={seconds}']
        if engine == 'limit':
            return self.last_object([*how, '--bare'])
        with fs.back_end(self.argv(engine, buffer), f'{self.top}/socket') as pid:
            end = time.monotonic() + 10
            while not os.path.exists(f'{self.top}/socket') and time.monotonic() < end:
                time.sleep(0.01)
            time.sleep(0.05)  # for the worker to have been made
            pids = {pid, *naming(f'{self.top}/socket')}
            return self.last_object([*how, f'--socket={self.top}/socket', *(f'--pid={p}' for p in pids)])

    def best_buffer(self, row):
        self.progress(f'{row}: buffer of the peer')
        rates = {n: self.once(row, 'peer', n, self.options.seconds)['per_second'] for n in BUFFERS}
        return max(rates, key=rates.get)

    def row(self, row):
        buffers = dict.fromkeys(ENGINES) | {'peer-best': self.best_buffer(row)}
        runs = {engine: [] for engine in ENGINES}
        for n in range(self.options.rounds):
            for engine in ENGINES:
                self.progress(f'{row}, round {n + 1} of {self.options.rounds}: {engine}')
                runs[engine].append(self.once(row, engine, buffers[engine], self.options.seconds))
        return figures(row, runs, buffers['peer-best'])

    def run(self, rows):
        self.top = tempfile.mkdtemp(prefix='vmdev-bench-vsock-')
        try:
            return [self.row(row) for row in rows]
        finally:
            shutil.rmtree(self.top)


def figures(row, runs, buffer):
    unit = 1024 if row in STREAMS else 1  # frontend-bench-vsock counts KiB
    rate = {e: statistics.median(r['per_second'] for r in got) / unit for e, got in runs.items()}
    cpu = {e: statistics.median(r['cpu_us'] for r in got) * unit for e, got in runs.items()}
    latency = {}
    if row == 'round-trip-1':
        latency = {f'{p}_us': {e: statistics.median(r['latency_us'][p] for r in got) for e, got in runs.items()}
                   for p in ('p50', 'p99')}
    return {'row': row, 'unit': 'MiB' if row in STREAMS else 'round trip' if latency else 'connection',
            'vmdev': round(rate['vmdev']), 'peer': round(rate['peer']), 'peer_best': round(rate['peer-best']),
            'limit': round(rate['limit']),
            'ratio': round(rate['vmdev'] / rate['peer'], 3), 'cpu_ratio': round(cpu['vmdev'] / cpu['peer'], 3),
            'ratio_best': round(rate['vmdev'] / rate['peer-best'], 3),
            'cpu_ratio_best': round(cpu['vmdev'] / cpu['peer-best'], 3),
            'limit_ratio': round(rate['vmdev'] / rate['limit'], 3),
            'cpu_us': {e: round(cpu[e], 2) for e in ENGINES[:3]}, 'peer_best_buffer': buffer} | latency


def show(rows, peer_name):
    print(f'{"":16}{"units of work per second":^40}{"/peer":>7}{"/best":>7}{"/limit":>8}   {"CPU per unit, us":^27}{"/peer":>7}{"/best":>7}')
    print(f'{"":16}{"vmdev":>10}{"peer":>10}{"best":>10}{"limit":>10}{"":22}   {"vmdev":>9}{"peer":>9}{"best":>9}')
    for r in rows:
        c = r['cpu_us']
        print(f'{r["row"]:16}{r["vmdev"]:>10,}{r["peer"]:>10,}{r["peer_best"]:>10,}{r["limit"]:>10,}{r["ratio"]:>7.2f}'
              f'{r["ratio_best"]:>7.2f}{r["limit_ratio"]:>8.2f}   {c["vmdev"]:>9.1f}{c["peer"]:>9.1f}{c["peer-best"]:>9.1f}'
              f'{r["cpu_ratio"]:>7.2f}{r["cpu_ratio_best"]:>7.2f}')
    for r in rows:
        for p in ('p50_us', 'p99_us'):
            if p in r:
                print(f'{r["row"]}, {p[:3]} in us: ' + ', '.join(f'{e} {r[p][e]:.1f}' for e in ENGINES))
    print(f'peer: {peer_name}; best: the same with its best tx-buffer-size of {", ".join(str(n >> 10) for n in BUFFERS)} KiB; '
          'limit: a Unix socket between two threads; streams are in MiB')
