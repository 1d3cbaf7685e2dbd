"""Find complete checkpoints, and delete those that a kill interrupted.

A checkpoint is complete once every rank has written its part. The callback that marks it is
`callbacks.CheckpointCallback`; the Trainer has no such mark.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from code_alpaca.core import fs

MARKER = "complete.json"  # contains the seconds of training up to the checkpoint
OLD_MARKER = "whole"  # of versions up to 0.1
# What torch.save raises for a failed write: "[enforce fail at inline_container.cc:672] .
# unexpected pos 54400 vs 54288" and "basic_ios::clear: iostream error".
FAILED_WRITE = ("inline_container", "iostream error")
PROBE_BYTES = 1 << 20  # does not fit on a full disk


def find_last_checkpoint(output_dir: Path) -> Path | None:
    """Return the newest complete checkpoint."""
    complete = [path for path in list_checkpoints(output_dir) if _marker(path).exists()]
    return complete[-1] if complete else None


def list_checkpoints(output_dir: Path) -> list[Path]:
    """Return the checkpoint folders, complete or not, by step."""
    return sorted(output_dir.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def mark_complete(checkpoint: Path, seconds: float | None) -> None:
    """Mark a checkpoint as complete, and flush it to the disk."""
    fs.write_json(checkpoint / MARKER, {"seconds": seconds})
    os.sync()  # or a power failure could leave the mark on the disk without the weights


def delete_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, its mark first: a kill must not leave part of it marked."""
    _marker(checkpoint).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def delete_incomplete(output_dir: Path) -> list[str]:
    """Delete the checkpoints that were interrupted, and return their names."""
    incomplete = [path for path in list_checkpoints(output_dir) if not _marker(path).exists()]
    for path in incomplete:
        shutil.rmtree(path)
    return sorted(path.name for path in incomplete)


def training_seconds(checkpoint: Path | None) -> float | None:
    """Return the seconds of training up to a checkpoint, over all starts.

    Args:
        checkpoint: None: training starts from the beginning.

    Returns:
        None for a checkpoint of a version that did not record them.
    """
    if checkpoint is None:
        return 0.0
    try:
        return float(json.loads(_marker(checkpoint).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def trained_epochs(checkpoint: Path | None) -> float:
    """Return the epochs of training up to a checkpoint."""
    if checkpoint is None:
        return 0.0
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return float(state.get("epoch") or 0)


@contextmanager
def disk_errors(output_dir: Path) -> Iterator[None]:
    """Find the reason of a failed torch.save, which torch does not report.

    Raises:
        OSError: of another write to the same disk.
    """
    try:
        yield
    except RuntimeError as error:
        if any(text in str(error) for text in FAILED_WRITE):
            with tempfile.TemporaryFile(dir=output_dir) as file:
                file.write(bytes(PROBE_BYTES))
        raise


def _marker(checkpoint: Path) -> Path:
    old = checkpoint / OLD_MARKER
    return old if old.exists() else checkpoint / MARKER
