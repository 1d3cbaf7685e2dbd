"""System calls and prctl options that Python's standard library does not wrap."""

from __future__ import annotations

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_SECUREBITS, PR_SET_NO_NEW_PRIVS = 1, 4, 28, 38


def check(result: int) -> int:
    """Return the result of a C call.

    Raises:
        OSError: the call failed.
    """
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def prctl(option: int, value: int) -> int:
    """Change a setting of this process; a negative result means that it failed."""
    return libc.prctl(option, value, 0, 0, 0)
