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
    before: str  # the text between the previous block and this one

    @property
    def is_file(self) -> bool:
        return bool(FILE_NAME.fullmatch(self.title))

    @property
    def is_output(self) -> bool:
        """Whether it is what the previous block prints: adjacent, or after words that name it."""
        return self.language == "text" and (not self.before.strip() or "print" in self.before)

    @property
    def is_run(self) -> bool:
        return self.language in ("sh", "python") and not self.title


def blocks(page: Path) -> list[Block]:
    found, end, text = [], 0, page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        _, language, title, content = match.groups(default="")
        found.append(Block(language, title, textwrap.dedent(content), text[end : match.start()]))
        end = match.end()
    return found


def write_file(block: Block, folder: Path) -> None:
    path = folder / block.title
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.text, encoding="utf-8")
