"""
vmdevd from a build directory, in a runtime directory of its own, and vmdevctl to talk to it.
"""
import collections
import contextlib
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

from . import proc

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


class ServiceError(Exception):
    """The service did not do what was asked of it."""


def default_build():
    return os.environ.get('VMDEV_BUILD') or os.path.join(TOP, 'build')


def need(build, *paths):
    """The full paths of built programs; says what is missing."""
    missing = [p for p in paths if not os.access(os.path.join(build, p), os.X_OK)]
    if missing:
        raise ServiceError(f'not built under {build}: {", ".join(missing)} (./quickstart builds it)')
    return [os.path.join(build, p) for p in paths]


class Watch:
    """The stream of `vmdevctl watch --json`: events, each with the time at which it was read."""

    def __init__(self, service):
        self.process = subprocess.Popen(service.ctl_argv('watch', '--json'), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.queue, self.events = queue.SimpleQueue(), []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        with contextlib.suppress(ValueError):
            for line in self.process.stdout:
                self.queue.put(json.loads(line))
        self.queue.put(None)

    def take(self, timeout):
        """The next event, or None when there is none in time."""
        try:
            event = self.queue.get(timeout=timeout) if timeout > 0 else self.queue.get_nowait()
        except queue.Empty:
            return None
        if event is None:
            raise ServiceError('vmdevctl watch ended')
        self.events.append(event)
        return event

    def drain(self):
        while self.take(0):
            pass

    def wait(self, what, timeout):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            event = self.take(end - time.monotonic())
            if event and event.get('event') == what:
                return event
        raise ServiceError(f'no event "{what}" within {timeout:.0f} s')

    def count(self, what):
        return sum(event.get('event') == what for event in self.events)

    def deaths(self):
        """Of the worker, {how: how many}."""
        return dict(collections.Counter(event.get('how', '?') for event in self.events
                                        if event.get('event') == 'died'))

    def close(self):
        self.process.kill()
        self.process.wait()


class Service:
    """with Service(build) as s: s.apply({...}); s.device('vm/disk')"""

    def __init__(self, build):
        self.build = build
        self.vmdevd, self.vmdevctl, _ = need(build, 'daemon/vmdevd', 'ctl/vmdevctl', 'devices/blk/vmdev-blk')
        self.dir = self.process = None
        self.vms = []
        self.inherited = () # descriptors that vmdevd is started with, besides

    def __enter__(self):
        if os.geteuid() != 0:
            raise ServiceError('vmdevd makes sandboxes: run this as root')
        self.dir = tempfile.mkdtemp(prefix='vmdev-', dir='/var/tmp') # O_DIRECT: no tmpfs
        os.chmod(self.dir, 0o755)
        for name in ('run', 'etc'):
            os.mkdir(f'{self.dir}/{name}')
        self.log_path = f'{self.dir}/log'
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def start(self):
        with open(self.log_path, 'ab') as log:
            self.process = subprocess.Popen(
                [self.vmdevd, '--runtime-dir', f'{self.dir}/run', '--config-dir', f'{self.dir}/etc',
                 '--policy-dir', f'{TOP}/policies', '--foreground'],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=self.inherited)
        end = time.monotonic() + 10
        while self.ctl('list', check=False).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > end:
                raise ServiceError('vmdevd does not answer; its last words:\n' + self.log_tail())
            time.sleep(0.05)

    def ctl_argv(self, *words):
        return [self.vmdevctl, '--address', f'unix:path={self.dir}/run/bus', *words]

    def ctl(self, *words, check=True):
        done = subprocess.run(self.ctl_argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)
        if check and done.returncode != 0:
            raise ServiceError(f'vmdevctl {" ".join(words)}: {done.stderr.strip() or done.returncode}')
        return done

    def apply(self, document):
        path = f'{self.dir}/{document["vm"]}.json'
        with open(path, 'w') as f:
            json.dump(document, f, indent=1)
        self.ctl('apply', path)
        self.vms.append(document['vm'])

    def devices(self):
        data = json.loads(self.ctl('list', '--json').stdout)
        return {d['name']: d for d in (data if isinstance(data, list) else data['devices'])}

    def device(self, name):
        return self.devices()[name]

    def wait_state(self, name, states, timeout=10):
        end = time.monotonic() + timeout
        while True:
            device = self.device(name)
            if device['state'] in states:
                return device
            if device['state'] == 'failed' or time.monotonic() > end:
                raise ServiceError(f'{name} is {device["state"]}, not {" or ".join(states)}'
                                   f' ({device.get("reason")})\n' + self.log_tail())
            time.sleep(0.002)

    def watch(self):
        return Watch(self)

    def log_tail(self, n=15):
        with contextlib.suppress(OSError):
            with open(self.log_path, errors='replace') as f:
                return ''.join(f.readlines()[-n:])
        return ''

    def stop(self):
        """Removes the devices, then ends vmdevd; kills what does not go."""
        if not self.process or self.process.poll() is not None:
            return
        with contextlib.suppress(ServiceError, OSError):
            for vm in self.vms:
                self.ctl('remove', vm)
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __exit__(self, kind, *_):
        if kind and issubclass(kind, SystemExit) and self.process:
            # Told to go: at once, whoever told us may not wait. Sandboxes end with their keepers.
            for pid in proc.children_of(self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        self.stop()
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None
