"""How fast may we send? Allowances per minute, and a window that gives way to a busy server."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

BURST_S = 0.1  # this much of an allowance may go at once, so that timers need not be exact
LEAST = {"requests": 1.0, "tokens": 1000.0}  # a minute; less is not an allowance but a mistake
USED = 0.98  # of an allowance: the rest covers the jitter of the network between two clocks


class Pace:
    """An allowance per minute, spaced out evenly (GCRA, ITU-T I.371, virtual scheduling).

    Spacing rather than a bucket that starts full: a server that counts the last sixty seconds
    would answer 429 to twice the allowance in the first minute.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute * USED / 60  # units per second
        self._due = 0.0  # time.monotonic() at which all that was taken is worked off

    def wait(self) -> float:
        """Seconds until more may be taken."""
        return max(0.0, self._due - BURST_S - time.monotonic())

    def take(self, amount: float) -> None:
        self._due = max(self._due, time.monotonic()) + amount / self._rate

    def give_back(self, amount: float) -> None:
        """What was taken and not used."""
        self._due -= amount / self._rate


class Window:
    """How many requests may be in flight: halved by a refusal, grown again by success (AIMD).

    Chiu and Jain 1989, https://doi.org/10.1016/0169-7552(89)90019-6.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._size = float(most)
        self._shrunk_at = 0.0

    @property
    def size(self) -> int:
        return max(1, int(self._size))

    def shrink(self, sent_at: float) -> None:
        """A request of this moment was refused; those of the same burst shrink it only once."""
        if sent_at >= self._shrunk_at:
            self._size = max(1.0, self._size / 2)
            self._shrunk_at = time.monotonic()

    def grow(self) -> None:
        self._size = min(self._most, self._size + 1 / self._size)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a refusing server asks for, or None; a date is read by its own clock."""
    told = headers.get("retry-after")
    if told is None:
        return None
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        then, now = parsedate_to_datetime(told), parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, (then - now).total_seconds())
    except (TypeError, ValueError):
        return None


def learned(headers: Mapping[str, str], what: str, least: float = 0.0) -> float | None:
    """The allowance per minute that a server tells in `x-ratelimit-limit-requests` or `-tokens`.

    None where it tells none, or one under which nothing could ever be sent.

    Args:
        least: what one request has used; an allowance below that is a mistake.
    """
    try:
        allowed = float(headers.get(f"x-ratelimit-limit-{what}", ""))
    except ValueError:
        return None
    return allowed if math.isfinite(allowed) and allowed >= max(least, LEAST[what]) else None
