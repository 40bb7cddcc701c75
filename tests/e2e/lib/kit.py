"""
The guest kit: kernels that run without KVM and without root's help, and what their initrd is made of.

Everything comes from Debian, through apt's own signature checks:
  - User Mode Linux of sid (and sid's libc6, which it is linked with), by a scratch apt state, so that
    the machine's own package lists and pins are not touched;
  - Debian's cloud kernel of the machine's own release, for QEMU.
Nothing is installed. Packages are unpacked under $XDG_CACHE_HOME/vmdev (/var/cache/vmdev when that is
not set), once: a later run finds the manifest, which is written last, and needs no network.

Suites move. What was got is written down in the manifest and shown to the person who runs this.
"""
import contextlib
import fcntl
import glob
import json
import os
import re
import shutil
import subprocess
import tempfile

KEYRING = '/usr/share/keyrings/debian-archive-keyring.gpg'
LIBC_DIR = 'usr/lib/x86_64-linux-gnu'


class KitError(Exception):
    """A part of the kit cannot be had; the text says which and why."""


def cache_dir():
    return os.path.join(os.environ.get('XDG_CACHE_HOME') or '/var/cache', 'vmdev')


def run(argv, **kw):
    """Runs a program quietly; its last words become the error."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors='replace', **kw)
    if done.returncode != 0:
        words = done.stdout.strip().splitlines()[-3:]
        raise KitError(f'{argv[0]}: ' + (' / '.join(words) or f'exit status {done.returncode}'))
    return done.stdout


def release_name():
    with open('/etc/os-release') as f:
        fields = dict(line.rstrip('\n').split('=', 1) for line in f if '=' in line)
    if fields.get('ID') != 'debian' or 'VERSION_CODENAME' not in fields:
        raise KitError('the guest kit is made of Debian packages and this is not a Debian release')
    return fields['VERSION_CODENAME']


def machine_mirror(release):
    """The mirror that this machine already takes its release from."""
    rows = run(['apt-get', 'indextargets', '--format', '$(CREATED_BY) $(COMPONENT) $(RELEASE) $(REPO_URI)'])
    for row in rows.splitlines():
        words = row.split()
        if len(words) == 4 and words[:3] == ['Packages', 'main', release]:
            return words[3]
    raise KitError(f'no source of the suite {release} is configured for apt')


@contextlib.contextmanager
def scratch_apt(mirror, suite):
    """An apt state of its own for one suite; yields apt's options. Gone afterwards."""
    with tempfile.TemporaryDirectory(prefix='vmdev-apt-') as top:
        os.makedirs(f'{top}/lists/partial')
        os.makedirs(f'{top}/cache/archives/partial')
        with open(f'{top}/sources.list', 'w') as f:
            f.write(f'deb [signed-by={KEYRING}] {mirror} {suite} main\n')
        options = []
        for key, value in (('Dir::State::Lists', f'{top}/lists'), ('Dir::Cache', f'{top}/cache'),
                           ('Dir::State::status', '/dev/null'), ('Dir::Etc::SourceParts', '/dev/null'),
                           ('Dir::Etc::SourceList', f'{top}/sources.list'),
                           ('Dir::Etc::PreferencesParts', '/dev/null'),
                           ('APT::Sandbox::User', 'root'), ('Acquire::Languages', 'none'),
                           # A mirror that lags behind is still signed, and its kernel as good a guest.
                           ('Acquire::Check-Valid-Until', 'false'),
                           ('Acquire::Retries', '2')):
            options += ['-o', f'{key}={value}']
        run(['apt-get', *options, '--error-on=any', '-q', 'update'])
        yield options


def download(options, names, where):
    """Fetches the packages; returns {name: version}."""
    os.makedirs(where, exist_ok=True)
    run(['apt-get', *options, '-q', 'download', *names], cwd=where)
    got = {}
    for deb in glob.glob(f'{where}/*.deb'):
        name, version = run(['dpkg-deb', '-W', '--showformat=${Package} ${Version}', deb]).split()
        got[name] = version
    missing = set(names) - set(got)
    if missing:
        raise KitError('not in the archive: ' + ', '.join(sorted(missing)))
    return got


def unpack(where, into):
    for deb in glob.glob(f'{where}/*.deb'):
        run(['dpkg', '-x', deb, into])
    shutil.rmtree(where)


def make_uml(top):
    with scratch_apt(machine_mirror(release_name()), 'sid') as options:
        got = download(options, ['user-mode-linux', 'libc6'], f'{top}/debs')
    unpack(f'{top}/debs', f'{top}/root')
    program, libs = f'{top}/root/usr/bin/linux.uml', f'{top}/root/{LIBC_DIR}'
    run(['patchelf', '--set-interpreter', f'{libs}/ld-linux-x86-64.so.2', '--set-rpath', libs, program])
    version = run([program, '--version']).strip()
    modules = f'{top}/root/usr/lib/uml/modules/{version}'
    if not os.path.isdir(modules):
        raise KitError(f'user-mode-linux {got["user-mode-linux"]} has no modules for its kernel {version}')
    return {'package': f'user-mode-linux {got["user-mode-linux"]} (sid)', 'version': version,
            'kernel': program, 'modules': modules}


def make_cloud(top):
    release = release_name()
    with scratch_apt(machine_mirror(release), release) as options:
        depends = run(['apt-cache', *options, 'depends', 'linux-image-cloud-amd64'])
        names = re.findall(r'Depends: (linux-image-\S+-cloud-amd64)$', depends, re.M)
        if not names:
            raise KitError('linux-image-cloud-amd64 names no kernel package')
        got = download(options, names[:1], f'{top}/debs')
    unpack(f'{top}/debs', f'{top}/root')
    kernel = glob.glob(f'{top}/root/boot/vmlinuz-*')
    modules = glob.glob(f'{top}/root/lib/modules/*') + glob.glob(f'{top}/root/usr/lib/modules/*')
    if len(kernel) != 1 or len(modules) != 1:
        raise KitError(f'{names[0]} does not look like a kernel package')
    return {'package': f'{names[0]} {got[names[0]]} ({release})', 'version': os.path.basename(modules[0]),
            'kernel': kernel[0], 'modules': modules[0]}


MAKERS = {'uml': make_uml, 'qemu': make_cloud}


def cached(place, manifest, proof, make):
    """
    What make(directory) has made of this place in the cache, once, as its manifest tells: that is written last. proof
    is the member of it that names a file which has to be there.
    """
    top = os.path.join(cache_dir(), place)
    os.makedirs(top, exist_ok=True)
    with open(f'{top}.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError, ValueError):
            with open(f'{top}/{manifest}') as f:
                got = json.load(f)
            if os.path.exists(got[proof]):
                return got
        shutil.rmtree(top)
        os.makedirs(top)
        got = make(top)
        with open(f'{top}/{manifest}.new', 'w') as f:
            json.dump(got, f, indent=1)
        os.rename(f'{top}/{manifest}.new', f'{top}/{manifest}')
        return got


def kernel(vmm):
    """The kernel for a VMM, fetched when the cache has none: {package, version, kernel, modules}."""
    return cached(f'guest/{vmm}', 'kit.json', 'kernel', MAKERS[vmm])


def is_cached(vmm):
    return os.path.exists(os.path.join(cache_dir(), 'guest', vmm, 'kit.json'))
