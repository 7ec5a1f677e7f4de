"""Runs a program in a network namespace of its own.

    python3 own-network.py <port,port,...> program argument...

The program has a loopback interface that no other program can use. Each port is opened on the machine's own loopback before
the namespace is created. The program gets the listening sockets as file descriptors 3, 4, ... and can be reached only through
them.
"""
import ctypes
import fcntl
import os
import socket
import struct
import sys

FIRST_DESCRIPTOR = 3
OUT_OF_THE_WAY = 64
BACKLOG = 511
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS = 0x8914
IFF_UP = 0x1


def listen(port):
    server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(('127.0.0.1', port))
    server.listen(BACKLOG)
    return fcntl.fcntl(server.detach(), fcntl.F_DUPFD_CLOEXEC, OUT_OF_THE_WAY)


def unshare(flags):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def write(path, text):
    with open(path, 'w') as file:
        file.write(text)


def enter_own_network():
    uid, gid = os.getuid(), os.getgid()
    try:
        unshare(CLONE_NEWNET)  # root
    except OSError:
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        write('/proc/self/setgroups', 'deny')
        write('/proc/self/uid_map', '%d %d 1' % (uid, uid))
        write('/proc/self/gid_map', '%d %d 1' % (gid, gid))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack('16sh14x', b'lo', IFF_UP))


def main():
    ports = [int(port) for port in sys.argv[1].split(',') if port]
    try:
        sockets = [listen(port) for port in ports]
    except OSError as error:
        sys.exit('a port of %s cannot be opened: %s' % (sys.argv[1], error.strerror))
    try:
        enter_own_network()
    except OSError as error:
        sys.exit('the kernel allows no network namespace: %s' % error.strerror)
    for index, descriptor in enumerate(sockets):
        os.dup2(descriptor, FIRST_DESCRIPTOR + index, inheritable=True)
    os.execvp(sys.argv[2], sys.argv[2:])


main()
