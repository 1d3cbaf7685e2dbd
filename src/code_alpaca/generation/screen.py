"""What a generating run shows: a live line on a terminal, a log line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sized

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from code_alpaca.ledger import Ledger

LOG_EVERY_S = 5.0


class Screen:
    """Progress towards `target` accepted rows."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._console = Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            TextColumn("generate"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[facts]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("accepted", total=target, facts="")
        self._shown_at = 0.0

    def __enter__(self) -> Screen:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, accepted: Sized, ledger: Ledger, retried: int = 0) -> None:
        """Say how far the run is; cheap enough to call after every reply."""
        due = time.monotonic() - self._shown_at
        if due < (0.2 if self._console.is_terminal else LOG_EVERY_S):
            return
        self._shown_at = time.monotonic()
        done = min(len(accepted), self._target)
        facts = self._facts(ledger, retried)
        self._progress.update(self._task, completed=done, facts=facts)
        if not self._console.is_terminal:
            self._console.print(f"generate  {done}/{self._target} accepted, {facts}")

    def finish(self, ledger: Ledger) -> None:
        """The last line: what there is, what it took, and why the rest was dropped."""
        done = min(ledger.accepted_count(), self._target)
        self._progress.update(self._task, completed=done, facts=self._facts(ledger, 0))
        self._progress.stop()
        self._console.print(f"generate  {done} accepted, {self._facts(ledger, 0)}")
        reasons = ledger.reasons()
        if reasons:
            told = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
            self._console.print(f"generate  {sum(reasons.values())} rejected: {told}")

    @staticmethod
    def _facts(ledger: Ledger, retried: int) -> str:
        usage = ledger.usage()
        tokens = (usage["prompt_tokens"] + usage["completion_tokens"]) / 1000
        text = f"{usage['replies']} replies, {tokens:,.0f}k tokens"
        return f"{text}, {retried} tried again" if retried else text
