"""Landlock rules that leave a process some folders to read and at most one to write.

Landlock (https://docs.kernel.org/userspace-api/landlock.html) works without root and without
user namespaces, since Linux 5.13. Where the kernel supports it, TCP is denied as well. Every
function raises OSError if the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import struct

from .syscall_table import LANDLOCK

libc = ctypes.CDLL(None, use_errno=True)

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = (number for number, _ in LANDLOCK.values())
VERSION_FLAG, PATH_BENEATH = 1, 1  # LANDLOCK_CREATE_RULESET_VERSION, LANDLOCK_RULE_PATH_BENEATH
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
READ_RIGHTS = EXECUTE | READ_FILE | READ_DIR
RIGHTS_ON_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# File system rights that each version of the interface supports; all 16 bits since version 5.
SUPPORTED_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1}
ALL_RIGHTS = (1 << 16) - 1
TCP_RIGHTS, TCP_VERSION = 0b11, 4  # bind, connect
SCOPES, SCOPES_VERSION = 0b11, 6  # abstract Unix sockets and signals stay within the sandbox
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")


def landlock_version() -> int:
    """Return the version of the kernel's Landlock interface; 0 if there is none."""
    return max(0, libc.syscall(CREATE_RULESET, None, 0, VERSION_FLAG))


def create_ruleset(readable: list[str], writable: str | None) -> int:
    """Create a ruleset and return its file descriptor.

    Args:
        readable: paths that may be read and executed; missing ones are skipped.
        writable: a folder in which everything is allowed.
    """
    version = landlock_version()
    handled = SUPPORTED_RIGHTS.get(version, ALL_RIGHTS)
    network = TCP_RIGHTS if version >= TCP_VERSION else 0
    scoped = SCOPES if version >= SCOPES_VERSION else 0
    attributes = struct.pack("QQQ", handled, network, scoped)
    size = 8 if version < TCP_VERSION else 16 if version < SCOPES_VERSION else 24
    ruleset = check(libc.syscall(CREATE_RULESET, attributes, size, 0))
    for path in readable:
        _allow(ruleset, path, READ_RIGHTS & handled)
    for path in DEVICES:
        _allow(ruleset, path, (READ_FILE | WRITE_FILE) & handled)
    if writable:
        _allow(ruleset, writable, handled)
    return ruleset


def restrict_self(ruleset: int) -> None:
    """Apply a ruleset to this process and its future children, for good."""
    check(libc.syscall(RESTRICT_SELF, ruleset, 0))


def check(result: int) -> int:
    """Return the result of a C call; raise OSError if it failed."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not os.path.isdir(path):
            rights &= RIGHTS_ON_FILES
        rule = struct.pack("=Qi", rights, fd)
        check(libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, rule, 0))
    finally:
        os.close(fd)
