"""Find answers that were given before, whatever their white space, comments and fences."""

from __future__ import annotations

import hashlib
import re

from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.fences import fenced_blocks
from code_alpaca.curation.language_detection import detect_language, extract_programs, is_code

MIN_CHARACTERS = 60  # without white space; shorter answers ("42", "True") suit many tasks

# What is never closed ends with the text, so that no text takes quadratic time.
DOCSTRING = re.compile(r'"""[\s\S]*?(?:"""|\Z)|\'\'\'[\s\S]*?(?:\'\'\'|\Z)')
STRINGS = DOCSTRING.pattern + r'|"(?:\\.|[^"\n\\])*"|\'(?:\\.|[^\'\n\\])*\'|`[^`]*`'
SLASHES, STARS, DASHES = r"//[^\n]*", r"/\*[\s\S]*?(?:\*/|\Z)", r"--[^\n]*"
HASH, LONE_HASH, ARROWS = r"#[^\n]*", r"(?<![^\s;])#[^\n]*", r"<!--[\s\S]*?(?:-->|\Z)"
# How each language writes comments; of any other nothing is taken out.
COMMENTS = {
    "python": HASH,
    "css": STARS,
    "html": f"{ARROWS}|{STARS}",
    "sql": f"{DASHES}|{STARS}",
    "php": f"{SLASHES}|{STARS}|{LONE_HASH}",
    **dict.fromkeys(("haskell", "lua"), DASHES),
    **dict.fromkeys(("bash", "ruby", "r", "perl", "powershell", "julia", "elixir", "awk"),
                    LONE_HASH),
    **dict.fromkeys(("javascript", "typescript", "java", "c", "c++", "c#", "go", "rust", "kotlin",
                     "swift", "scala", "dart", "groovy", "solidity", "f#"),
                    f"{SLASHES}|{STARS}"),
}  # fmt: skip
PATTERNS = {
    language: re.compile(f"({STRINGS})|{comments}") for language, comments in COMMENTS.items()
}


class DuplicateOutputs:
    """The answers of the tasks that were kept: the one filter that knows other rows.

    The same answer to other given code is another task: a repair, or a translation, whose result
    was written before.
    """

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, task: Example | SeedTask) -> None:
        if (key := _key(task)) is not None:
            self._seen.add(key)

    def __contains__(self, task: Example | SeedTask) -> bool:
        return _key(task) in self._seen


def _key(task: Example | SeedTask) -> int | None:
    language = detect_language(task)
    answer = next(iter(extract_programs(task.output, language)), task.output)
    bare = _bare(answer, language)
    if len(bare) < MIN_CHARACTERS:
        return None
    given = _bare(DOCSTRING.sub("", _given_code(task)), language)
    if 2 * len(given) >= len(bare):  # less is data to work on, or a header to complete
        bare = f"{bare}\0{given}"
    return int.from_bytes(hashlib.blake2b(bare.encode("utf-8", "replace"), digest_size=8).digest())


def _given_code(task: Example | SeedTask) -> str:
    """The code that a task hands over to be changed: its input, or a part of its instruction."""
    if blocks := fenced_blocks(task.input) or fenced_blocks(task.instruction):
        return "\n".join(block.code for block in blocks)
    if is_code(task.input):
        return task.input
    rest = task.instruction.partition("\n")[2]
    return rest if is_code(rest) else ""


def _bare(code: str, language: str) -> str:
    """Code without comments and white space; a comment sign within a string stays."""
    if pattern := PATTERNS.get(language):
        code = pattern.sub(lambda found: found[1] or "", code)
    return "".join(code.split())
