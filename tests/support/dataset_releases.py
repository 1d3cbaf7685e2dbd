"""What the tests of releases share: a process that pushes, and questions to a Hub double."""

from __future__ import annotations

import json
from pathlib import Path

from support.hub_client import Client

HERE = Path(__file__).parent
REPO = "alice/tasks"


class Publisher(Client):
    """Pushes folders on demand."""

    def __init__(self, hub, home, user="alice"):
        super().__init__(HERE / "dataset_publisher.py", hub, home, user)

    def begin(self, folder, repo=REPO, **options):
        super().begin(str(folder), repo, options)

    def push(self, folder, repo=REPO, **options):
        self.begin(folder, repo, **options)
        return self.end()


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
