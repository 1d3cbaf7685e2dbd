"""The ways a command ends early on purpose; whatever else escapes is a defect of ours."""

from __future__ import annotations

INTERRUPTED = "interrupted; everything finished is kept, the same command goes on"


class InputError(Exception):
    """Bad config, input or environment (exit 2). One line: what, where, what to do."""


class Stopped(Exception):
    """Stopped on purpose with everything kept (exit 3); the same command goes on."""


class Refused(Stopped):
    """The teacher will answer nothing more: there is no use in waiting for other requests."""


class Diverged(Exception):
    """A training whose loss is no number any more (exit 1): the same command would end there."""


def one_line(error: BaseException) -> str:
    """What an error of another library says, as it fits into one line of ours."""
    return " ".join(str(error).split())[:200]
