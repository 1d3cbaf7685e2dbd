"""Open a run folder: create it for a config, or resume it with the same config.

A key's role (`key_roles`) decides whether it may differ from the first start. FREE keys change no
row. REQUEST keys may change for requests that are not answered yet, for example after a prompt
exceeded the teacher's context window. Answered requests keep their payload, so no reply is paid for
twice, and every change is recorded with the first request that it applies to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from code_alpaca.core import console
from code_alpaca.core.config import StageConfig, write_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.ledger import Ledger, utc_now
from code_alpaca.core.records import Manifest


@contextlib.contextmanager
def open_run(run_dir: Path, config: StageConfig, identity: Mapping[str, str]) -> Iterator[Ledger]:
    """Open the ledger of a new or existing run folder.

    `identity` contains hashes of files that the config names (seed tasks, prompts, snippets).

    Raises:
        InputError: the folder was created with another config or identity, cannot be written, or
            contains a dataset whose ledger was lost.
    """
    path = _create_folder(run_dir)
    with Ledger(path) as ledger:
        if ledger.meta("config") is None or ledger.is_empty():
            _refuse_lost_ledger(run_dir)
            ledger.reset()  # without a reply any config may start it
            for key, value in identity.items():
                ledger.set_meta(key, value)
            ledger.set_meta("created_at", utc_now())
            resolved = json.loads(config.model_dump_json())
        else:
            resolved = _resume(ledger, config, identity)
        ledger.set_meta("config", json.dumps(resolved))
        write_yaml(run_dir / "config.yaml", resolved)
        yield ledger


def _create_folder(run_dir: Path) -> Path:
    """Create the folder and return the path of its ledger."""
    path = run_dir / "ledger.sqlite"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        _refuse_emptied_ledger(path)
    except OSError as error:
        raise InputError(
            f"cannot use {error.filename} ({error.strerror}); make run_dir and its content "
            "readable and writable, or choose another path"
        ) from None
    return path


def _refuse_emptied_ledger(path: Path) -> None:
    """Refuse a ledger that was deleted or emptied: all of the run would be paid for again.

    Checked before the file is opened, which would delete the content of its write-ahead log.
    """
    if path.exists() and path.stat().st_size:
        return
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:
        raise InputError(
            f"{path} is {'empty' if path.exists() else 'missing'}, but its log {log.name} is not: "
            "the run was damaged; keep both, restore ledger.sqlite from a backup, or use a new "
            "run_dir"
        )
    if path.exists() and path.with_name("config.yaml").exists():
        raise InputError(
            f"{path} is empty, but config.yaml next to it shows a started run: it was damaged; "
            "restore it from a backup, or delete it if nothing was paid for yet"
        )
    _refuse_lost_ledger(path.parent)


def _refuse_lost_ledger(run_dir: Path) -> None:
    """Refuse a folder whose dataset has rows and whose ledger has none."""
    try:
        rows = Manifest.load(run_dir / "dataset/manifest.json").counts.get("default", 0)
    except InputError:
        return  # no dataset of code-alpaca; `build` refuses other content
    if rows:
        raise InputError(
            f"{run_dir}/dataset contains {rows} rows, but the ledger.sqlite next to it has none: "
            "the ledger was lost, or the rows come from elsewhere; restore the ledger from a "
            "backup, or use a new run_dir, so that nothing is paid for twice or overwritten"
        )


def _resume(ledger: Ledger, config: StageConfig, identity: Mapping[str, str]) -> dict[str, Any]:
    """Check that a run may be resumed with a config, and return the config to record."""
    run_dir, resolved = ledger.path.parent, json.loads(config.model_dump_json())
    recorded = ledger.record("config", {})
    # A key of a later version had its default before.
    defaults = {name: field.default for name, field in type(config).model_fields.items()}
    previous = json.loads(json.dumps(defaults, default=str)) | config.update_recorded(recorded)
    changed = {
        key: (previous[key], value) for key, value in resolved.items() if previous[key] != value
    }
    _refuse_other_config(run_dir, config, changed)
    _refuse_other_identity(run_dir, ledger, identity)
    # An unchanged value keeps its spelling: rows were written under it.
    unchanged = recorded.keys() & resolved.keys() - changed.keys()
    resolved |= {key: recorded[key] for key in unchanged}
    request_keys = keys_with(Role.REQUEST, type(config))
    if request_changes := {key: list(changed[key]) for key in changed if key in request_keys}:
        _record_changes(ledger, request_changes, resolved)
    if damaged := ledger.reject_damaged():
        console.warning(
            f"{damaged} accepted rows of {ledger.path} were damaged on disk and are rejected as "
            "damaged_row; check the disk"
        )
    return resolved


def _refuse_other_config(
    run_dir: Path, config: StageConfig, changed: Mapping[str, tuple[Any, Any]]
) -> None:
    changeable = keys_with(Role.FREE, type(config)) | keys_with(Role.REQUEST, type(config))
    differences = "; ".join(
        f"{key}: {old!r} there, {new!r} now"
        for key, (old, new) in changed.items()
        if key not in changeable or config.breaks_resume(key, old, new)
    )
    if differences:
        raise InputError(
            f"{run_dir} contains a run of another config ({differences}); use a new run_dir, or "
            "the old values to resume this one"
        )


def _refuse_other_identity(run_dir: Path, ledger: Ledger, identity: Mapping[str, str]) -> None:
    for key, value in identity.items():
        if (recorded := ledger.meta(key)) != value:
            raise InputError(
                f"{run_dir} was created with another {key.removesuffix('_sha256')} "
                f"({recorded} there, {value} now); use a new run_dir, or restore the old one"
            )


def _record_changes(
    ledger: Ledger, request_changes: Mapping[str, list[Any]], resolved: Mapping[str, Any]
) -> None:
    first = ledger.first_unanswered()
    changes = ledger.record("config_changes", [])
    changes.append({"from_request": first, "at": utc_now(), "changed": request_changes})
    with ledger.transaction():  # a kill between the two would record the change twice
        ledger.set_meta("config_changes", json.dumps(changes))
        ledger.set_meta("config", json.dumps(resolved))
    values = ", ".join(f"{key} {old!r} -> {new!r}" for key, (old, new) in request_changes.items())
    console.stage("generate").print(
        f"config changed for requests not answered yet, from request {first}: {values}"
    )
