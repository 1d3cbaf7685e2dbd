"""Find outputs that repeat an earlier one, ignoring white space, comments and fences."""

from __future__ import annotations

import hashlib
import re

from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.code_regions import find_fenced_code
from code_alpaca.curation.language_detection import detect_language, extract_programs, is_code

MIN_CHARACTERS = 60  # without white space; shorter outputs ("42", "True") answer many tasks

# Unterminated strings and comments end with the text, so that no text takes quadratic time.
DOCSTRING = re.compile(r'"""[\s\S]*?(?:"""|\Z)|\'\'\'[\s\S]*?(?:\'\'\'|\Z)')
STRINGS = DOCSTRING.pattern + r'|"(?:\\.|[^"\n\\])*"|\'(?:\\.|[^\'\n\\])*\'|`[^`]*`'
SLASHES, STARS, DASHES = r"//[^\n]*", r"/\*[\s\S]*?(?:\*/|\Z)", r"--[^\n]*"
HASH, LONE_HASH, ARROWS = r"#[^\n]*", r"(?<![^\s;])#[^\n]*", r"<!--[\s\S]*?(?:-->|\Z)"
# Comments by language; in other languages they are not removed.
COMMENTS = {
    "python": HASH,
    "css": STARS,
    "html": f"{ARROWS}|{STARS}",
    "sql": f"{DASHES}|{STARS}",
    "php": f"{SLASHES}|{STARS}|{LONE_HASH}",
    "haskell lua": DASHES,
    "bash ruby r perl powershell julia elixir awk": LONE_HASH,
    "javascript typescript java c c++ c# go rust kotlin swift scala dart groovy solidity f#":
        f"{SLASHES}|{STARS}",
}  # fmt: skip
PATTERNS = {
    language: re.compile(f"({STRINGS})|{comments}")
    for names, comments in COMMENTS.items()
    for language in names.split()
}


class DuplicateOutputs:
    """The outputs of all accepted rows, and the id of the first row with each.

    The same output for other code in the task is not a duplicate, but a repair or a translation.
    """

    def __init__(self) -> None:
        self._ids: dict[int, str] = {}  # by hash

    def add(self, task: Example | SeedTask) -> None:
        """Add the output of a row."""
        if (key := _hash_output(task)) is not None:
            self._ids.setdefault(key, task.id)

    def find(self, task: Example | SeedTask) -> str | None:
        """Return the id of the first row with the output of this one; None if it is new."""
        key = _hash_output(task)
        return self._ids.get(key) if key is not None else None


def _hash_output(task: Example | SeedTask) -> int | None:
    """Return the hash of an output, with the code of its task, or None for a short output."""
    language = detect_language(task)
    answer = next(iter(extract_programs(task.output, language)), task.output)
    key = _normalize(answer, language)
    if len(key) < MIN_CHARACTERS:
        return None
    task_code = _normalize(DOCSTRING.sub("", _find_task_code(task)), language)
    if 2 * len(task_code) >= len(key):  # less is data to work on, or a header to complete
        key = f"{key}\0{task_code}"
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "replace"), digest_size=8).digest())


def _find_task_code(task: Example | SeedTask) -> str:
    """Return the code that a task asks to change: its input, or a part of its instruction."""
    if blocks := find_fenced_code(task.input) or find_fenced_code(task.instruction):
        return "\n".join(block.code for block in blocks)
    if is_code(task.input):
        return task.input
    rest = task.instruction.partition("\n")[2]
    return rest if is_code(rest) else ""


def _normalize(code: str, language: str) -> str:
    """Return code without comments and white space; comment signs inside strings are kept."""
    if pattern := PATTERNS.get(language):
        code = pattern.sub(lambda match: match[1] or "", code)
    return "".join(code.split())
