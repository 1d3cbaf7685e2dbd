"""Define the exceptions that end a command on purpose; any other exception is a bug."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable
from pathlib import Path

INTERRUPTED = "interrupted; finished work is kept, and the same command resumes"
ERRNO = re.compile(r"\[Errno -?\d+\] ")  # before a text that is enough
MAX_ERROR_CHARACTERS = 300  # of another library's message
PATH_ERRNOS = {
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG,
    errno.EROFS,
}  # fmt: skip
READ_ONLY = "is read-only; make the file and its folder writable, then rerun the same command"
# A part of SQLite's message -> what is wrong with the file and what to do.
DATABASE_ERRORS = {
    "readonly": READ_ONLY,
    "read-only": READ_ONLY,
    "unable to open": "cannot be opened; make the file and its folder readable and writable",
    "locked": "is locked by another program (a database browser, a backup); close it first",
    "disk I/O error": "cannot be read or written; check the disk and its quota",
    "malformed": "is damaged; the replies in it were paid for, so keep the file and restore a "
    "backup of it, or recover it with `sqlite3 ledger.sqlite .recover`",
    "no such table": "is not the ledger of a run; set the run_dir of a run",
    "not a database": "is not the ledger of a run, or is damaged; if replies in it were paid for, "
    "keep the file and restore a backup of it",
}


class InputError(Exception):
    """A bad config, input or environment, in one line: what, where, what to do."""

    exit_code = 2


class Stopped(Exception):
    """Stopped on purpose with all work kept; the same command resumes."""

    exit_code = 3


class TeacherRefused(Stopped):
    """The teacher refuses all further requests, so those in flight are not awaited."""


class Diverged(Exception):
    """The loss of a training is NaN, infinite or too high; a rerun would fail again."""

    exit_code = 1


def explain_environment_error(error: BaseException) -> InputError | None:
    """Return what to do about an unusable path or a full disk; None for any other error."""
    if isinstance(error, OSError) and error.errno in PATH_ERRNOS:
        return InputError(f"cannot use {error.filename}: {error.strerror}; {_advise_on(error)}")
    if is_disk_full(error):
        return InputError(
            f"the disk is full ({error}); committed work is kept: free some space and rerun the "
            "same command"
        )
    if type(error).__module__ == "sqlite3" and (advice := explain_database_error(error)):
        return InputError(f"the run's ledger.sqlite {advice}")
    return None


def _advise_on(error: OSError) -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if Path(str(error.filename)).is_relative_to(cache):
        return "set XDG_CACHE_HOME to a folder for caches that you can write"
    permission = "change its permissions or " if isinstance(error, PermissionError) else ""
    return f"{permission}choose another path"


def explain_database_error(error: BaseException) -> str:
    """Explain an error of SQLite and what to do; return "" if it is a bug."""
    message = error_message(error)
    advice = next((advice for part, advice in DATABASE_ERRORS.items() if part in message), "")
    return f"{advice} (SQLite: {message})" if advice else ""


def did_you_mean(
    word: str, valid: Iterable[str], otherwise: str, *, min_similarity: float = 0.6
) -> str:
    """Return the advice of an error message: the valid word nearest to a mistyped one, or else."""
    nearest = difflib.get_close_matches(word, list(valid), n=1, cutoff=min_similarity)
    return f"did you mean {nearest[0]!r}?" if nearest else otherwise


def error_message(error: BaseException) -> str:
    """Return the message of another library's error, shortened to fit into one line."""
    try:
        message = ERRNO.sub("", " ".join(str(error).split()))
    except Exception:  # from a user's file, whose __str__ fails as well
        message = ""
    if len(message) <= MAX_ERROR_CHARACTERS:
        return message
    return message[:MAX_ERROR_CHARACTERS].rsplit(" ", 1)[0] + " ..."


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error means that the disk or the quota is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # SQLite and safetensors raise their own exceptions, with the reason in the message.
    return "disk is full" in str(error) or "No space left on device" in str(error)
