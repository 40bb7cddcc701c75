"""
The initrd of a test guest: busybox, e2fsprogs' mke2fs, the modules that its disk needs, the load program.

Written as a newc cpio archive by hand (it is twenty lines, and needs neither mknod nor root), not compressed.
"""
import os
import re
import stat
import subprocess

from . import kit

GUEST_DIR = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), 'guest')
BUSYBOX = ('/bin/busybox', '/usr/bin/busybox')
DIRS = ('bin', 'sbin', 'dev', 'proc', 'sys', 'mnt', 'tmp', 'modules', 'etc', 'lib', 'lib64')
WANTED_MODULES = {'blk': ['virtio_blk'], 'fs': ['virtiofs'], 'net': ['virtio_net'],
                  'vsock': ['vmw_vsock_virtio_transport']}
# More programs, where they are installed: a test that needs one says so.
MORE_PROGRAMS = {'net': ['/usr/bin/iperf3', '/sbin/ethtool']}
BUS_MODULES = {'uml': [], 'qemu': ['virtio_pci']}


class Archive:
    def __init__(self):
        self.parts, self.n, self.names = [], 0, set()

    def add(self, name, mode, data=b''):
        if name in self.names:
            return
        self.names.add(name)
        self.n += 1
        path = name.encode() + b'\0'
        head = '070701' + ''.join(f'{v:08x}' for v in (
            self.n, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0))
        self.parts += [self.pad(head.encode() + path), self.pad(data)]

    @staticmethod
    def pad(data):
        return data + b'\0' * (-len(data) % 4)

    def add_dir(self, name):
        path = ''
        for word in name.split('/'):
            path = f'{path}/{word}' if path else word
            self.add(path, stat.S_IFDIR | 0o755)

    def add_file(self, name, path, mode=0o755):
        with open(path, 'rb') as f:
            self.add_dir(os.path.dirname(name)) if '/' in name else None
            self.add(name, stat.S_IFREG | mode, f.read())

    def write(self, path):
        self.add('TRAILER!!!', 0)
        with open(path, 'wb') as f:
            f.write(b''.join(self.parts))


def busybox():
    for path in BUSYBOX:
        if os.path.exists(path):
            with open(path, 'rb') as f:
                if b'ld-linux' not in f.read(4096):
                    return path
    raise kit.KitError('no static busybox: install the package busybox-static')


def add_program(archive, name, path):
    """A dynamically linked program and the libraries that ldd names."""
    archive.add_file(name, path)
    for word in re.findall(r'(/\S+)', subprocess.run(['ldd', path], stdout=subprocess.PIPE, text=True,
                                                     check=True).stdout):
        if os.path.exists(word):
            archive.add_file(word.lstrip('/'), word)


def module_path(modules, name):
    for where, _, files in os.walk(modules):
        if f'{name}.ko' in files:
            return os.path.join(where, f'{name}.ko')
    raise kit.KitError(f'no module {name} under {modules}')


def module_order(modules, wanted):
    """The wanted modules and what they depend on, in the order of insmod."""
    order = []

    def visit(name):
        if name in order:
            return
        with open(module_path(modules, name), 'rb') as f:
            words = re.search(rb'\0depends=([^\0]*)\0', b'\0' + f.read())
        for word in words.group(1).decode().split(',') if words else []:
            if word:
                visit(word)
        order.append(name)

    for name in wanted:
        visit(name)
    return order


def build(path, vmm, modules, load, device='blk'):
    """Writes the initrd for a VMM's kernel and a device type to path; load is the static load program."""
    archive = Archive()
    for name in DIRS:
        archive.add_dir(name)
    archive.add_file('bin/busybox', busybox())
    archive.add_file('init', f'{GUEST_DIR}/init')
    archive.add_file(f'bin/{os.path.basename(load)}', load)
    for where in ('/sbin/mke2fs', '/usr/sbin/mke2fs'):
        if os.path.exists(where):
            add_program(archive, 'sbin/mke2fs', where)
            break
    else:
        raise kit.KitError('no mke2fs: install the package e2fsprogs')
    if device == 'net':
        for name in ('guest-traffic', 'guest-frames'):
            archive.add_file(f'bin/{name}', os.path.join(os.path.dirname(load), name))
    for program in MORE_PROGRAMS.get(device, []):
        if os.path.exists(program):
            add_program(archive, f'bin/{os.path.basename(program)}', program)
    order = module_order(modules, [*BUS_MODULES[vmm], *WANTED_MODULES[device]])
    for name in order:
        archive.add_file(f'modules/{name}.ko', module_path(modules, name), 0o644)
    archive.add('modules/order', stat.S_IFREG | 0o644, (' '.join(order) + '\n').encode())
    archive.write(path)
