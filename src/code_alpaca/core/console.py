"""Print what a stage reports: prefixed lines, warnings, tables and progress.

Every line starts with the name of its stage, padded to one column, so that the log of a pipeline
reads as a table. Text is printed literally: rich markup in a model's answer is not interpreted.
`rich` is imported only for tables and progress bars.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console

PREFIX_WIDTH = 10
Log = Callable[[str], None]  # prints a line: `Stage.print`, or a function that collects lines
LOG_INTERVAL_S = 10.0  # between two lines of progress, where none can be drawn


class Stage:
    """The output of one stage, whose name is the prefix of its lines.

    Args:
        stderr: write to standard error, so that standard output stays a command's result.
        enabled: false on every rank but the first: nothing is printed.
    """

    def __init__(self, name: str, *, stderr: bool = False, enabled: bool = True) -> None:
        self.name, self.stderr, self.enabled = name, stderr, enabled
        self._rich: Console | None = None

    def print(self, message: Any) -> None:
        """Print a line of text after the stage's name, or a rich renderable such as a table."""
        if isinstance(message, str):
            self._write(self.name, message)
        elif self.enabled:
            self.rich.print(message)

    def warning(self, text: str) -> None:
        """Print something that the user should look into; the run continues."""
        self._write("warning", text)

    def note(self, text: str) -> None:
        """Print something unexpected that needs no action."""
        self._write("note", text)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str]],
        *,
        title: str | None = None,
        left: int = 1,
    ) -> None:
        """Print a table, the first `left` columns aligned to the left and the others right."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title, title_justify="left")
        for index, column in enumerate(columns):
            table.add_column(column, justify="left" if index < left else "right")
        for row in rows:
            table.add_row(*map(Text, row))
        self.print(table)

    @contextmanager
    def progress(
        self,
        total: int,
        description: str,
        *,
        completed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> Iterator[Callable[[int], None]]:
        """Yield a function that reports the number completed so far.

        It draws a bar on a terminal, and elsewhere prints a line every ten seconds at most, by
        `clock`, in seconds.
        """
        if not self.enabled:
            yield lambda completed: None
        elif self.draws:
            with self._bar(total, description, completed) as update:
                yield update
        else:
            printed_at = clock()

            def log(completed: int) -> None:
                nonlocal printed_at
                if clock() - printed_at >= LOG_INTERVAL_S:
                    printed_at = clock()
                    self.print(f"{description}: {completed} of {total}")

            yield log

    @property
    def draws(self) -> bool:
        """Whether progress can be drawn: on a terminal that moves its cursor (not TERM=dumb)."""
        return self._file.isatty() and not self.rich.is_dumb_terminal

    @property
    def rich(self) -> Console:
        """The rich console of tables and bars, for a stage that draws something else."""
        if self._rich is None:
            from rich.console import Console

            class PipeConsole(Console):
                def on_broken_pipe(self) -> None:
                    exit_if_unread()

            self._rich = PipeConsole(
                stderr=self.stderr, highlight=False, soft_wrap=True, quiet=not self.enabled
            )
        return self._rich

    @property
    def _file(self) -> TextIO:
        return sys.stderr if self.stderr else sys.stdout

    def _write(self, prefix: str, text: str) -> None:
        if not self.enabled:
            return
        try:
            self._file.write(f"{prefix:<{PREFIX_WIDTH}}{text}\n" if prefix else f"{text}\n")
            self._file.flush()
        except BrokenPipeError:
            exit_if_unread()
            raise

    @contextmanager
    def _bar(self, total: int, description: str, completed: int) -> Iterator[Callable[[int], None]]:
        from rich import progress

        text = progress.TextColumn(f"{self.name:<{PREFIX_WIDTH}}{description}", markup=False)
        counts = (progress.MofNCompleteColumn(), progress.TimeRemainingColumn())
        columns = (text, progress.BarColumn(), *counts)
        with progress.Progress(*columns, console=self.rich, transient=True) as display:
            bar = display.add_task(description, total=total, completed=completed)
            yield lambda completed: display.update(bar, completed=completed)


def exit_if_unread() -> None:
    """Exit like other Unix tools if nobody reads the output, as in `code-alpaca report | head`."""
    pipes = select.poll()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # not a file: a test's capture
            pipes.register(stream.fileno(), 0)
    closed = [descriptor for descriptor, event in pipes.poll(0) if event & select.POLLERR]
    for descriptor in closed:  # Python flushes again at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    if closed:
        raise SystemExit(128 + signal.SIGPIPE)


def plural(count: int, singular: str, plural: str = "") -> str:
    """Return a count with its noun: `1 row`, `2,000 rows`; `plural` if it is irregular."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def duration(seconds: float) -> str:
    """Return a duration with its unit: `57 s`, `12 min`, `3 h 05 min`, `2 d 4 h`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 120:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


stage = Stage  # console.stage("eval").print(...)
# For code that runs within several stages.
warning, note = Stage("").warning, Stage("").note
