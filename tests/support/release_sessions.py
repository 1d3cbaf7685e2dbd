"""What tests of releases share: a process that runs commands, and words for a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

from support.hub_client import Client

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TINY = ["--config", str(ROOT / "recipes/smoke/sft/config_cpu.yaml"), "--scratch_hidden_size", "32",
        "--scratch_layers", "1", "--scratch_heads", "2", "--scratch_vocab_size", "400"]  # fmt: skip

REPO, SPACE = "alice/coder", "alice/coder-space"


class Session(Client):
    """Runs commands of ours on demand."""

    def __init__(self, hub, home, user="alice"):
        super().__init__(HERE / "release_commands.py", hub, home, user)

    def begin(self, *words, tries=6):
        super().begin(list(words), tries)

    def run(self, *words, tries=6):
        self.begin(*words, tries=tries)
        return self.end()


def rewrite(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def tree_of(hub, revision="main", repo=REPO, kind="models"):
    repository = hub.repository(repo, kind)
    commit = repository.branches.get(revision) or repository.tags[revision]
    return {p: hub.blobs[oid] for p, oid in repository.commits[commit].tree.items()}
