"""What tests of releases share: a process that runs commands, and words for a tiny model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TINY = ["--config", str(ROOT / "recipes/smoke/sft/config_cpu.yaml"), "--scratch_hidden_size", "32",
        "--scratch_layers", "1", "--scratch_heads", "2", "--scratch_vocab_size", "400"]  # fmt: skip


class Session:
    """A process that runs commands of ours against the Hub double."""

    def __init__(self, hub, home, user="alice"):
        self.process = subprocess.Popen(
            [sys.executable, HERE / "commands.py"], env=hub.environment(home, user),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def begin(self, *words, tries=6):
        self.process.stdin.write(json.dumps([list(words), tries]) + "\n")
        self.process.stdin.flush()

    def run(self, *words, tries=6):
        self.begin(*words, tries=tries)
        return json.loads(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()


def rewrite(path: Path, **changes: object) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
