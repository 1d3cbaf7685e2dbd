"""Filters: each a small function of one example that answers a reason to drop it, or None.

To add one: write the function, name it in `FILTERS`, and give it rows to keep and to drop in
`tests/curation/test_filters.py`. They judge form, never subject: the 2023 word list ("map",
"graph", "file", ...) lost 17% of real rows, hash maps and CSV among them.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable

from code_alpaca.schema import Example

MIN_INSTRUCTION_WORDS, MAX_INSTRUCTION_WORDS = 4, 300  # 2023 dropped up to 3, and above 150
MAX_OUTPUT_CHARACTERS = 20_000

REFUSAL = re.compile(
    r"^\W*(i'?m sorry|sorry,|i (can'?t|cannot|am unable to|'m unable to) (help|assist|do|comply|"
    r"fulfil)|as an ai\b|as a (large )?language model)",
    re.IGNORECASE,
)
PROMPT_MARK = re.compile(r"^### (Instruction|Input|Response):", re.MULTILINE)
FENCE = re.compile(r"^[ \t]*```", re.MULTILINE)


def empty(example: Example) -> str | None:
    """Nothing asked or nothing answered."""
    return None if example.instruction.strip() and example.output.strip() else "empty"


def instruction_length(example: Example) -> str | None:
    """An instruction of a few words says too little; one of a page is a pasted document."""
    words = len(example.instruction.split())
    if words < MIN_INSTRUCTION_WORDS:
        return "instruction_too_short"
    return "instruction_too_long" if words > MAX_INSTRUCTION_WORDS else None


def output_length(example: Example) -> str | None:
    """An answer that no training context would hold whole."""
    return "output_too_long" if len(example.output) > MAX_OUTPUT_CHARACTERS else None


def refusal(example: Example) -> str | None:
    """The teacher declined, or spoke of itself instead of code."""
    return "refusal" if REFUSAL.match(example.output) else None


def prompt_leak(example: Example) -> str | None:
    """A prompt's own headings in a field would teach the student to write prompts."""
    fields = (example.instruction, example.input, example.output)
    return "prompt_leak" if any(PROMPT_MARK.search(text) for text in fields) else None


def unbalanced_fence(example: Example) -> str | None:
    """An odd number of ``` lines: the answer was cut inside a code block."""
    return "unbalanced_fence" if len(FENCE.findall(example.output)) % 2 else None


def not_text(example: Example) -> str | None:
    """Control characters (tab and line ends aside) that no source file holds."""
    text = example.instruction + example.input + example.output
    return "not_text" if any(c < " " and c not in "\t\n\r\f" for c in text) else None


BLACKLIST_2023 = re.compile(
    r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio|music|flowchart|"
    r"diagram)\b",
    re.IGNORECASE,
)


def legacy_2023(example: Example) -> str | None:
    """What Code Alpaca dropped in 2023, to the letter; for reproducing its results alone.

    Its word list costs one real row in six, hash maps and CSV among them.
    """
    text = example.instruction
    if not 3 < len(text.split()) <= 150:
        return "legacy_length"
    if BLACKLIST_2023.search(text):
        return "legacy_blacklist"
    if text.startswith("Write a program"):
        return "legacy_write_a_program"
    if text[0] in string.punctuation or not text[0].isascii():
        return "legacy_first_character"
    return None


FILTERS: dict[str, Callable[[Example], str | None]] = {
    check.__name__: check
    for check in (
        empty,
        not_text,
        refusal,
        instruction_length,
        output_length,
        prompt_leak,
        unbalanced_fence,
        legacy_2023,
    )
}
DEFAULT = tuple(name for name in FILTERS if name != legacy_2023.__name__)
