"""What the tests of releases ask of a Hub double, and how a process of theirs reaches it."""

from __future__ import annotations

import json
import os

REPO = "alice/tasks"


def environment(hub, home, user="alice"):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    return kept | {
        "HF_ENDPOINT": hub.url, "HF_TOKEN": f"hf_{user}", "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }  # fmt: skip


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
