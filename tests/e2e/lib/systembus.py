"""
A system bus of the test's own, at the place where programs look for it: dbus-daemon with the rules that distributions
have, and ours. The process has a mount namespace of its own, and nobody else sees what is mounted there.
"""
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time

CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 1 << 18
SOCKET = '/run/dbus/system_bus_socket'

CONFIG = '''<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <include>%s</include>
</busconfig>
'''


def missing():
    """What is not installed, or None."""
    return next((name for name in ('dbus-daemon', 'gdbus') if not shutil.which(name)), None)


def enter():
    """From here on /run is the process's own, and empty."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) < 0 or libc.mount(b'none', b'/', None, MS_REC | MS_PRIVATE, None) < 0 or \
            libc.mount(b'none', b'/run', b'tmpfs', 0, b'mode=755') < 0:
        raise OSError(ctypes.get_errno(), 'no mount namespace')
    os.mkdir('/run/dbus')


class SystemBus:
    def __init__(self, rules):
        self.rules, self.process = rules, None

    def start(self):
        with open('/run/dbus/test.conf', 'w') as f:
            f.write(CONFIG % (SOCKET, self.rules))
        self.process = subprocess.Popen(['dbus-daemon', '--nofork', '--nopidfile', '--config-file=/run/dbus/test.conf'],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not os.path.exists(SOCKET) and time.monotonic() < end:
            time.sleep(0.01)
        os.chmod(SOCKET, 0o666)

    def stop(self):
        self.process.kill()
        self.process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(SOCKET)

    def has_name(self, name='org.vmdev'):
        done = subprocess.run(['gdbus', 'call', '--system', '-d', 'org.freedesktop.DBus', '-o', '/org/freedesktop/DBus',
                               '-m', 'org.freedesktop.DBus.NameHasOwner', name], capture_output=True, text=True)
        return 'true' in done.stdout

    def wait_for_name(self, timeout=10):
        end = time.monotonic() + timeout
        while not self.has_name() and time.monotonic() < end:
            time.sleep(0.05)
        return self.has_name()

    def listen(self, **who):
        """Collects what org.vmdev signals, as somebody; stop() returns the text."""
        return Listener(who)


class Listener:
    def __init__(self, who):
        self.process = subprocess.Popen(['gdbus', 'monitor', '--system', '-d', 'org.vmdev'], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **who)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.communicate()[0]
