"""What an `output_dir` is of, written before training starts: nothing resumes another's work."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.checkpoints import last_checkpoint
from code_alpaca.training.trl_keys import TRL_KEYS

if TYPE_CHECKING:
    from code_alpaca.training.arguments import Job

STARTED, FINISHED = "sft_config.json", "run.json"


def plain_config(job: Job) -> dict[str, Any]:
    """What was configured, as plain JSON, without secrets: what shapes every training, and what
    else is not as the libraries have it."""
    defaults = {
        item.name: item.default
        for kind in (job.training, job.model)
        for item in dataclasses.fields(kind)
    }
    ours = job.arguments.__dict__
    recorded = {*ours, *keys_with(Role.RECORDED, TRL_KEYS)}
    if not job.model.use_peft:
        recorded = {key for key in recorded if not key.startswith("lora_")}
    secret = keys_with(Role.SECRET, TRL_KEYS)
    merged = {**job.model.__dict__, **job.training.to_dict(), **ours}
    return {
        key: value
        for key, value in sorted(merged.items())
        if key not in secret
        and not key.startswith("_")
        and isinstance(value, str | int | float | bool | list | dict | None)
        and (key in recorded or (key in defaults and value != defaults[key]))
    }


def claim(out: Path, config: dict[str, Any], revision: str, *, write: bool = True) -> bool:
    """Make `out` the folder of this very training; True if it is finished there already.

    Args:
        write: False only looks.

    Raises:
        InputError: it holds a model or checkpoints of another configuration or dataset.
    """
    now = json.loads(json.dumps({**config, "dataset_revision": revision}))
    path = out / STARTED
    before = _read(path)
    weights = any(out.glob("*.safetensors"))
    finished = weights and (out / FINISHED).exists()
    if before is None and weights:
        raise InputError(f"{out} holds a model that this command did not make; use another folder")
    different = [
        f"{key}: {(before or {}).get(key)!r} there, {now.get(key)!r} now"
        for key in sorted({*now, *(before or {})} - keys_with(Role.FREE, SFTArguments, TRL_KEYS))
        if before is not None and before.get(key) != now.get(key)
    ]
    if different and (finished or last_checkpoint(out)):
        raise InputError(
            f"{out} holds a model of another configuration or dataset ({'; '.join(different)}); "
            "use another output_dir, or delete it"
        )
    if write:
        out.mkdir(parents=True, exist_ok=True)
        if before is None or different:
            fs.write_json(path, now)
    return finished


def _read(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{path} is broken; delete its folder and train again") from None
