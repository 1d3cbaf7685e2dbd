"""Stop a run on SIGTERM or SIGHUP as on Ctrl-C, so that replies in flight are kept."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

from code_alpaca.core.errors import INTERRUPTED, Stopped


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Raise `Stopped` at the first SIGTERM or SIGHUP, as on Ctrl-C; a second one kills the process.

    An ignored signal (nohup) stays ignored. Outside the main thread nothing happens.
    """
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        for handled in previous:
            loop.remove_signal_handler(handled)  # back to the default, which kills
        if task:
            task.cancel()

    for number, handler in previous.items():
        if handler is not signal.SIG_IGN:
            with contextlib.suppress(RuntimeError, ValueError):
                loop.add_signal_handler(number, stop, number)
    try:
        yield
    except asyncio.CancelledError:
        if received:
            raise Stopped(INTERRUPTED) from None
        raise
    finally:
        for number, handler in previous.items():
            if loop.remove_signal_handler(number) or received:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
