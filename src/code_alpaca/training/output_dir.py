"""Record the configuration of a run in its output_dir, so that no other run resumes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.records import RunRecord
from code_alpaca.training.arguments import OLD_SPELLINGS, SFTArguments, TrainingSetup
from code_alpaca.training.checkpoints import find_last_checkpoint
from code_alpaca.training.trl_keys import TRL_KEYS

STARTED = "sft_config.json"  # the configuration, written before training starts


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


def claim_output_dir(
    output_dir: Path, config: dict[str, Any], dataset_revision: str, *, write: bool = True
) -> bool:
    """Record the configuration of a run in its folder; return whether the run is finished.

    Args:
        write: False only checks.

    Raises:
        InputError: the folder contains a model or checkpoints of another run.
    """
    current = json.loads(json.dumps({**config, "dataset_revision": dataset_revision}))
    recorded = _read_recorded(output_dir / STARTED)
    has_weights = any(output_dir.glob("*.safetensors"))
    if recorded is None and has_weights:
        raise InputError(
            f"{output_dir} contains a model that this command did not write; use another folder"
        )
    is_finished = has_weights and (output_dir / RunRecord.FILE).exists()
    changes = [] if recorded is None else _list_changes(recorded, current)
    if changes and (is_finished or find_last_checkpoint(output_dir)):
        raise InputError(
            f"{output_dir} contains a model of another configuration or dataset "
            f"({'; '.join(changes)}); use another output_dir, or delete it"
        )
    if write:
        output_dir.mkdir(parents=True, exist_ok=True)
        if recorded is None or changes:
            fs.write_json(output_dir / STARTED, current)
    return is_finished


def _read_recorded(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        values = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        raise InputError(f"{path} is not valid JSON; delete its folder and train again") from None
    return OLD_SPELLINGS.update(values, warn=False)


def _list_changes(recorded: dict[str, Any], current: dict[str, Any]) -> list[str]:
    keys = recorded.keys() | current.keys()
    return [
        f"{key}: {recorded.get(key)!r} there, {current.get(key)!r} now"
        for key in sorted(keys - keys_with(Role.FREE, SFTArguments, TRL_KEYS))
        if recorded.get(key) != current.get(key)
    ]
