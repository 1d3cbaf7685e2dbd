"""Count what a run accepted, rejected and used, and show it: a live panel, or log lines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.curation.rules import print_outcomes

LOG_INTERVAL_S, DRAW_INTERVAL_S = 5.0, 0.2


@dataclass(slots=True)
class RunTotals:
    """Totals over all starts of a run, in memory so that reading them costs nothing."""

    target: int  # accepted rows to collect
    accepted: int = 0  # rows in the ledger; the last reply may bring more than the target
    rejected: Counter[str] = field(default_factory=Counter)  # rows by reason
    replies: int = 0
    tokens: int = 0
    in_flight: int = 0
    busy: int = 0  # requests that the teacher turned away until later
    _started_at: float = field(default_factory=time.monotonic)
    _accepted_at_start: int = 0
    _replies_at_start: int = 0
    _checkpoint: int = 0  # accepted rows at the last one

    def start(self) -> None:
        """Measure speeds from now: the totals so far come from earlier starts."""
        self._started_at = time.monotonic()
        self._accepted_at_start = self._checkpoint = self.accepted
        self._replies_at_start = self.replies

    @property
    def in_dataset(self) -> int:
        """Accepted rows that are part of the dataset."""
        return min(self.accepted, self.target)

    @property
    def candidates(self) -> int:
        return self.in_dataset + self.rejected.total()

    @property
    def acceptance(self) -> float:
        """Fraction of candidates that were accepted."""
        return self.in_dataset / self.candidates if self.candidates else 0.0

    @property
    def replies_per_second(self) -> float:
        seconds = time.monotonic() - self._started_at
        return (self.replies - self._replies_at_start) / max(1e-9, seconds)

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds until the target, or None before this start has accepted a row."""
        new_rows = self.accepted - self._accepted_at_start
        remaining = max(0, self.target - self.accepted)
        seconds = time.monotonic() - self._started_at
        return remaining * seconds / new_rows if new_rows > 0 else None

    def checkpoint_due(self, every: int) -> bool:
        """Return whether `every` (0: never) rows were accepted since this was last true."""
        if due := 0 < every <= self.accepted - self._checkpoint:
            self._checkpoint = self.accepted
        return due


class RunProgress:
    """Progress towards a number of accepted rows.

    Args:
        spent: returns dollars so far, or None if the price is unknown.
        report_to: `trackio` also logs the metrics there.
    """

    def __init__(self, spent: Callable[[], float | None], report_to: str, name: str) -> None:
        self._spent = spent
        self._output = console.stage("generate")
        self._live = Live(console=self._output.rich, auto_refresh=False, transient=True)
        self._updated_at = 0.0
        self._tracker = _start_trackio(name) if report_to == "trackio" else None

    def __enter__(self) -> Self:
        if self._output.draws:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._tracker:
            self._tracker.finish()

    def update(self, totals: RunTotals) -> None:
        """Show the totals, at most every few seconds (on a terminal: five times per second)."""
        draws = self._output.draws
        if time.monotonic() < self._updated_at + (DRAW_INTERVAL_S if draws else LOG_INTERVAL_S):
            return
        self._updated_at = time.monotonic()
        if draws:
            self._live.update(self._panel(totals), refresh=True)
        else:
            self._output.print(self._line(totals))
        if self._tracker:
            self._tracker.log(self._metrics(totals))

    def finish(self, totals: RunTotals) -> None:
        """Print the result: accepted rows, usage, and the rejected rows by reason."""
        self._live.stop()
        self._output.print(
            f"{console.plural(totals.in_dataset, 'row')} accepted of "
            f"{console.plural(totals.candidates, 'candidate')}, "
            f"{self._usage(totals)}"
        )
        print_outcomes(self._output, totals.in_dataset, totals.rejected)
        if surplus := totals.accepted - totals.in_dataset:
            self._output.print(
                f"the ledger keeps {console.plural(surplus, 'more accepted row')} for a larger "
                "num_examples"
            )
        if self._tracker:
            self._tracker.log(self._metrics(totals))

    def _panel(self, totals: RunTotals) -> Table:
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=totals.target, completed=totals.in_dataset, width=40)
        reasons = ", ".join(f"{reason} {n}" for reason, n in totals.rejected.most_common(5))
        speed = f"{_speed(totals)}, {_connection(totals)}"
        grid.add_row("accepted", bar, _rows(totals))
        grid.add_row("rejected", reasons or "none", "")
        grid.add_row("teacher", speed, f"{totals.tokens / 1000:,.0f}k tokens")
        grid.add_row("time left", _time_left(totals) or "unknown", self._cost(totals))
        return grid

    def _line(self, totals: RunTotals) -> str:
        left = f"{time_left} left" if (time_left := _time_left(totals)) else "time left unknown"
        return (
            f"{_rows(totals)}, {self._usage(totals)}, {_speed(totals)}, "
            f"{_connection(totals)}, {left}"
        )

    def _usage(self, totals: RunTotals) -> str:
        replies = console.plural(totals.replies, "reply", "replies")
        text = f"{replies}, {totals.tokens / 1000:,.0f}k tokens"
        return f"{text}, {cost}" if (cost := self._cost(totals)) else text

    def _cost(self, totals: RunTotals) -> str:
        spent = self._spent()
        if spent is None or not 0 < totals.accepted < totals.target:
            return "" if spent is None else f"${spent:.4f}"
        return f"${spent:.4f} of about ${spent / totals.accepted * totals.target:.2f}"

    def _metrics(self, totals: RunTotals) -> dict[str, Any]:
        names = ("acceptance", "replies", "tokens", "in_flight", "busy")
        metrics = {"accepted": totals.in_dataset, **{name: getattr(totals, name) for name in names}}
        metrics |= {f"rejected/{reason}": n for reason, n in totals.rejected.items()}
        spent = self._spent()
        return metrics if spent is None else {**metrics, "cost_usd": spent}


def _rows(totals: RunTotals) -> str:
    accepted = f"{totals.acceptance:.0%} of candidates accepted"
    if not totals.candidates:
        accepted = "no candidates yet"
    return f"{totals.in_dataset:,}/{totals.target:,} rows, {accepted}"


def _speed(totals: RunTotals) -> str:
    rate = totals.replies_per_second
    return f"{rate:.1f} replies/s" if rate >= 1 else f"{60 * rate:.1f} replies/min"


def _connection(totals: RunTotals) -> str:
    busy = f", busy {console.plural(totals.busy, 'time')}" if totals.busy else ""
    return f"{totals.in_flight} in flight{busy}"


def _time_left(totals: RunTotals) -> str:
    seconds = totals.seconds_left
    return "" if seconds is None else console.duration(seconds)


def _start_trackio(name: str) -> Any:
    try:
        import trackio
    except ImportError:
        raise InputError("report_to trackio: pip install trackio, or leave report_to out") from None
    trackio.init(project="code-alpaca", name=name)  # a local database; nothing leaves the machine
    return trackio
