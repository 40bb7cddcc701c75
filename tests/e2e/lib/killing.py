"""
Killing a device's worker under load, and holding what the guest and the disk say afterwards against it.
"""
import contextlib
import json
import os
import signal
import subprocess
import time

from .guest import GuestError
from .service import ServiceError

RECOVERY_TIMEOUT = 20


def percentile(values, percent):
    """By the nearest-rank method; None of nothing."""
    ordered = sorted(values)
    if not ordered:
        return None
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def recovery_summary(values, keys=('p50', 'p99', 'max')):
    of = {'p50': 50, 'p99': 99, 'max': 100}
    return {k: None if not values else round(percentile(values, of[k]), 3) for k in keys}


def blk_document(vm, image, *, queues=2, cache='none', **more):
    """
    A VM with one disk. The restart limit is for devices that fail by themselves; here somebody kills
    them, far more often than a device ever crashes.
    """
    return {'vm': vm, 'devices': {'root': {
        'type': 'blk', 'path': image, 'queues': queues, 'cache': cache, 'serial': vm,
        'restart': {'limit': 100000, 'interval': '1s', 'backoff': '0'}, **more}}}


def fs_document(vm, directory, *, queues=2, cache='auto', **more):
    """A VM with one shared directory."""
    return {'vm': vm, 'devices': {'root': {
        'type': 'fs', 'path': directory, 'tag': 'vmdev', 'queues': queues, 'cache': cache,
        'restart': {'limit': 100000, 'interval': '1s', 'backoff': '0'}, **more}}}


def net_document(vm, tap, *, queues=2, mtu=1500, mac='52:54:00:76:6d:01', **more):
    """A VM with one network card on a tap in the bridge br0."""
    return {'vm': vm, 'devices': {'root': {
        'type': 'net', 'tap': {'name': tap, 'bridge': 'br0'}, 'queues': queues, 'mac': mac, 'mtu': mtu,
        'restart': {'limit': 100000, 'interval': '1s', 'backoff': '0'}, **more}}}


def make_image(path, size):
    with open(path, 'wb') as f:
        f.truncate(size)


class Killer:
    """Kills one device's worker, again and again, and times each recovery."""

    def __init__(self, service, watch, name, rng):
        self.service, self.watch, self.name, self.rng = service, watch, name, rng
        self.pids, self.recoveries, self.moments_ns = [], [], []
        self.device = service.wait_state(name, ('connected',))

    def pause(self, guest, longest):
        """A random moment: some kills follow at once, some in full flow, some after a while."""
        span = self.rng.choice((0.001, longest / 4, longest / 4, longest))
        end = time.monotonic() + self.rng.random() * span
        while True:
            left = end - time.monotonic()
            if not guest.poll(max(0.0, min(left, 0.05))):
                raise GuestError('the guest ended while its device was being killed')
            if guest.exit_status is not None:
                raise GuestError('the load ended by itself: ' + '; '.join(guest.wrongs()[:3]))
            if left <= 0:
                return

    def kill(self):
        """Returns the recovery time in ms."""
        self.watch.drain()
        pid = self.device['pid']
        self.moments_ns.append(time.monotonic_ns())
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            raise ServiceError(f'worker {pid} of {self.name} was gone before it was killed\n'
                               + self.service.log_tail()) from None
        event = self.watch.wait('recovered', RECOVERY_TIMEOUT)
        self.device = self.next_device(pid)
        self.pids.append(pid)
        self.recoveries.append(event_recovery_ms(event))
        return self.recoveries[-1]

    def next_device(self, old_pid):
        end = time.monotonic() + RECOVERY_TIMEOUT
        while True:
            device = self.service.wait_state(self.name, ('connected',), RECOVERY_TIMEOUT)
            if device['pid'] and device['pid'] != old_pid:
                return device
            if time.monotonic() > end:
                raise ServiceError(f'{self.name} has no new worker')
            time.sleep(0.002)


def event_recovery_ms(event):
    """The service's own figure: from noticing the death to the rings' resumption."""
    for where in (event, event.get('details') or {}):
        if 'recovery_ms' in where:
            return float(where['recovery_ms'])
    raise ServiceError(f'a recovered event without recovery_ms: {event}')


def examine(load, image, seed):
    """What the image holds after everyone has gone, by the blocks' own word; of a directory, what is in it."""
    words = [f'--examine-tree={image}'] if os.path.isdir(image) else [f'--examine={image}', f'--seed={seed}']
    done = subprocess.run([load, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    with contextlib.suppress(ValueError):
        return json.loads(done.stdout)
    raise ServiceError(f'{image} cannot be examined')


def judge(result, image, connections, deaths, kills):
    """Everything that is wrong, in words; nothing when nothing was lost."""
    wrong = []

    def check(good, text):
        if not good:
            wrong.append(text)

    check(result['errors'] == 0, f'{result["errors"]} I/O errors')
    check(result['mismatches'] == 0, f'{result["mismatches"]} things were not as they must be')
    check(result['lost_flushed'] == 0, f'{result["lost_flushed"]} of those had been flushed')
    check(not result['stalled'], 'I/O hung')
    check(result['ios'] > 0, 'no I/O was done')
    check(connections == 1, f'{connections} vhost-user connections, not one')
    check(sum(deaths.values()) == kills, f'{kills} kills, but the worker died otherwise too: '
          + ', '.join(f'{n} times {how}' for how, n in deaths.items()))
    if image is not None:
        check(image['bad'] == 0, f'{image["bad"]} damaged blocks in the image')
        check(image['digest'] == result['digest'], 'the host does not see what the guest last saw')
    return wrong
