"""Limit requests and tokens per minute, and adapt the limit on concurrency.

Methods take the current time in seconds; nothing here sleeps.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

BURST_S = 0.1  # seconds of allowance that may be used at once: timers need not be exact
MIN_LIMIT = {"requests": 1.0, "tokens": 1000.0}  # per minute; a lower header value is a mistake
USABLE_FRACTION = 0.98  # of the limit; the rest absorbs network jitter between the two clocks


class RateLimiter:
    """Space requests evenly under a limit per minute (GCRA, ITU-T I.371, virtual scheduling).

    A token bucket that starts full would exceed the limit of a server that counts the last 60
    seconds: twice the limit could be sent in the first minute.
    """

    def __init__(self, per_minute: float) -> None:
        self._rate = per_minute * USABLE_FRACTION / 60  # units per second
        self._idle_at = 0.0  # time at which everything consumed so far is accounted for

    def get_delay(self, now: float) -> float:
        """Return the seconds until more may be consumed."""
        return max(0.0, self._idle_at - BURST_S - now)

    def consume(self, amount: float, now: float) -> None:
        self._idle_at = max(self._idle_at, now) + amount / self._rate

    def refund(self, amount: float) -> None:
        """Return what was consumed but not used."""
        self._idle_at -= amount / self._rate


class ConcurrencyWindow:
    """Limit the requests in flight: halved by a rejection, grown by successes (AIMD).

    Chiu and Jain 1989, https://doi.org/10.1016/0169-7552(89)90019-6.
    """

    def __init__(self, max_size: int) -> None:
        self._max_size = max_size
        self._size = float(max_size)
        self._shrunk_at = 0.0

    @property
    def size(self) -> int:
        return max(1, int(self._size))

    def shrink(self, sent_at: float, now: float) -> None:
        """Halve the window, once per burst: requests sent before the last shrink are ignored."""
        if sent_at >= self._shrunk_at:
            self._size = max(1.0, self._size / 2)
            self._shrunk_at = now

    def grow(self) -> None:
        self._size = min(self._max_size, self._size + 1 / self._size)


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in a Retry-After header, or None; a date is relative to `date`."""
    value = headers.get("retry-after", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    try:
        delay = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("date", ""))
        return max(0.0, delay.total_seconds())
    except (TypeError, ValueError):
        return None


def parse_rate_limit(headers: Mapping[str, str], unit: str, minimum: float = 0.0) -> float | None:
    """Return the limit per minute in a rate-limit header, or None.

    A limit below `minimum`, what one request used, is a mistake of the server.
    """
    try:
        limit = float(headers.get(f"x-ratelimit-limit-{unit}", ""))
    except ValueError:
        return None
    return limit if math.isfinite(limit) and limit >= max(minimum, MIN_LIMIT[unit]) else None
