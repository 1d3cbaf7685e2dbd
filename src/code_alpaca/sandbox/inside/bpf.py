"""Instructions of classic BPF, in which seccomp filters are written."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable

# struct sock_filter: operation, instructions to skip if true, to skip if false, operand.
Instruction = tuple[int, int, int, int]

ARGUMENTS_OFFSET = 16  # in struct seccomp_data


def assemble(code: Iterable[Instruction]) -> bytes:
    """Encode instructions as an array of struct sock_filter."""
    return b"".join(struct.pack("HBBI", *instruction) for instruction in code)


def load(offset: int) -> Instruction:
    """Load 32 bits of struct seccomp_data."""
    return (0x20, 0, 0, offset)  # BPF_LD | BPF_W | BPF_ABS


def load_argument(index: int) -> Instruction:
    """Load the low 32 bits of a system call's argument (x86-64 and arm64 are little-endian)."""
    return load(ARGUMENTS_OFFSET + 8 * index)


def skip_if_equal(value: int, if_true: int, if_false: int) -> Instruction:
    """Skip instructions, depending on whether the loaded value equals `value`."""
    return (0x15, if_true, if_false, value)  # BPF_JMP | BPF_JEQ


def skip_if_greater(value: int, if_true: int, if_false: int) -> Instruction:
    """Skip instructions, depending on whether the loaded value is greater."""
    return (0x25, if_true, if_false, value)  # BPF_JMP | BPF_JGT


def skip_if_any_bit(mask: int, if_true: int, if_false: int) -> Instruction:
    """Skip instructions, depending on whether the loaded value has any bit of `mask` set."""
    return (0x45, if_true, if_false, mask)  # BPF_JMP | BPF_JSET


def finish(action: int) -> Instruction:
    """Decide the system call."""
    return (0x06, 0, 0, action)  # BPF_RET


def fail_with(error: int) -> Instruction:
    """Have the call return this error without being made; 0 reports success."""
    return finish(0x00050000 | error)  # SECCOMP_RET_ERRNO


KILL = finish(0x80000000)  # SECCOMP_RET_KILL_PROCESS
NOTIFY = finish(0x7FC00000)  # SECCOMP_RET_USER_NOTIF: suspend the call and notify the listener
ALLOW = finish(0x7FFF0000)  # SECCOMP_RET_ALLOW
DENY = fail_with(errno.EPERM)
