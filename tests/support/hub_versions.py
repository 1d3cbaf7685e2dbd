"""Check the history of a repository on a Hub double: every commit is a complete release."""

from __future__ import annotations

import hashlib
import json
import re

from support.hub_client import DATASET


def dataset_versions(hub, repo=DATASET):
    """Return the versions that `main` contained one after the other, each checked."""
    repository = hub.repository(repo)
    versions = []
    for head in repository.heads:
        tree = repository.commits[head].tree
        if "manifest.json" not in tree:
            assert not any(path.startswith("data/") for path in tree), "rows without a manifest"
            continue
        manifest = json.loads(hub.blobs[tree["manifest.json"]])
        data = {path: oid for path, oid in tree.items() if path.startswith("data/")}
        assert data == manifest["sha256"], "shards of another version"
        card = hub.blobs[tree["README.md"]].decode()
        assert re.search(rf"(?m)^# .+ {re.escape(manifest['version'])}$", card)
        assert f"## {manifest['version']} (" in hub.blobs[tree["CHANGELOG.md"]].decode()
        versions.append(manifest["version"])
    return versions


def model_versions(hub, repo, kind="models"):
    """Return the versions that `main` of a model or Space contained, each checked."""
    repository, versions = hub.repository(repo, kind), []
    for head in repository.heads:
        tree = repository.commits[head].tree
        if "release.json" not in tree:
            assert set(tree) <= {".gitattributes"}, "files without a manifest"
            continue
        manifest = json.loads(hub.blobs[tree["release.json"]])
        for path, digest in manifest["sha256"].items():
            assert hashlib.sha256(hub.blobs[tree[path]]).hexdigest() == digest, path
        if kind == "models":
            assert f" {manifest['version']}\n" in hub.blobs[tree["README.md"]].decode()
        versions.append(manifest["version"])
    return versions


def tagged_commit(hub, tag, repo=DATASET):
    """Return the commit of a tag."""
    repository = hub.repository(repo)
    return repository.commits[repository.tags[tag]]


def read_tree(hub, revision, repo, kind="models"):
    """Return the content of every file at a branch or tag, by path."""
    repository = hub.repository(repo, kind)
    commit = repository.branches.get(revision) or repository.tags[revision]
    return {path: hub.blobs[oid] for path, oid in repository.commits[commit].tree.items()}
