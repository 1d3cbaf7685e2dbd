"""Checkpoints that count only when they are whole, in every process."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import fs

if TYPE_CHECKING:
    from transformers import TrainerCallback

WHOLE = "whole"  # written when every process has written its part; holds the seconds until then
# In the words of torch.save for a write that failed: "[enforce fail at inline_container.cc:672]
# . unexpected pos 54400 vs 54288" and "basic_ios::clear: iostream error".
WRITER = ("inline_container", "iostream error")
ASKED = 1 << 20  # bytes, for which a full disk has no room


def last_checkpoint(out: Path) -> Path | None:
    """The newest checkpoint that was written to its end."""
    complete = [path for path in out.glob("checkpoint-*") if (path / WHOLE).exists()]
    return max(complete, key=_step, default=None)


def seconds_until(checkpoint: Path | None) -> float | None:
    """Return the seconds of training behind a checkpoint, over all starts that led to it.

    Args:
        checkpoint: None: training starts from nothing.

    Returns:
        None for a checkpoint of a version that did not record them.
    """
    if checkpoint is None:
        return 0.0
    try:
        return float(json.loads((checkpoint / WHOLE).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def epochs_until(checkpoint: Path | None) -> float:
    """Return the epochs behind a checkpoint."""
    if checkpoint is None:
        return 0.0
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return float(state.get("epoch") or 0)


def delete_torn(out: Path) -> list[str]:
    """Delete checkpoints that were not written to their end, and return their names."""
    torn = [path for path in out.glob("checkpoint-*") if not (path / WHOLE).exists()]
    for path in torn:
        shutil.rmtree(path)
    return sorted(path.name for path in torn)


@contextmanager
def disk_errors(out: Path) -> Iterator[None]:
    """Give the failed write of a torch.save its reason back, which torch does not tell.

    Raises:
        OSError: what the disk says when it is asked to take more.
    """
    try:
        yield
    except RuntimeError as error:
        if any(words in str(error) for words in WRITER):
            with tempfile.TemporaryFile(dir=out) as file:
                file.write(bytes(ASKED))
        raise


def keep_whole(limit: int | None) -> TrainerCallback:
    """A callback that marks a checkpoint once it is whole, and only then deletes older ones.

    The Trainer's own `save_total_limit` deletes as soon as the first process has written its
    part, so that a kill at that moment can leave nothing to go on from.

    Args:
        limit: how many to keep; None keeps all.
    """
    from accelerate import PartialState
    from transformers import TrainerCallback

    class KeepWhole(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step = state.global_step  # of the checkpoint that training resumes from
            checkpoint = Path(args.output_dir, f"checkpoint-{step}") if step else None
            self.started, self.before = time.monotonic(), seconds_until(checkpoint)

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            PartialState().wait_for_everyone()
            if not state.is_world_process_zero:
                return
            out = Path(args.output_dir)
            mark = out / f"checkpoint-{state.global_step}" / WHOLE
            seconds = time.monotonic() - self.started
            known = self.before is not None
            fs.write_json(mark, {"seconds": seconds + self.before if known else None})
            os.sync()  # or a machine that dies has the mark on its disk, and not the weights
            older = sorted(out.glob("checkpoint-*"), key=_step)
            for path in older[:-limit] if limit else []:
                (path / WHOLE).unlink(missing_ok=True)
                shutil.rmtree(path)

    return KeepWhole()


def _step(path: Path) -> int:
    return int(path.name.split("-")[1])
