"""
Test guests: a kernel, an initrd, a disk served over vhost-user, and a console to talk over.

A guest says one thing a line: "@load {...}" as it goes, "@wrong ..." about each thing that went wrong, "@done
{...}" with its result, "@exit N" last (guest/init, guest/report.h). Whatever else comes out of the console
is kept for a person to read when something failed.
"""
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time

from . import initrd, kit, network

MIB = 1 << 20
UML_TYPES = {'net': 1, 'blk': 2, 'vsock': 19, 'fs': 26}  # VIRTIO 1.3 §5
QEMU_DEVICES = {'blk': ['-device', 'vhost-user-blk-pci,chardev=c0,num-queues={queues}'],
                'fs': ['-device', 'vhost-user-fs-pci,chardev=c0,tag=vmdev,num-request-queues={queues}'],
                'vsock': ['-device', 'vhost-user-vsock-pci,chardev=c0'],
                # Without interrupt vectors: vhost-user-net under TCG ends in an assertion of QEMU 7.2 else.
                'net': ['-netdev', 'vhost-user,id=n0,chardev=c0,queues={queues}', '-device',
                        'virtio-net-pci,netdev=n0,romfile=,vectors=0,mq={mq},mac={mac}{more}']}


class GuestError(Exception):
    """The guest did not do what it was started for."""


def memory_dir(default):
    """Where User Mode Linux keeps the guest's memory (in a file without a name)."""
    return '/dev/shm' if os.access('/dev/shm', os.W_OK) else default


class Guest:
    """One running guest. vmm: uml or qemu; socket: of the vhost-user back-end of this device type."""

    def __init__(self, vmm, socket, load, words, memory=256 * MIB, queues=2, device='blk', mac='52:54:00:76:6d:01', more=''):
        self.vmm, self.words, self.memory, self.queues = vmm, words, memory, queues
        self.device, self.mac, self.more = device, mac, more
        self.socket = socket
        self.kit = kit.kernel(vmm)
        self.load = load
        self.dir = self.initrd = self.process = None
        self.lines, self.text = [], b''
        self.progress, self.result, self.exit_status = {}, None, None

    def argv(self):
        guest = 'guest=' + ','.join(self.words)
        if self.vmm == 'uml':
            return [self.kit['kernel'], f'mem={self.memory // MIB}M', f'initrd={self.initrd}', 'con=null',
                    'con0=fd:0,fd:1', 'root=/dev/ram0', 'rdinit=/init', 'panic=-1', 'quiet',
                    'umid=guest', f'uml_dir={self.dir}', f'virtio_uml.device={self.socket}:{UML_TYPES[self.device]}', guest]
        return ['qemu-system-x86_64', '-machine', 'q35,accel=tcg', '-cpu', 'max', '-smp', '2',
                '-m', f'{self.memory // MIB}M', '-object',
                f'memory-backend-memfd,id=mem,size={self.memory // MIB}M,share=on',
                '-machine', 'memory-backend=mem', '-nodefaults', '-display', 'none', '-no-reboot',
                '-kernel', self.kit['kernel'], '-initrd', self.initrd, '-serial', 'stdio', '-append',
                f'console=ttyS0 quiet panic=-1 tsc=reliable no_timer_check {guest}',
                '-chardev', f'socket,id=c0,path={self.socket}',
                *(word.format(queues=self.queues, mq='on' if self.queues > 1 else 'off', mac=self.mac,
                              more=self.more) for word in QEMU_DEVICES[self.device])]

    def start(self):
        self.dir = tempfile.mkdtemp(prefix='vmdev-guest-')
        self.initrd = f'{self.dir}/initrd'
        initrd.build(self.initrd, self.vmm, self.kit['modules'], self.load, self.device)
        self.process = subprocess.Popen(self.argv(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, cwd=self.dir, start_new_session=True,
                                        env={**os.environ, 'TMPDIR': memory_dir(self.dir)})
        os.set_blocking(self.process.stdout.fileno(), False)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        if self.dir:
            shutil.rmtree(self.dir, ignore_errors=True)
            self.dir = None

    def kill(self):
        """Ends the guest and whatever it started: they share a session that is this guest's own."""
        if self.process:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def take_line(self, line):
        self.lines.append(line)
        word, _, rest = line.partition(' ')
        try:
            if word == '@load':
                self.progress = json.loads(rest)
            elif word == '@done':
                self.result = json.loads(rest)
            elif word == '@exit':
                self.exit_status = int(rest)
        except ValueError:
            raise GuestError(f'the guest garbled a line: {line}') from None

    def poll(self, timeout):
        """Reads the console for so long; False when the guest has ended."""
        ready, _, _ = select.select([self.process.stdout], [], [], max(timeout, 0))
        if not ready:
            return True
        data = self.process.stdout.read()
        if not data:
            return False if data == b'' else True
        *lines, self.text = (self.text + data).split(b'\n')
        for line in lines:
            self.take_line(line.decode(errors='replace').strip('\r'))
        return True

    def wait(self, until, timeout, what):
        end = time.monotonic() + timeout
        while not until():
            if not self.poll(min(0.2, end - time.monotonic())):
                if until():
                    return
                raise GuestError(f'the guest ended before {what}')
            if time.monotonic() >= end:
                raise GuestError(f'{timeout:.0f} s and no sign of {what}')

    def wait_load(self, timeout=90):
        """Until the load has completed its first requests."""
        self.wait(lambda: self.progress.get('ios', 0) > 0 or self.exit_status is not None, timeout,
                  'the load')
        if self.exit_status is not None:
            raise GuestError('the load ended at once: ' + ('; '.join(self.wrongs()) or self.tail(1)[0]))

    def say(self, text):
        self.process.stdin.write(text.encode() + b'\n')
        self.process.stdin.flush()

    def run(self, command, timeout=60):
        """A command of a guest that has been started to obey ("obey"): (exit status, its lines)."""
        before = len(self.lines)
        self.say(command)
        self.wait(lambda: any(line.startswith('@status ') for line in self.lines[before:]), timeout, f'the end of: {command}')
        *said, status = self.lines[before:]
        return int(status.split()[1]), said

    def run_watched(self, command, timeout=60, interface='eth0'):
        """
        The same, and the longest frames that the interface has received and sent meanwhile. It joins none that it receives
        itself: what comes long has come so.
        """
        self.run(f'ethtool -K {interface} gro off')
        status, said = self.run(f'guest-frames {interface} {command}', timeout)
        return status, said, network.longest_of(said)

    def finish(self, timeout=180):
        """Tells the load to end; returns its result."""
        if self.result is None:
            self.say('stop')
        # A process with I/O that hangs for ever never exits, but has said so.
        self.wait(lambda: self.exit_status is not None or (self.result and self.result['stalled']),
                  timeout, 'the end of the load')
        if self.result is None:
            raise GuestError(f'the guest gave no result (exit status {self.exit_status})')
        return self.result

    def wait_off(self, timeout=30):
        """Until the kernel has powered off by itself."""
        end = time.monotonic() + timeout
        while self.poll(0.1):
            if time.monotonic() > end:
                raise GuestError('the guest does not power off')

    def wrongs(self):
        return [line[len('@wrong '):] for line in self.lines if line.startswith('@wrong ')]

    def tail(self, n=15):
        return self.lines[-n:]
