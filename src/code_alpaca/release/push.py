"""Release a model, and a Space to try it in, on the Hub: each with one commit and one tag."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from code_alpaca import versions
from code_alpaca.dataset.manifest import sha256
from code_alpaca.errors import InputError
from code_alpaca.hub import Repo
from code_alpaca.release.folder import CARD, MANIFEST
from code_alpaca.versions import README, Contents, Say, Version, read_json

OWNED = ("assets/", "adapter/", "weight_diff/")  # of the repository; what else is there stays
KEY = "release sha256"  # what the description of every release commit starts with
NEW = (".gitattributes", README)  # what the Hub puts into a Space that is made there
WEIGHTS = (".safetensors", ".bin", ".gguf", ".pt", ".pth")


class Target(NamedTuple):
    """Where a folder is released, and under which terms."""

    repo: Repo
    private: bool = False  # of a repository that is made now
    allow_older: bool = False  # accept a version lower than the last one
    replace: bool = False  # accept weights (or the app of a Space) of no release, and lose them
    space_sdk: str | None = None


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
        released = _released(repo, last)
        owned = [*OWNED, *released, *_strange(repo, head, last, target)]
        if last and (edited := _edited(repo, released, last, head)):
            say(f"edited on the Hub, made anew: {', '.join(edited)}")
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


def look(version: Version, target: Target, card: str | None = None) -> str:
    """What a push would do, by reading alone, in words.

    Args:
        card: the README.md to be.

    Raises:
        InputError: there is no token that may write, the Hub does not take the card, or something
            that `push` would refuse.
    """
    repo = target.repo
    repo.log_in()
    if card:
        repo.check_card(card)
    head = repo.head("main")
    if head is None:
        return f"{repo.url} does not exist yet and is made"
    if target.private:
        repo.require_private()
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


def _edited(repo: Repo, released: list[str], last: str, head: str) -> list[str]:
    """Files of the last release that somebody changed since, and whose changes will go."""
    before, now = repo.files(last), repo.files(head)
    return [name for name in released if name in now and now[name] != before.get(name)]


def _strange(repo: Repo, head: str, last: str | None, target: Target) -> list[str]:
    """What is of no release of ours and would be lost, or be loaded instead of ours."""
    if last:
        return []
    names = repo.files(head)
    if repo.type == "space":
        what, found = "an app", [name for name in names if name not in NEW]
    else:
        what, found = "weights", [name for name in names if name.endswith(WEIGHTS)]
    if found and not target.replace:
        raise InputError(
            f"{repo.url} holds {what} of no release of ours ({', '.join(found[:3])}); give "
            "another name, or --replace true to delete what is there"
        )
    return found
