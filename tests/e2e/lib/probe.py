"""
How a device's death is felt by others on the network: net-probe (tests/e2e/probe.c) asks the guest's kernel each millisecond, and
what a moment costs is the longest time without an answer around it. Moments at which nobody was killed say what guest and
machine cost by themselves.
"""
import bisect
import json
import subprocess
import tempfile

MIB = 1 << 20
SPAN_NS = 10_000_000  # behind a moment: what begins later has another cause


class ProbeError(Exception):
    """The probe, or iperf3, did not run to its end."""


class Probe:
    def __init__(self, program, address):
        self.process = subprocess.Popen([program, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.came, self.n_sent, self.n_lost = [], 0, 0

    def finish(self):
        said, _ = self.process.communicate()
        if self.process.returncode != 0:
            raise ProbeError(f'net-probe: exit status {self.process.returncode}')
        rows = [tuple(map(int, line.split())) for line in said.splitlines()]
        self.came = sorted(came for _, came in rows if came)
        self.n_sent, self.n_lost = len(rows), len(rows) - len(self.came)

    def stall_ms(self, moment_ns):
        """The longest time without an answer of which some is in the span behind the moment."""
        first = max(0, bisect.bisect_left(self.came, moment_ns) - 1)
        end = bisect.bisect_left(self.came, moment_ns + SPAN_NS) + 1
        near = self.came[first:end]
        return max((b - a for a, b in zip(near, near[1:])), default=0) / 1e6

    def close(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class IperfServer:
    """iperf3 -s for one client, which goes on until it is interrupted."""

    def __init__(self):
        self.log = tempfile.TemporaryFile('w+', prefix='vmdev-iperf-')
        self.process = subprocess.Popen(['iperf3', '-s', '-1', '-J'], stdin=subprocess.DEVNULL,
                                        stdout=self.log, stderr=subprocess.STDOUT)

    def finish(self):
        """MiB that have come and gone, when the client has ended."""
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            raise ProbeError('iperf3: its client has not come to an end') from None
        self.log.seek(0)
        intervals = json.load(self.log)['intervals']
        return {f'{way}_mib': round(sum(i[key]['bytes'] for i in intervals) / MIB, 1)
                for way, key in (('received', 'sum'), ('sent', 'sum_bidir_reverse'))}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.log.close()
