"""The ways a command ends early on purpose; whatever else escapes is a bug."""

from __future__ import annotations

import errno

INTERRUPTED = "interrupted; everything finished is kept, the same command resumes"
MAX_ERROR_CHARACTERS = 300  # characters of what another library says
PATH_ERRNOS = {
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EACCES,
    errno.EPERM,
    errno.ENAMETOOLONG,
    errno.EROFS,
}
# What SQLite says, and what that means to the user.
DATABASE_ERRORS = {
    "readonly": "is read-only; make the file and its folder writable, then rerun the same command",
    "read-only": "is read-only; make the file and its folder writable, then rerun the same command",
    "unable to open": "cannot be opened; make the file and its folder readable and writable",
    "locked": "is locked by another program (a database browser, a backup); close that first",
    "disk I/O error": "cannot be read or written; check the disk and its quota",
    "malformed": "is damaged; the replies in it were paid for, so keep the file and restore a "
    "backup of it, or recover it with `sqlite3 ledger.sqlite .recover`",
    "no such table": "is not the ledger of a run; give the run_dir of one",
    "not a database": "is not the ledger of a run, or is damaged; if replies in it were paid for, "
    "keep the file and restore a backup of it",
}


class InputError(Exception):
    """Bad config, input or environment (exit 2). One line: what, where, what to do."""


class Stopped(Exception):
    """Stopped on purpose with everything kept (exit 3); the same command resumes."""


class TeacherRefused(Stopped):
    """The teacher will answer nothing more: there is no use in waiting for other requests."""


class Diverged(Exception):
    """A training whose loss is no number any more (exit 1): the same command would end there."""


def explain_environment_error(error: BaseException) -> InputError | None:
    """What a path that cannot be used, or a full disk, comes to; None for any other error."""
    if isinstance(error, OSError) and error.errno in PATH_ERRNOS:
        return InputError(f"cannot use {error.filename}: {error.strerror}; choose another path")
    if is_disk_full(error):
        return InputError(
            f"the disk is full ({error}); everything committed is kept: free some space and "
            "give the same command again"
        )
    if type(error).__module__ == "sqlite3" and (advice := explain_database_error(error)):
        return InputError(f"the run's ledger.sqlite {advice}")
    return None


def explain_database_error(error: BaseException) -> str:
    """What an error of SQLite means for its file and what to do; "" where it means a bug."""
    said = error_message(error)
    for sign, advice in DATABASE_ERRORS.items():
        if sign in said:
            return f"{advice} (SQLite: {said})"
    return ""


def error_message(error: BaseException) -> str:
    """What an error of another library says, shortened to fit into one line of a message."""
    said = " ".join(str(error).split())
    return (
        said
        if len(said) <= MAX_ERROR_CHARACTERS
        else said[:MAX_ERROR_CHARACTERS].rsplit(" ", 1)[0] + " ..."
    )


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that the disk or the quota is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    # SQLite and safetensors have exceptions of their own, with the fact in their words.
    return "disk is full" in str(error) or "No space left on device" in str(error)
