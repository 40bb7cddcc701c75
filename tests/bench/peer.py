"""
The peers that a device is measured against: the newest that can be had.

qemu-storage-daemon of Debian sid is fetched with everything that it is linked with, libc included, and unpacked, not
installed; it is started by its own dynamic loader. Where that cannot be had, the machine's own one is used, and
the name that is printed with the figures says so.
"""
import contextlib
import fcntl
import glob
import json
import os
import shutil
import subprocess
import sys

from lib import kit

# The program has moved from one to the other.
PACKAGES = ('qemu-utils', 'qemu-system-common')
LIBRARY_DIRS = ('usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu', 'usr/lib', 'usr/lib64')


class PeerError(Exception):
    """There is no peer; the text says why."""


def version_of(program):
    done = subprocess.run([program, '--version'], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    words = done.stdout.split()
    if done.returncode != 0 or 'version' not in words:
        raise PeerError(f'{program} does not run: {done.stdout.strip()[:200]}')
    return words[words.index('version') + 1]


def download_closure(options, packages, where):
    """The packages and all that they depend on, as if nothing were installed."""
    archives = f'{where}/archives'
    os.makedirs(f'{archives}/partial')
    kit.run(['apt-get', *options, '-o', f'Dir::Cache::archives={archives}', '-q', '-y', '--no-install-recommends',
             '--download-only', 'install', *packages])
    return archives


def write_starter(top):
    """
    A program that starts the unpacked one with its own loader and libraries. Its name has to say what it is: the
    front-end knows by it which arguments it takes.
    """
    root = f'{top}/root'
    loader = glob.glob(f'{root}/usr/lib64/ld-linux-x86-64.so.2') + glob.glob(
        f'{root}/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2')
    if not loader or not os.path.exists(f'{root}/usr/bin/qemu-storage-daemon'):
        raise kit.KitError('the packages have no loader or no qemu-storage-daemon')
    libraries = ':'.join(f'{root}/{d}' for d in LIBRARY_DIRS)
    path = f'{top}/qemu-storage-daemon'
    with open(path, 'w') as f:
        f.write(f'#!/bin/sh\nexec {loader[0]} --library-path {libraries} {root}/usr/bin/qemu-storage-daemon "$@"\n')
    os.chmod(path, 0o755)
    return path


def fetch(top):
    with kit.scratch_apt(kit.machine_mirror(kit.release_name()), 'sid') as options:
        archives = download_closure(options, PACKAGES, top)
    kit.unpack(archives, f'{top}/root')
    path = write_starter(top)
    return {'program': path, 'name': f'qemu-storage-daemon {version_of(path)} (Debian sid)'}


def newest():
    top = os.path.join(kit.cache_dir(), 'bench', 'qemu-storage-daemon')
    os.makedirs(top, exist_ok=True)
    with open(f'{top}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        manifest = f'{top}/peer.json'
        with contextlib.suppress(FileNotFoundError, ValueError):
            with open(manifest) as f:
                got = json.load(f)
            if os.path.exists(got['program']):
                return got
        print('fetching qemu-storage-daemon from Debian sid …', file=sys.stderr)
        shutil.rmtree(top)
        os.makedirs(top)
        got = fetch(top)
        with open(f'{manifest}.new', 'w') as f:
            json.dump(got, f)
        os.rename(f'{manifest}.new', manifest)
        return got


def installed():
    program = shutil.which('qemu-storage-daemon')
    if not program:
        raise PeerError('qemu-storage-daemon is not installed (package qemu-system-common)')
    return {'program': program, 'name': f'qemu-storage-daemon {version_of(program)} (installed)'}


def storage_daemon(which):
    """(program, name with version)."""
    if which == 'installed':
        got = installed()
    else:
        try:
            got = newest()
        except (kit.KitError, PeerError, OSError) as e:
            if which == 'newest':
                raise PeerError(f'the newest qemu-storage-daemon cannot be had: {e}') from None
            print(f'Debian sid\'s qemu-storage-daemon cannot be had ({e}): the installed one is used',
                  file=sys.stderr)
            got = installed()
    return got['program'], got['name']
