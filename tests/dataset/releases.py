"""What the tests of releases ask of a Hub double."""

from __future__ import annotations

import json

REPO = "alice/tasks"


def whole_versions(hub, repo=REPO):
    """The versions that `main` held one after the other, each checked to be complete."""
    repository = hub.repository(repo)
    versions = []
    for head in repository.heads:
        tree = repository.commits[head].tree
        if "manifest.json" not in tree:
            assert not any(path.startswith("data/") for path in tree), "rows without a manifest"
            continue
        manifest = json.loads(hub.blobs[tree["manifest.json"]])
        data = {path: oid for path, oid in tree.items() if path.startswith("data/")}
        assert data == manifest["sha256"], "a mixed state"
        card = hub.blobs[tree["README.md"]].decode()
        assert f"# Code Alpaca {manifest['version']}" in card
        assert f"## {manifest['version']} (" in hub.blobs[tree["CHANGELOG.md"]].decode()
        versions.append(manifest["version"])
    return versions


def commit_of(hub, tag, repo=REPO):
    repository = hub.repository(repo)
    return repository.commits[repository.tags[tag]]
