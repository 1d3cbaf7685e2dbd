"""Release a model, and a Space to try it in, on the Hub: each with one commit and one tag."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from code_alpaca import versions
from code_alpaca.dataset.manifest import sha256
from code_alpaca.errors import InputError
from code_alpaca.hub import Repo
from code_alpaca.versions import README, Contents, Say, Version, read_json

MANIFEST = "release.json"  # version, and the hash of every other file but the card
CARD = "assets/card.md"  # the card as it was made, by which edits on the Hub are told apart
OWNED = ("assets/", "adapter/", "weight_diff/")  # of the repository; what else is there stays
KEY = "release sha256"  # what the description of every release commit starts with
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


class Target(NamedTuple):
    """Where a folder is released, and under which terms."""

    repo: Repo
    private: bool = False  # of a repository that is made now
    allow_older: bool = False  # accept a version lower than the last one
    replace: bool = False  # accept weights of no release of ours, and delete them
    space_sdk: str | None = None


def seal(folder: Path, number: str) -> Version:
    """Note the hash of every file of a release folder, and name the release by all of them."""
    hashes = {
        path.relative_to(folder).as_posix(): sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (README, MANIFEST)
    }
    text = json.dumps({"version": number, "sha256": hashes}, indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return version_of(folder, number)


def require_ours(folder: Path) -> None:
    """Refuse a folder that holds anything but a release of ours, before it is made anew.

    Raises:
        InputError: naming what is in the way.
    """
    if not folder.exists():
        return
    manifest = read_json(folder / MANIFEST)
    hashes = manifest.get("sha256") if isinstance(manifest, dict) else None
    if not isinstance(hashes, dict):
        raise InputError(f"{folder} exists and is no release of ours; choose another output_dir")
    known = {*hashes, README, MANIFEST}
    for path in sorted(folder.rglob("*")):
        if not path.is_dir() and path.relative_to(folder).as_posix() not in known:
            raise InputError(
                f"{path} is of no release, and would be lost; move it away, or choose another "
                "output_dir"
            )


def replace(folder: Path, part: Path) -> None:
    """Put `part` in the place of a release folder, which is deleted only then."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(part, folder)
    shutil.rmtree(old, ignore_errors=True)


def version_of(folder: Path, number: str) -> Version:
    """The version that a release folder is, or, before there is one, is to be."""
    path = folder / MANIFEST
    key = f"{KEY} {sha256(path)}" if path.exists() else KEY
    return Version(number, key, folder.parent / f".{folder.name}.begun", "model_version")


def push(folder: Path, version: Version, target: Target, say: Say = print) -> str:
    """Make `folder` a version on the Hub, and return the commit.

    Whatever stops it, the same call goes on, and readers see the old version or the new one whole.

    Raises:
        InputError: the version exists, or something of the target's terms is not accepted; no
            token that may write; somebody else changed the same files.
        Stopped: the Hub does not answer.
    """
    repo = target.repo

    def contents(tags: Mapping[str, str]) -> Contents:
        head = repo.head()
        if head is None:
            raise InputError(f"{repo.url} is gone; was it deleted or renamed?")
        versions.check_order(repo, version, tags, allow_older=target.allow_older)
        last = repo.landed(KEY)
        owned = [*OWNED, *_released(repo, last), *_strange(repo, head, last, target)]
        files: dict[str, Path | bytes] = {
            path.relative_to(folder).as_posix(): path
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        ours = (folder / README).read_text(encoding="utf-8")
        files[README] = versions.keep_edits(repo, ours, CARD, head, last, say).encode()
        size = sum(path.stat().st_size for path in files.values() if isinstance(path, Path))
        say(f"uploading {len(files)} files, {size / 1e6:,.1f} MB, to {repo.url}")
        return Contents(files, head, owned)

    return versions.make(
        repo, version, contents, private=target.private, space_sdk=target.space_sdk, say=say
    )


def look(version: Version, target: Target) -> str:
    """What a push would do, by reading alone, in words.

    Raises:
        InputError: there is no token, or the version exists or is too low.
    """
    repo = target.repo
    repo.log_in()
    head = repo.head("main")
    if head is None:
        return f"{repo.url} does not exist yet and is made"
    tags = repo.tags()
    mark = read_json(version.under_way) or {}
    begun = (mark.get("repo"), mark.get("tag")) == (repo.id, version.tag)
    if version.tag in tags and not begun:
        raise InputError(versions.exists(repo, version, tags))
    versions.check_order(repo, version, tags, allow_older=target.allow_older or begun)
    _strange(repo, head, repo.landed(KEY) if repo.head() else None, target)
    return (
        f"{repo.url} is at v{versions.latest(tags)}" if tags else f"{repo.url} has no version yet"
    )


def _released(repo: Repo, last: str | None) -> list[str]:
    """The files of the last release, which go where this one does not have them."""
    path = repo.fetch(MANIFEST, last) if last else None
    manifest = read_json(path) if path else None
    return list(manifest.get("sha256", {})) if isinstance(manifest, dict) else []


def _strange(repo: Repo, head: str, last: str | None, target: Target) -> list[str]:
    """Weights of no release of ours, which would be loaded instead of ours, or beside them."""
    if last:
        return []
    found = [name for name in repo.files(head) if name.endswith(WEIGHTS)]
    if found and not target.replace:
        raise InputError(
            f"{repo.url} holds weights of no release of ours ({', '.join(found[:3])}); give "
            "another name, or --replace true to delete them"
        )
    return found
