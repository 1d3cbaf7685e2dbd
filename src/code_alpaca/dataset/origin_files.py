"""Ship with a dataset what its rows came from: the seed tasks and the prompts, as text files.

A run records the files in its ledger, so that its dataset can be built without the user's files. A
dataset made from another one carries over the files of its source.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path

from code_alpaca.core import console, fs, jsonl
from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.records import Manifest
from code_alpaca.core.schema import SeedTask, hash_seed_tasks, load_seed_tasks
from code_alpaca.dataset.manifest import MANIFEST
from code_alpaca.hub.lookup import find_dataset_file

SEED_TASKS = "assets/seed_tasks.jsonl"
PROMPTS = "assets/prompts"  # <prompt_version>.md
# The names that are taken from a source: its manifest could name any path.
NAME = re.compile(rf"{SEED_TASKS}|{PROMPTS}/\w[\w.-]*\.md")
KEY = "origin_files"  # in the ledger: text by path in the dataset folder
Files = dict[str, str]
Fetch = Callable[[str], Path | None]  # returns the path of a file in a dataset


def make_origin_files(seed_tasks: Iterable[SeedTask], prompts: Mapping[str, str]) -> Files:
    """Return the files for seed tasks and for prompts by version; an unusual version has none."""
    names = {f"{PROMPTS}/{version}.md": text for version, text in sorted(prompts.items())}
    files = {SEED_TASKS: "".join(map(jsonl.dumps, map(_without_empty, seed_tasks)))}
    return files | {name: text for name, text in names.items() if NAME.fullmatch(name)}


def record_origin_files(ledger: Ledger, files: Files) -> None:
    """Record the files in the ledger of a run that it does not have yet."""
    recorded: Files = ledger.record(KEY, {})
    if not files.keys() <= recorded.keys():
        ledger.set_meta(KEY, json.dumps(files | recorded))


def recorded_origin_files(ledger: Ledger) -> Files:
    """Return the files of a run. One that recorded none may still have the built-in seed tasks."""
    files: Files | None = ledger.record(KEY)
    if files is None:
        seed_tasks = load_seed_tasks()
        is_same = ledger.meta("seed_tasks_sha256") == hash_seed_tasks(seed_tasks)
        files = make_origin_files(seed_tasks, {}) if is_same else {}
    return files


def read_origin_files(name: str, revision: str) -> Files:
    """Return the files of a dataset folder or a Hub dataset; none of another kind of dataset.

    `load_rows` returns the `revision`.
    """
    fetch: Fetch = partial(find_dataset_file, name, revision=revision)
    path = fetch(MANIFEST)
    if path is None:
        return {}
    try:
        manifest = Manifest.load(path)
    except InputError:  # of another tool
        return {}
    return collect_origin_files(name, manifest, fetch)


def collect_origin_files(name: str, manifest: Manifest, fetch: Fetch) -> Files:
    """Return the files that the manifest of a dataset lists; one that differs is left out."""
    files = {}
    for file in filter(NAME.fullmatch, manifest.assets):
        path = fetch(file)
        content = path.read_bytes() if path and path.is_file() else b""
        if hashlib.sha256(content).hexdigest() == manifest.assets[file]:
            files[file] = content.decode("utf-8", "replace")
        else:
            console.warning(f"{file} of {name} differs from its {MANIFEST} and is left out")
    return files


def write_origin_files(folder: Path, files: Files) -> dict[str, str]:
    """Write the files to a dataset folder, and return the SHA-256 of each by its path."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8", newline="")
    return {name: fs.file_sha256(folder / name) for name in files}


def read_seed_tasks(files: Files) -> dict[str, dict[str, str]]:
    """Return the seed tasks in the files by their ids; empty fields are left out."""
    tasks = map(json.loads, files.get(SEED_TASKS, "").split("\n")[:-1])
    return {task["id"]: task for task in tasks}


def compare_seed_tasks(old: Files, new: Files) -> str:
    """Return how the seed tasks of two versions differ in words, or ""."""
    before, after = read_seed_tasks(old), read_seed_tasks(new)
    if before == after:
        return ""
    if not (before and after):
        tasks = plural(len(before or after), "seed task")
        return f"{tasks} {'no longer' if before else 'now'} included"
    changed = sum(before[key] != after[key] for key in before.keys() & after.keys())
    added, removed = len(after.keys() - before.keys()), len(before.keys() - after.keys())
    return f"{plural(added, 'seed task')} added, {removed:,} removed, {changed:,} changed"


def _without_empty(task: SeedTask) -> dict[str, str]:
    required = ("id", "instruction", "input", "output")
    return {key: text for key, text in asdict(task).items() if text or key in required}
