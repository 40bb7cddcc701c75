"""
What has to be there before anything runs: Debian's packages, the build, the guest kernels.
"""
import collections
import os
import signal
import subprocess

from . import kit, service

# Package by package what it is for.
PACKAGES = {
    'gcc': 'compiler', 'libc6-dev': 'compiler', 'meson': 'build', 'ninja-build': 'build', 'pkg-config': 'build',
    'libseccomp-dev': 'daemon', 'libsystemd-dev': 'daemon', 'libjson-c-dev': 'daemon',
    'libcap-ng-dev': 'daemon', 'liburing-dev': 'devices', 'libcmocka-dev': 'unit tests',
    'linux-libc-dev': 'devices', 'musl-dev': 'devices',
    'busybox-static': 'guests', 'patchelf': 'guests', 'e2fsprogs': 'guests', 'dpkg': 'guests',
    'iproute2': 'networks of tests', 'iperf3': 'networks of tests', 'passt': 'user-mode networking', 'procps': 'tests',
    'dbus-daemon': 'the system bus of tests', 'libglib2.0-bin': 'the system bus of tests',
    'ethtool': 'networks of tests', 'binutils': 'checks', 'debian-archive-keyring': 'guests', 'ca-certificates': 'guests',
    'btrfs-progs': 'subvolumes in tests', 'qemu-system-x86': 'QEMU guests', 'qemu-system-common': 'benchmarks', 'qemu-utils': 'image locks',
}


class SetupError(Exception):
    """The machine cannot be made ready; the text says why."""


def missing_packages():
    query = subprocess.run(['dpkg-query', '-W', '-f', '${Package} ${db:Status-Status}\n', *PACKAGES],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    there = {line.split()[0] for line in query.stdout.splitlines() if line.endswith(' installed')}
    # pkgconf provides pkg-config from Debian 12 on
    return sorted(p for p in PACKAGES if p not in there and not (p == 'pkg-config' and has('pkg-config')))


def has(program):
    return any(os.access(os.path.join(d, program), os.X_OK) for d in os.environ['PATH'].split(':'))


class Runner:
    """Runs programs with their output in a log, their last line as progress."""

    def __init__(self, screen, log_path):
        self.screen, self.log_path = screen, log_path
        os.makedirs(os.path.dirname(log_path), exist_ok=True)
        open(log_path, 'w').close()

    def run(self, what, argv, **kw):
        last = collections.deque(maxlen=12)
        with open(self.log_path, 'a') as log:
            log.write(f'$ {" ".join(argv)}\n')
            child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, text=True, errors='replace', **kw)
            try:
                for line in child.stdout:
                    log.write(line)
                    last.append(line.rstrip())
                    self.screen.progress(f'{what}: {line.strip()}')
                status = child.wait()
            except BaseException:
                # Interrupted: let apt and the like put things in order.
                child.send_signal(signal.SIGINT)
                try:
                    child.wait(60)
                except subprocess.TimeoutExpired:
                    child.kill()
                raise
        if status != 0:
            raise SetupError(f'{what} failed ({self.log_path} has everything):\n'
                             + '\n'.join('    ' + line for line in last))


def install(screen, runner):
    missing = missing_packages()
    if missing:
        env = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive', 'LC_ALL': 'C.UTF-8'}
        runner.run('package lists', ['apt-get', '-q', 'update'], env=env)
        runner.run('packages', ['apt-get', '-q', '-y', 'install', '--no-install-recommends', *missing],
                   env=env)
        screen.step('packages', f'{len(missing)} installed: {", ".join(missing[:3])}'
                    + (', …' if len(missing) > 3 else ''))
    else:
        screen.step('packages', 'all there')


def build(screen, runner, where):
    if not os.path.exists(f'{where}/build.ninja'):
        runner.run('build set-up', ['meson', 'setup', where, service.TOP])
    runner.run('build', ['ninja', '-C', where])
    screen.step('build', os.path.relpath(where))


def kernels(screen, vmms):
    """Fetches the guests' kernels; returns those that can be had."""
    got = []
    for vmm in vmms:
        name = {'uml': 'User Mode Linux', 'qemu': 'QEMU\'s kernel'}[vmm]
        try:
            if not kit.is_cached(vmm):
                screen.progress(f'fetching {name} from Debian')
            k = kit.kernel(vmm)
            screen.step(name, k['package'])
            got.append(vmm)
        except (kit.KitError, OSError) as e:
            screen.note(f'{name} cannot be had: {e}')
    return got
