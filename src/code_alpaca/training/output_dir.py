"""Decide what a run may resume from its output_dir: its configuration and complete checkpoints.

A checkpoint is complete once every rank has written its part, and `trainer.CheckpointCallback`
has marked it; the Trainer has no such mark.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.records import RunRecord
from code_alpaca.training.arguments import OLD_SPELLINGS, TRL_KEYS, SFTArguments, TrainingSetup

STARTED = "sft_config.json"  # the configuration, written before training starts
MARKER = "complete.json"  # contains the seconds of training up to the checkpoint
OLD_MARKER = "whole"  # of versions up to 0.1
# What torch.save raises for a failed write: "[enforce fail at inline_container.cc:672] .
# unexpected pos 54400 vs 54288" and "basic_ios::clear: iostream error".
FAILED_WRITE = ("inline_container", "iostream error")
PROBE_BYTES = 1 << 20  # does not fit on a full disk


def identifying_config(setup: TrainingSetup) -> dict[str, Any]:
    """Return the configuration as plain JSON, without secrets.

    It contains the keys of SFTArguments, those of TRL that shape every training, and all others
    that differ from the defaults of their library. With DeepSpeed it names the layout, since
    sharded checkpoints cannot be loaded in another one.
    """
    script_args = setup.args.__dict__
    defaults = {
        item.name: item.default
        for args in (setup.training, setup.model)
        for item in dataclasses.fields(args)
    }
    recorded = script_args.keys() | keys_with(Role.RECORDED, TRL_KEYS)
    if not setup.model.use_peft:
        recorded = {key for key in recorded if not key.startswith("lora_")}
    secret = keys_with(Role.SECRET, TRL_KEYS)
    values = {**setup.model.__dict__, **setup.training.to_dict(), **script_args}
    config = {
        key: value
        for key, value in sorted(values.items())
        if key not in secret
        and not key.startswith("_")
        and isinstance(value, str | int | float | bool | list | dict | None)
        and (key in recorded or (key in defaults and value != defaults[key]))
    }
    if setup.layout.uses_deepspeed:
        config["deepspeed"] = str(setup.layout)
    if not setup.args.from_scratch:
        config["base_sha256"] = fs.weights_sha256(setup.model_name)
    return config


def claim(folder: Path, config: dict[str, Any], dataset_revision: str, *, write: bool) -> bool:
    """Record the configuration of a run in its folder; return whether the run is finished.

    Raises:
        InputError: the folder contains a model or checkpoints of another run.
    """
    current = json.loads(json.dumps({**config, "dataset_revision": dataset_revision}))
    recorded = _read_recorded(folder / STARTED)
    has_weights = any(folder.glob("*.safetensors"))
    if recorded is None and has_weights:
        raise InputError(
            f"{folder} contains a model that code-alpaca did not write; use another output_dir"
        )
    is_finished = has_weights and (folder / RunRecord.FILE).exists()
    identifying = current.keys() | (recorded or {}).keys()
    identifying -= keys_with(Role.FREE, SFTArguments, TRL_KEYS)
    changes = [
        f"{key}: {recorded.get(key)!r} -> {current.get(key)!r}"
        for key in sorted(identifying if recorded else ())
        if recorded.get(key) != current.get(key)
    ]
    if changes and (is_finished or find_last_checkpoint(folder)):
        raise InputError(
            f"{folder} already contains a model trained with a different config "
            f"({'; '.join(changes)}); use another output_dir, or the old values to resume"
        )
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        if recorded is None or changes:
            fs.write_json(folder / STARTED, current)
    return is_finished


def _read_recorded(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{path} is not valid JSON; delete its folder and train again") from None
    # A key of a later version had its default before.
    return vars(SFTArguments()) | OLD_SPELLINGS.update(values, warn=False)


def find_last_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint."""
    complete = [path for path in list_checkpoints(folder) if _marker(path).exists()]
    return complete[-1] if complete else None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint folders, complete or not, by step."""
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def mark_checkpoint(checkpoint: Path, seconds: float | None) -> None:
    """Mark a checkpoint as complete, and flush it to the disk."""
    fs.write_json(checkpoint / MARKER, {"seconds": seconds})
    os.sync()  # or a power failure could leave the mark on the disk without the weights


def delete_checkpoint(checkpoint: Path) -> None:
    """Delete a checkpoint, its mark first: a kill must not leave part of it marked."""
    _marker(checkpoint).unlink(missing_ok=True)
    shutil.rmtree(checkpoint)


def delete_incomplete_checkpoints(folder: Path) -> list[str]:
    """Delete the checkpoints that were interrupted, and return their names."""
    incomplete = [path for path in list_checkpoints(folder) if not _marker(path).exists()]
    for path in incomplete:
        shutil.rmtree(path)
    return sorted(path.name for path in incomplete)


def training_seconds(checkpoint: Path | None) -> float | None:
    """Return the seconds of training up to a checkpoint, or None if it does not record them."""
    if checkpoint is None:
        return 0.0
    try:
        return float(json.loads(_marker(checkpoint).read_text(encoding="utf-8"))["seconds"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def trained_epochs(checkpoint: Path) -> float:
    """Return the epochs of training up to a checkpoint."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return float(state.get("epoch") or 0)


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Raise the OSError behind a failed torch.save, which torch does not report."""
    try:
        yield
    except RuntimeError as error:
        if any(text in str(error) for text in FAILED_WRITE):
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(PROBE_BYTES))
        raise


def _marker(checkpoint: Path) -> Path:
    old = checkpoint / OLD_MARKER
    return old if old.exists() else checkpoint / MARKER
