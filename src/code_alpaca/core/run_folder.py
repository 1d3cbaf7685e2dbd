"""Open a run folder: create it for a config, or resume it with the same config.

A key's role (`key_roles`) decides whether it may differ from the first start. FREE keys change no
row. REQUEST keys may change for requests that are not answered yet, for example after a prompt
exceeded the teacher's context window. A user's own files may be edited where the key
`accept_edited_files` permits it. Answered requests keep their payload, so no reply is paid for
twice, and every change is recorded with the first request that it applies to.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple, TypeVar

from code_alpaca.core import console
from code_alpaca.core.config import StageConfig, write_yaml
from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.ledger import Ledger, utc_now
from code_alpaca.core.plugins import PluginError
from code_alpaca.core.records import Manifest

MAX_NAMES = 5  # of a list that changed, in a message
PROMPT_VERSION = "prompt_version"
C = TypeVar("C", bound=StageConfig)


class RunInput(NamedTuple):
    """Something that a config only names, and that identifies the run by its content."""

    key: str  # in the ledger
    version: str  # a hash
    name: str  # for messages
    is_editable: bool = False  # an edited one is accepted if `accept_edited_files` is set
    decides_rows: bool = False  # it applies to replies without a decision, not only to new requests


def resume_config(run_dir: Path, config: C) -> C:
    """Return the config with the keys that an earlier version did not have, as its run needs them.

    `StageConfig.VALUES_BEFORE` lists these keys. A value that is given explicitly is kept.
    """
    path = run_dir / "ledger.sqlite"
    if not config.VALUES_BEFORE or not path.is_file() or not path.stat().st_size:
        return config
    with Ledger(path, write=False) as ledger:
        recorded = {} if ledger.is_empty() else ledger.record("config", {})
    unset = {
        key: before
        for key, before in config.VALUES_BEFORE.items()
        if recorded and recorded.get(key, before) == before and key not in config.model_fields_set
    }
    return config.model_copy(update=unset)


@contextlib.contextmanager
def open_run(run_dir: Path, config: StageConfig, inputs: Iterable[RunInput]) -> Iterator[Ledger]:
    """Open the ledger of a new or existing run folder.

    Args:
        inputs: files and datasets that the config names (seed tasks, prompts, users' filters).

    Raises:
        InputError: the folder was created with another config or other inputs, cannot be written,
            or contains a dataset whose ledger was lost; or a user's file failed during the run.
    """
    path = _create_folder(run_dir)
    inputs = list(inputs)
    with Ledger(path) as ledger:
        if ledger.meta("config") is None or ledger.is_empty():
            _refuse_lost_ledger(run_dir)
            ledger.reset()  # without a reply any config may start it
            for item in inputs:
                ledger.set_meta(item.key, item.version)
            ledger.set_meta("created_at", utc_now())
            resolved = json.loads(config.model_dump_json())
        else:
            resolved = _resume(ledger, config, inputs)
        ledger.set_meta("config", json.dumps(resolved))
        write_yaml(run_dir / "config.yaml", resolved)
        try:
            yield ledger
        except PluginError as error:
            raise InputError(f"{error}{_describe_kept(ledger)}") from error


def _describe_kept(ledger: Ledger) -> str:
    """Return what a run keeps after a user's file failed, and how to resume it."""
    if ledger.is_empty():
        return "; no row was decided yet, and the same command starts the run again"
    kept = f"{ledger.usage()['replies']:,} replies"
    if kept.startswith("0 "):  # a run without a teacher
        kept = f"{ledger.accepted_count() + sum(ledger.reasons().values()):,} decided rows"
    return (
        f"; {kept} are kept in {ledger.path}, and the same command with "
        "--accept_edited_files true resumes"
    )


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
            f"{run_dir}/dataset contains {plural(rows, 'row')}, but the ledger.sqlite next to it "
            "has none: the ledger was lost, or the rows come from elsewhere; restore the ledger "
            "from a backup, or use a new run_dir, so that nothing is paid for twice or overwritten"
        )


def _resume(ledger: Ledger, config: StageConfig, inputs: Sequence[RunInput]) -> dict[str, Any]:
    """Check that a run may be resumed with a config, and return the config to record."""
    resolved = json.loads(config.model_dump_json())
    recorded = ledger.record("config", {})
    fields, previous = type(config).model_fields, config.update_recorded(recorded)
    if any(field.is_required() and name not in previous for name, field in fields.items()):
        raise InputError(
            f"{ledger.path.parent} contains a run of another command; use a new run_dir"
        )
    # A key of a later version had its default before.
    defaults = {name: field.default for name, field in fields.items() if not field.is_required()}
    previous = json.loads(json.dumps(defaults, default=str)) | previous
    changed = {
        key: (previous[key], value) for key, value in resolved.items() if previous[key] != value
    }
    _refuse_other_config(ledger.path.parent, config, changed)
    # An input without a record was not recorded by the version that started the run.
    edited = [item for item in inputs if ledger.meta(item.key) not in (None, item.version)]
    _refuse_other_inputs(ledger, edited, accept=getattr(config, "accept_edited_files", False))
    for item in inputs:
        if ledger.meta(item.key) is None:
            ledger.set_meta(item.key, item.version)
    # An unchanged value keeps its spelling: rows were written under it.
    unchanged = recorded.keys() & resolved.keys() - changed.keys()
    resolved |= {key: recorded[key] for key in unchanged}
    request_keys = keys_with(Role.REQUEST, type(config))
    request_changes = {key: list(changed[key]) for key in changed if key in request_keys}
    if request_changes or edited:
        _record_changes(ledger, request_changes, edited, resolved)
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
        f"{key}: {_describe_change(old, new)}"
        for key, (old, new) in changed.items()
        if key not in changeable or config.breaks_resume(key, old, new)
    )
    if differences:
        raise InputError(
            f"{run_dir} already contains a run with a different config ({differences}); use a new "
            "run_dir, or the old values to resume this one"
        )


def _describe_change(old: Any, new: Any) -> str:
    """Return two values, or only what was added to and removed from a list."""
    if not isinstance(old, list) or not isinstance(new, list):
        return f"{old!r} -> {new!r}"
    parts = []
    for verb, names, others in (("added", new, old), ("removed", old, new)):
        if names := [str(name) for name in names if name not in others]:
            more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
            parts.append(f"{verb} {', '.join(names[:MAX_NAMES])}{more}")
    return ", ".join(parts) or "in another order"


def _refuse_other_inputs(ledger: Ledger, edited: Sequence[RunInput], *, accept: bool) -> None:
    fixed = [item for item in edited if not item.is_editable]
    refused = fixed or ([] if accept else edited)
    if not refused:
        return
    options = "use a new run_dir, or restore the old content"
    if not fixed:
        options = (
            "use a new run_dir, restore the old content, or resume with the new one: "
            "--accept_edited_files true"
        )
    elif accept:
        options += " (accept_edited_files applies only to filters, strategies and prompts)"
    raise InputError(
        f"{_join_names(refused)} changed since {ledger.path.parent} was started; {options}"
    )


def _record_changes(
    ledger: Ledger,
    request_changes: Mapping[str, list[Any]],
    edited: Sequence[RunInput],
    resolved: Mapping[str, Any],
) -> None:
    """Record what changed, and print the first request to which it applies."""
    unanswered, undecided = ledger.first_unanswered(), ledger.next_undecided()
    old = {item.key: ledger.meta(item.key) for item in edited}
    by_request = {unanswered: dict(request_changes)}
    for item in edited:
        first = undecided if item.decides_rows else unanswered
        # Without the folder, since changes are published.
        name = PurePath(item.key.removesuffix("_sha256")).name
        by_request.setdefault(first, {})[name] = [old[item.key], item.version]
    changes, at = ledger.record("config_changes", []), utc_now()
    changes += [
        {"from_request": first, "at": at, "changed": changed}
        for first, changed in sorted(by_request.items())
        if changed
    ]
    with ledger.transaction():  # a kill in between would record a change twice
        ledger.set_meta("config_changes", json.dumps(changes))
        ledger.set_meta("config", json.dumps(resolved))
        if PROMPT_VERSION in old:
            _keep_prompt_versions(ledger, old[PROMPT_VERSION])
        for item in edited:
            ledger.set_meta(item.key, item.version)
    if request_changes:
        values = ", ".join(f"{key} {a!r} -> {b!r}" for key, (a, b) in request_changes.items())
        console.stage("generate").print(
            f"config changed for requests not answered yet, from request {unanswered}: {values}"
        )
    if edited:
        console.note(f"from now on the edited version is used of {_join_names(edited)}")


def _join_names(edited: Sequence[RunInput]) -> str:
    """Return the names of inputs; the prompts' version follows from a strategy's file."""
    names = [item.name for item in edited if item.key != PROMPT_VERSION]
    return " and ".join(names or [edited[0].name])


def _keep_prompt_versions(ledger: Ledger, version: str | None) -> None:
    """Record the version of the prompts that were answered and not decided before an edit."""
    numbers = range(ledger.next_undecided(), ledger.usage()["requests"])
    kept = {str(number): version for number in numbers if ledger.answered(number) is not None}
    ledger.set_meta("earlier_prompts", json.dumps(kept | ledger.record("earlier_prompts", {})))
