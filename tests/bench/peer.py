"""
The peers that a device is measured against: the newest that can be had.

The program of Debian sid is fetched with everything that it is linked with, libc included, and unpacked, not
installed; it is started by its own dynamic loader. Where that cannot be had, the machine's own one is used, and
the name that is printed with the figures says so.
"""
import glob
import os
import re
import shutil
import subprocess
import sys

from lib import kit

# Of each program: the packages that have it (qemu-storage-daemon has moved from one to the other), and where.
PEERS = {
    'qemu-storage-daemon': (('qemu-utils', 'qemu-system-common'), 'usr/bin/qemu-storage-daemon'),
    'virtiofsd': (('virtiofsd',), 'usr/libexec/virtiofsd'),
    'vhost-device-vsock': (('vhost-device-vsock',), 'usr/bin/vhost-device-vsock'),
    'dpdk-testpmd': (('dpdk-dev',), 'usr/bin/dpdk-testpmd'),
}
VERSION_WORDS = {'dpdk-testpmd': ['-v', '--no-huge', '--in-memory', '--no-pci', '-m', '64', '--', '--help']}
LIBRARY_DIRS = ('usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib', 'usr/lib64')


class PeerError(Exception):
    """There is no peer; the text says why."""


def version_of(program):
    # testpmd would begin to work if it were not asked for help.
    words = VERSION_WORDS.get(os.path.basename(program), ['--version'])
    done = subprocess.run([program, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    found = re.search(r'\d+(\.\d+)+', done.stdout)
    if done.returncode != 0 or not found:
        raise PeerError(f'{program} does not run: {done.stdout.strip()[:200]}')
    return found.group()


def download_closure(options, packages, where):
    """The packages and all that they depend on, as if nothing were installed."""
    archives = f'{where}/archives'
    os.makedirs(f'{archives}/partial')
    kit.run(['apt-get', *options, '-o', f'Dir::Cache::archives={archives}', '-q', '-y', '--no-install-recommends',
             '--download-only', 'install', *packages])
    return archives


def write_starter(top, name):
    """
    A program that starts the unpacked one with its own loader and libraries. Its name has to say what it is: the
    front-end knows by it which arguments it takes.
    """
    root = f'{top}/root'
    program = f'{root}/{PEERS[name][1]}'
    loader = glob.glob(f'{root}/usr/lib64/ld-linux-x86-64.so.2') + glob.glob(
        f'{root}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
    if not loader or not os.path.exists(program):
        raise kit.KitError(f'the packages have no loader or no {name}')
    libraries = ':'.join(f'{root}/{d}' for d in LIBRARY_DIRS)
    path = f'{top}/{name}'
    with open(path, 'w') as f:
        f.write(f'#!/bin/sh\nexec {loader[0]} --library-path {libraries} {program} "$@"\n')
    os.chmod(path, 0o755)
    return path


def fetch(top, name):
    print(f'fetching {name} from Debian sid …', file=sys.stderr)
    with kit.scratch_apt(kit.machine_mirror(kit.release_name()), 'sid') as options:
        archives = download_closure(options, PEERS[name][0], top)
    kit.unpack(archives, f'{top}/root')
    path = write_starter(top, name)
    return {'program': path, 'name': f'{name} {version_of(path)} (Debian sid)'}


def newest(name):
    return kit.cached(f'bench/{name}', 'peer.json', 'program', lambda top: fetch(top, name))


def installed(name):
    program = shutil.which(name) or f'/{PEERS[name][1]}'
    if not os.access(program, os.X_OK):
        raise PeerError(f'{name} is not installed (package {PEERS[name][0][-1]})')
    return {'program': program, 'name': f'{name} {version_of(program)} (installed)'}


def get(name, which):
    """(program, name with version)."""
    if which == 'installed':
        got = installed(name)
    else:
        try:
            got = newest(name)
        except (kit.KitError, PeerError, OSError) as e:
            if which == 'newest':
                raise PeerError(f'the newest {name} cannot be had: {e}') from None
            print(f'Debian sid\'s {name} cannot be had ({e}): the installed one is used', file=sys.stderr)
            got = installed(name)
    return got['program'], got['name']


def storage_daemon(which):
    return get('qemu-storage-daemon', which)


def virtiofsd(which):
    return get('virtiofsd', which)


def vhost_device_vsock(which):
    return get('vhost-device-vsock', which)


def testpmd(which):
    return get('dpdk-testpmd', which)
