"""What a generating run shows: a live panel on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from code_alpaca.core.errors import InputError

LOG_EVERY_S, DRAW_EVERY_S = 5.0, 0.2


@dataclass(slots=True)
class Totals:
    """Sums over all starts of a run, kept in memory so that showing them costs nothing."""

    target: int
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    replies: int = 0
    tokens: int = 0
    began: float = field(default_factory=time.monotonic)
    accepted_before: int = 0
    replies_before: int = 0
    _checkpoint: int = 0

    def begin(self) -> None:
        """What is there now was there before this start: speeds are told of this one alone."""
        self.began = time.monotonic()
        self.accepted_before, self.replies_before = self.accepted, self.replies
        self._checkpoint = self.accepted

    @property
    def kept(self) -> int:
        """Accepted rows that the dataset holds; a last reply may bring more than are wanted."""
        return min(self.accepted, self.target)

    @property
    def candidates(self) -> int:
        return self.kept + self.rejected.total()

    @property
    def acceptance(self) -> float:
        return self.kept / self.candidates if self.candidates else 0.0

    @property
    def replies_per_second(self) -> float:
        return (self.replies - self.replies_before) / max(1e-9, time.monotonic() - self.began)

    @property
    def seconds_left(self) -> float | None:
        made = self.accepted - self.accepted_before
        if made <= 0:
            return None
        pace = (time.monotonic() - self.began) / made
        return max(0, self.target - self.accepted) * pace

    def checkpoint_due(self, every: int) -> bool:
        due = self.accepted - self._checkpoint >= every
        if due:
            self._checkpoint = self.accepted
        return due


class Screen:
    """Progress towards a number of accepted rows.

    Args:
        spent: dollars so far, or None where no price is known.
        wire: requests in flight, and how often the teacher said it was busy.
        report_to: `trackio` logs the same numbers there; none logs nowhere.

    Raises:
        InputError: trackio is wanted and not installed.
    """

    def __init__(
        self,
        *,
        spent: Callable[[], float | None] = lambda: None,
        wire: Callable[[], tuple[int, int]] = lambda: (0, 0),
        report_to: str = "none",
        name: str = "generate",
    ) -> None:
        self._spent, self._wire = spent, wire
        self._console = Console(highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._shown_at = 0.0
        self._tracker = _trackio(name) if report_to == "trackio" else None

    def __enter__(self) -> Screen:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()
        if self._tracker:
            self._tracker.finish()

    def show(self, totals: Totals) -> None:
        """Say how far the run is; cheap enough to call after every reply."""
        terminal = self._console.is_terminal
        if time.monotonic() - self._shown_at < (DRAW_EVERY_S if terminal else LOG_EVERY_S):
            return
        self._shown_at = time.monotonic()
        if terminal:
            self._live.update(self._panel(totals), refresh=True)
        else:
            self._console.print(self._line(totals))
        if self._tracker:
            self._tracker.log(self._metrics(totals))

    def say(self, line: str) -> None:
        """A line of its own above the panel."""
        self._console.print(line)

    def finish(self, totals: Totals) -> None:
        """The last lines: what there is, what it took, and why the rest was dropped."""
        self._live.stop()
        self._console.print(
            f"generate  {totals.kept:,} rows accepted of {totals.candidates:,} candidates, "
            f"{self._facts(totals)}"
        )
        table = Table("outcome", "candidates", "share")
        for column in table.columns[1:]:
            column.justify = "right"
        for outcome, n in [("accepted", totals.kept), *_by_count(totals.rejected)]:
            table.add_row(outcome, f"{n:,}", f"{n / max(1, totals.candidates):.1%}")
        self._console.print(table)
        if surplus := totals.accepted - totals.kept:
            self._console.print(
                f"generate  {surplus:,} more accepted rows stay in the ledger, for a larger "
                "num_examples"
            )
        if self._tracker:
            self._tracker.log(self._metrics(totals))

    def _panel(self, totals: Totals) -> Table:
        in_flight, busy = self._wire()
        grid = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=totals.target, completed=totals.kept, width=40)
        grid.add_row(
            "accepted",
            bar,
            f"{totals.kept:,}/{totals.target:,} rows, {totals.acceptance:.0%} of candidates",
        )
        reasons = ", ".join(f"{reason} {n}" for reason, n in _by_count(totals.rejected)[:5])
        grid.add_row("rejected", reasons or "none", "")
        grid.add_row(
            "teacher",
            f"{totals.replies_per_second:.1f} replies/s, {in_flight} in flight, {busy} times busy",
            f"{totals.tokens / 1000:,.0f}k tokens",
        )
        grid.add_row("cost", self._cost(totals) or "no price known", _left(totals))
        return grid

    def _line(self, totals: Totals) -> str:
        in_flight, busy = self._wire()
        return (
            f"generate  {totals.kept}/{totals.target} rows, {totals.acceptance:.0%} of candidates "
            f"accepted, {self._facts(totals)}, {totals.replies_per_second:.1f}/s, "
            f"{in_flight} in flight"
            + (f", {busy} times busy" if busy else "")
            + f", {_left(totals)}"
        )

    def _facts(self, totals: Totals) -> str:
        text = f"{totals.replies} replies, {totals.tokens / 1000:,.0f}k tokens"
        cost = self._cost(totals)
        return f"{text}, {cost}" if cost else text

    def _cost(self, totals: Totals) -> str:
        spent = self._spent()
        if spent is None:
            return ""
        if not 0 < totals.accepted < totals.target:
            return f"${spent:.4f}"
        return f"${spent:.4f} of about ${spent / totals.accepted * totals.target:.2f}"

    def _metrics(self, totals: Totals) -> dict[str, Any]:
        in_flight, busy = self._wire()
        metrics = {
            "accepted": totals.kept,
            "acceptance": totals.acceptance,
            "replies": totals.replies,
            "tokens": totals.tokens,
            "in_flight": in_flight,
            "busy": busy,
            **{f"rejected/{reason}": n for reason, n in totals.rejected.items()},
        }
        spent = self._spent()
        return metrics if spent is None else {**metrics, "cost_usd": spent}


def _by_count(reasons: Counter[str]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _left(totals: Totals) -> str:
    left = totals.seconds_left
    if left is None:
        return "time left unknown"
    minutes, seconds = divmod(round(left), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02} left"


def _trackio(name: str) -> Any:
    try:
        import trackio
    except ImportError:
        raise InputError("report_to trackio: pip install trackio, or leave report_to out") from None
    trackio.init(project="code-alpaca", name=name)  # a local database; nothing leaves the machine
    return trackio
