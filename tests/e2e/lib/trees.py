"""
Two directory trees, compared in all that a file system keeps: types, modes, owners, sizes, contents, links, times, attributes.
"""
import hashlib
import io
import os
import random
import stat
import tarfile


def describe(path):
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    facts = {'mode': oct(st.st_mode), 'owner': (st.st_uid, st.st_gid), 'time': st.st_mtime_ns}
    if not stat.S_ISDIR(kind):
        facts['size'], facts['links'] = st.st_size, st.st_nlink
    if stat.S_ISLNK(kind):
        facts['target'] = os.readlink(path)
        return facts
    if stat.S_ISREG(kind):
        with open(path, 'rb') as f:
            facts['sha256'] = hashlib.sha256(f.read()).hexdigest()
    facts['attributes'] = {name: os.getxattr(path, name, follow_symlinks=False)
                           for name in os.listxattr(path, follow_symlinks=False)}
    return facts


def manifest(top):
    found = {'.': describe(top)}
    for where, dirs, files in os.walk(top):
        for name in dirs + files:
            path = os.path.join(where, name)
            found[os.path.relpath(path, top)] = describe(path)
    return found


def differences(a, b):
    """What differs between two manifests, in words."""
    found = []
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            found.append(f'{name}: only in the {"second" if name not in a else "first"}')
            continue
        found += [f'{name}: {fact} {a[name].get(fact)} and {b[name].get(fact)}'
                  for fact in sorted(a[name].keys() | b[name].keys()) if a[name].get(fact) != b[name].get(fact)]
    return found


def make_archive(path, seed=1, n_dirs=25, n_files=16):
    """A tar like a kernel's: many small files of several owners, modes and times; links, a pipe."""
    rng = random.Random(seed)
    with tarfile.open(path, 'w', format=tarfile.PAX_FORMAT) as tar:
        def add(name, kind=tarfile.REGTYPE, data=b'', mode=0o644, target=''):
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.size, info.linkname = kind, mode, len(data), target
            info.uid, info.gid = rng.choice(((0, 0), (1000, 1000), (1000, 100), (65534, 7)))
            info.mtime = rng.randrange(1 << 30)
            tar.addfile(info, io.BytesIO(data))

        for d in range(n_dirs):
            where = ('fs', 'kernel', 'drivers/net', 'include/linux', 'arch/x86')[d % 5] + f'/d{d}'
            for f in range(n_files):
                add(f'{where}/f{f}.c', data=rng.randbytes(rng.randrange(1, 9000)),
                    mode=rng.choice((0o644, 0o600, 0o755, 0o4755, 0o2711, 0o444)))
            add(f'{where}/link', tarfile.SYMTYPE, mode=0o777, target='f0.c')
            add(f'{where}/dangling', tarfile.SYMTYPE, mode=0o777, target='/nowhere/at/all')
            add(f'{where}/second', tarfile.LNKTYPE, target=f'{where}/f1.c')
            add(f'{where}/pipe', tarfile.FIFOTYPE, mode=0o640)
            add(f'{where}/empty', tarfile.DIRTYPE, mode=rng.choice((0o755, 0o2775, 0o1777)))
    os.utime(path, (1 << 30, 1 << 30))  # what the work makes is newer, on the fastest machine
