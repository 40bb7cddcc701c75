"""
A client of RUNTIME/bus that does what vmdevctl would not: D-Bus by hand, peer to peer.
"""
import os
import socket
import struct
import threading


def align(data, to):
    return data + b'\0' * (-len(data) % to)


def text(words):
    data = words.encode()
    return struct.pack('<I', len(data)) + data + b'\0'


def call(method, selector, serial=1, path='/org/vmdev', interface='org.vmdev.Manager'):
    """A method call with one string, as it goes over the wire."""
    fields = b''
    for code, kind, value in ((1, b'o', path), (2, b's', interface), (3, b's', method)):
        fields = align(fields, 8) + bytes((code, 1)) + kind + b'\0' + text(value)
    fields = align(fields, 8) + bytes((8, 1)) + b'g\0' + b'\x01s\0'
    body = text(selector)
    return align(struct.pack('<cBBBIII', b'l', 1, 0, 1, len(body), serial, len(fields)) + fields, 8) + body


class Peer:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.socket.sendall(b'\0AUTH EXTERNAL ' + str(os.geteuid()).encode().hex().encode() + b'\r\n')
        said = self.socket.recv(4096)
        if not said.startswith(b'OK '):
            raise OSError(f'not let in: {said!r}')
        self.socket.sendall(b'BEGIN\r\n')
        self.asking = False

    def flood(self, message, n):
        """Sends it so often, and reads nothing. How many went out before the other end hung up or stopped reading."""
        self.socket.settimeout(2)
        block, sent = message * 100, 0
        try:
            while sent < n:
                self.socket.sendall(block)
                sent += 100
        except OSError:
            pass
        return sent

    def ask_without_end(self, message):
        """From two threads: one asks as fast as it can, one reads the answers."""
        self.asking = True

        def ask():
            while self.asking:
                try:
                    self.socket.sendall(message * 50)
                except OSError:
                    return

        def read():
            while self.asking:
                try:
                    if not self.socket.recv(1 << 20):
                        return
                except OSError:
                    return
        for run in (ask, read):
            threading.Thread(target=run, daemon=True).start()

    def close(self):
        self.asking = False
        self.socket.close()
