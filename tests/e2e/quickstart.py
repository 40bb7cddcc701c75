"""
./quickstart and ./quickstart test: see ./quickstart --help.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from lib import killing, kit, proc, setup, skips, ui  # noqa: E402
from lib.guest import MIB, Guest, GuestError  # noqa: E402
from lib.service import TOP, Service, ServiceError, need  # noqa: E402

BUILD = os.path.join(TOP, 'build')
VMM_NAMES = {'uml': 'User Mode Linux', 'qemu': 'QEMU (TCG)'}
NAME = 'demo/root'


class BootError(GuestError):
    """The guest did not get as far as using its disk."""


def parse(argv):
    own, rest = (argv[:argv.index('--')], argv[argv.index('--') + 1:]) if '--' in argv else (argv, [])
    p = argparse.ArgumentParser(prog='quickstart', add_help=False)
    p.add_argument('verb', nargs='?', choices=('test', 'setup'))
    p.add_argument('--vmm', choices=('uml', 'qemu'))
    p.add_argument('--kills', type=int, default=20)
    options = p.parse_args(own)
    if options.kills < 1:
        p.error('--kills takes a number from 1 up')
    if rest and options.verb != 'test':
        p.error('arguments after -- go to meson test')
    options.rest = rest
    return options


def check_file_system(image):
    """What e2fsck says about the image; nothing when it is clean."""
    done = subprocess.run(['e2fsck', '-fn', image], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace')
    return None if done.returncode == 0 else done.stdout.strip().splitlines()[-1]


def attack(screen, options, guest, killer, watch):
    """Kills the worker while files are written and verified; returns the guest's result."""
    for n in range(options.kills):
        killer.pause(guest, 0.5)
        ms = killer.kill()
        screen.progress(f'worker killed {n + 1} of {options.kills} times, back in {ui.milliseconds(ms)}; '
                        f'{ui.thousands(guest.progress.get("ios", 0))} file operations, '
                        f'{guest.progress.get("errors", 0)} errors')
    result = guest.finish()
    watch.drain()
    screen.step('load', f'worker killed {options.kills} times meanwhile')
    return result


def drive(screen, options, vmm, service, image):
    """Boots a guest on the device and lets it work; returns (result, recoveries, connections, deaths, wrongs)."""
    device = service.wait_state(NAME, ('ready',))
    watch = service.watch()
    load, = need(BUILD, 'tests/e2e/guest-load')
    words = ['files', f'--seed={random.randrange(1 << 30)}', '--seconds=0', '--threads=4',
             '--remount=/dev/vda']
    with Guest(vmm, device['socket'], load, words) as guest:
        try:
            start = time.monotonic()
            screen.progress(f'booting {VMM_NAMES[vmm]}')
            guest.start().wait_load()
        except GuestError as e:
            raise BootError(f'{e}; its last lines:\n' + '\n'.join(guest.tail())) from None
        screen.step('guest', f'{VMM_NAMES[vmm]} {guest.kit["version"]}, file system made, '
                             f'{time.monotonic() - start:.1f} s')
        killer = killing.Killer(service, watch, NAME, random.Random())
        result = attack(screen, options, guest, killer, watch)
        connections = service.device(NAME)['connections']
        guest.wait_off()
        wrongs = guest.wrongs()
    watch.close()
    return result, killer.recoveries, connections, watch.deaths(), wrongs


def demo(screen, options, vmm):
    start = time.monotonic()
    with Service(BUILD) as service:
        image = f'{service.dir}/disk.raw'
        killing.make_image(image, 256 * MIB)
        screen.step('vmdevd', 'started')
        service.apply(killing.blk_document('demo', image))
        screen.step('device', f'{NAME}: blk, 256 MiB, 2 queues, cache none')
        result, recoveries, connections, deaths, wrongs = drive(screen, options, vmm, service, image)
        service.stop()
        wrong = killing.judge(result, None, connections, deaths, options.kills) + wrongs
        damage = check_file_system(image)
        if damage:
            wrong.append(f'the file system is damaged: {damage}')
    got = {
        'vmm': vmm, 'devices': 1, 'ios': result['disk_requests'], 'kills': len(recoveries),
        'errors': result['errors'] + result['mismatches'] + (1 if damage else 0),
        'recovery_ms': killing.recovery_summary(recoveries, ('p50', 'max')),
        'seconds': round(time.monotonic() - start, 1),
    }
    with open(f'{BUILD}/quickstart.json', 'w') as f:
        json.dump({**got, 'connections': connections, 'slowest_io_ms': result['slowest_ms']}, f, indent=1)
        f.write('\n')
    screen.table('A disk that outlives its own process', [
        ('guest', VMM_NAMES[vmm]),
        ('device', 'blk, vhost-user'),
        ('I/Os', ui.thousands(got['ios'])),
        ('worker killed', f'{got["kills"]} times'),
        ('recovery, median', ui.milliseconds(got['recovery_ms']['p50'])),
        ('recovery, slowest', ui.milliseconds(got['recovery_ms']['max'])),
        ('slowest I/O', ui.milliseconds(result['slowest_ms'])),
        ('connections', connections),
        ('errors', got['errors']),
        ('seconds', got['seconds']),
    ], not wrong)
    for text in wrong:
        screen.note(text)
    return 1 if wrong else 0


def run_demo(screen, options, runner):
    setup.install(screen, runner)
    setup.build(screen, runner, BUILD)
    vmm = options.vmm or 'uml'
    if not setup.kernels(screen, [vmm]):
        if options.vmm:
            return 1
        screen.note('using QEMU without KVM in its place')
        vmm = 'qemu'
        if not setup.kernels(screen, [vmm]):
            return 1
    try:
        return demo(screen, options, vmm)
    except BootError as e:
        if options.vmm or vmm == 'qemu':
            raise
        screen.note(f'{VMM_NAMES[vmm]} does not come up here: {e}')
        screen.note('using QEMU without KVM in its place')
    return demo(screen, options, 'qemu') if setup.kernels(screen, ['qemu']) else 1


def count_results(path):
    """{result: how many} of meson's own record of a run."""
    counts = {}
    with open(path) as f:
        for line in f:
            result = json.loads(line)['result']
            counts[result] = counts.get(result, 0) + 1
    return counts


def show_skips(screen, left_out):
    """What this machine did not let the suite try, one line each."""
    if not left_out:
        screen.line('nothing was skipped')
        return
    screen.line(f'{len(left_out)} skipped on this machine:')
    for skip in left_out:
        screen.note(f'{skip.test}{f": {skip.claim}" if skip.claim else ", all of it"}: {skip.why}')


def run_tests(screen, options, runner):
    setup.install(screen, runner)
    setup.build(screen, runner, BUILD)
    setup.kernels(screen, ['uml', 'qemu'])
    screen.line()
    record = f'{BUILD}/meson-logs/testlog.json'
    if os.path.exists(record):
        os.unlink(record)
    child = subprocess.Popen(['meson', 'test', '-C', BUILD, '--print-errorlogs', *options.rest],
                             stdin=subprocess.DEVNULL)
    status = child.wait()
    counts = count_results(record) if os.path.exists(record) else {}
    passed = counts.get('OK', 0) + counts.get('EXPECTEDFAIL', 0)
    failed = sum(counts.values()) - passed - counts.get('SKIP', 0)
    if counts:
        show_skips(screen, skips.read(record))
    else:
        screen.note(f'meson test ran nothing (exit status {status})')
    print(f'{passed} passed, {failed} failed', flush=True)
    return 0 if status == 0 and failed == 0 and passed > 0 else 1


def run_setup(screen, options, runner):
    setup.install(screen, runner)
    setup.build(screen, runner, BUILD)
    return 0 if setup.kernels(screen, ['uml', 'qemu']) else 1


def main(argv):
    options = parse(argv)
    screen = ui.Screen()
    screen.line(screen.paint('1', 'vmdev quickstart'))
    try:
        with proc.household():
            runner = setup.Runner(screen, f'{BUILD}/quickstart.log')
            return {'test': run_tests, 'setup': run_setup, None: run_demo}[options.verb](
                screen, options, runner)
    except (setup.SetupError, GuestError, ServiceError, kit.KitError) as e:
        screen.note(str(e))
        return 1


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
