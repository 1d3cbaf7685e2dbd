"""The fenced blocks of a Markdown page, and what their titles mean (see CONTRIBUTING.md)."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "AGENTS.md",
         ROOT / "recipes/README.md", *sorted((ROOT / "docs").rglob("*.md"))]  # fmt: skip
FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"\n]*)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"[\w./-]+\.\w+")


class Block(NamedTuple):
    """A fenced block; a title is the name of a file, or what the block needs."""

    language: str
    title: str
    text: str

    @property
    def is_file(self) -> bool:
        return bool(FILE_NAME.fullmatch(self.title))

    @property
    def is_run(self) -> bool:
        return self.language in ("sh", "python") and not self.title


def blocks(page: Path) -> list[Block]:
    return [
        Block(language, title, textwrap.dedent(text))
        for _, language, title, text in FENCE.findall(page.read_text(encoding="utf-8"))
    ]


def write_file(block: Block, folder: Path) -> None:
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
