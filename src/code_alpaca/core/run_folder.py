"""A run folder belongs to one config: it is resumed with that config and refused to any other.

A key's role (`key_roles`) decides whether it may differ from the first start. FREE keys change no
row. REQUEST keys may change for requests that are not answered yet, for example after a prompt
exceeded the teacher's context window. Answered requests keep the payload that was sent, so no
reply is paid for twice, and every change is recorded with the first request that it applies to:
the dataset is a function of the recorded configs.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from code_alpaca.core.config import StageConfig, write_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.ledger import Ledger, now


@contextlib.contextmanager
def open_run(run_dir: Path, config: StageConfig, facts: Mapping[str, str]) -> Iterator[Ledger]:
    """The ledger of `run_dir`, made or found.

    Args:
        facts: hashes of what the config only names (seed tasks, prompts, snippets).

    Raises:
        InputError: the folder was made by another config or from other facts, cannot be written,
            or holds a dataset whose ledger was lost.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make run_dir {run_dir}: {error.strerror}; choose another path"
        ) from None
    path = run_dir / "ledger.sqlite"
    try:
        _refuse_emptied(path)
    except OSError as error:
        raise InputError(
            f"cannot use {error.filename} ({error.strerror}); make run_dir and what is in it "
            "readable and writable"
        ) from None
    with Ledger(path) as ledger:
        resolved = json.loads(config.model_dump_json())
        if ledger.meta("config") is None or ledger.holds_nothing():
            _refuse_lost(run_dir)
            ledger.forget()  # nothing came of it: any config may start it
            for key, value in facts.items():
                ledger.set_meta(key, value)
            ledger.set_meta("created_at", now())
        else:
            _resume(run_dir, ledger, config, resolved, facts)
        ledger.set_meta("config", json.dumps(resolved))
        write_yaml(run_dir / "config.yaml", resolved)
        yield ledger


def _refuse_emptied(path: Path) -> None:
    """Refuse a ledger that is gone or empty where a run was: all of it would be paid for again.

    Asked before the file is opened, which would make one, and delete what a log still holds.
    """
    if path.exists() and path.stat().st_size:
        return
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise InputError(
            f"{path} is {'empty' if path.exists() else 'gone'}, but its log {log.name} is not: the "
            "run was damaged; keep both, restore ledger.sqlite from a backup, or use a new run_dir"
        )
    if path.exists() and path.with_name("config.yaml").exists():
        raise InputError(
            f"{path} is empty beside the config of a run: it was damaged, and the run would be "
            "paid for again; restore it from a backup, or delete it if nothing was paid for yet"
        )
    _refuse_lost(path.parent)


def _refuse_lost(run_dir: Path) -> None:
    """Refuse a dataset that has rows, where the ledger of its run has none."""
    try:
        manifest = json.loads((run_dir / "dataset/manifest.json").read_text(encoding="utf-8"))
        rows = int(manifest["counts"]["default"])
    except (OSError, ValueError, KeyError, TypeError):
        return  # no dataset; what else is there, `build` refuses
    if rows:
        raise InputError(
            f"{run_dir}/dataset holds {rows} rows, and ledger.sqlite beside it none: the ledger "
            "was lost or the rows came from elsewhere; restore the ledger from a backup, or use a "
            "new run_dir, so that nothing is paid for twice or overwritten"
        )


def _resume(
    run_dir: Path,
    ledger: Ledger,
    config: StageConfig,
    new: dict[str, Any],
    facts: Mapping[str, str],
) -> None:
    old = config.update_recorded(ledger.record("config", {}))
    # A key that came with a later version had its default then.
    defaults = {name: field.default for name, field in type(config).model_fields.items()}
    defaults = json.loads(json.dumps(defaults, default=str))
    before = {key: old.get(key, defaults[key]) for key in new}
    changed = {key: (before[key], new[key]) for key in new if before[key] != new[key]}
    _same_run(run_dir, config, changed)
    for key, value in facts.items():
        if ledger.meta(key) != value:
            raise InputError(
                f"{run_dir} was made with another {key.removesuffix('_sha256')} "
                f"({ledger.meta(key)} there, {value} now); use a new run_dir, or put the old one "
                "back"
            )
    request_keys = keys_with(Role.REQUEST, type(config))
    shaped = {key: list(pair) for key, pair in changed.items() if key in request_keys}
    if shaped:
        _record_change(ledger, shaped, new)
    if damaged := ledger.reject_damaged():
        print(
            f"warning   {damaged} accepted rows of {ledger.path} were damaged since they were "
            "written, and are rejected as damaged_row; check the disk"
        )


def _same_run(run_dir: Path, config: StageConfig, changed: dict[str, tuple[Any, Any]]) -> None:
    changeable = keys_with(Role.FREE, type(config)) | keys_with(Role.REQUEST, type(config))
    refused = {key: pair for key, pair in changed.items() if key not in changeable}
    refused |= {key: pair for key, pair in changed.items() if config.breaks_resume(key, *pair)}
    if refused:
        different = "; ".join(f"{key}: {a!r} there, {b!r} now" for key, (a, b) in refused.items())
        raise InputError(
            f"{run_dir} holds a run of another config ({different}); use a new run_dir, or the "
            "old values to resume this one"
        )


def _record_change(ledger: Ledger, shaped: dict[str, list[Any]], new: dict[str, Any]) -> None:
    first = ledger.first_unanswered()
    changes = ledger.record("config_changes", [])
    changes.append({"from_request": first, "at": now(), "changed": shaped})
    with ledger.transaction():  # or a kill between the two would record the change twice
        ledger.set_meta("config_changes", json.dumps(changes))
        ledger.set_meta("config", json.dumps(new))
    values = ", ".join(f"{key} {old!r} -> {value!r}" for key, (old, value) in shaped.items())
    print(f"generate  config changed for requests not answered yet, from {first} on: {values}")
