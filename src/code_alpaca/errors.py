"""The ways a command ends early on purpose; whatever else escapes is a defect of ours."""

from __future__ import annotations

import errno

INTERRUPTED = "interrupted; everything finished is kept, the same command goes on"
BAD_PATH = {
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EROFS,
}


class InputError(Exception):
    """Bad config, input or environment (exit 2). One line: what, where, what to do."""


class Stopped(Exception):
    """Stopped on purpose with everything kept (exit 3); the same command goes on."""


class Refused(Stopped):
    """The teacher will answer nothing more: there is no use in waiting for other requests."""


class Diverged(Exception):
    """A training whose loss is no number any more (exit 1): the same command would end there."""


def machine_trouble(error: BaseException) -> InputError | None:
    """What a path that cannot be used, or a full disk, comes to; None for any other error."""
    if isinstance(error, OSError) and error.errno in BAD_PATH:
        return InputError(f"cannot use {error.filename}: {error.strerror}; choose another path")
    if _disk_full(error):
        return InputError(
            f"the disk is full ({error}); everything committed is kept: free some space and "
            "give the same command again"
        )
    return None


def one_line(error: BaseException) -> str:
    """What an error of another library says, as it fits into one line of ours."""
    return " ".join(str(error).split())[:200]


def _disk_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # SQLite and safetensors have exceptions of their own, with the fact in their words.
    return "disk is full" in str(error) or "No space left on device" in str(error)
