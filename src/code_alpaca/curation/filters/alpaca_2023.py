"""The filters of Code Alpaca in 2023, unchanged; only for reproducing its results.

The word list drops one real row in six, hash maps and CSV among them.
"""

from __future__ import annotations

import re
import string

from code_alpaca.core.schema import Example

MIN_WORDS, MAX_WORDS = 4, 150
BLACKLIST = re.compile(
    r"\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio|music|flowchart|"
    r"diagram)\b",
    re.IGNORECASE,
)


def legacy_length(example: Example) -> str | None:
    """Drop an instruction of up to 3 or more than 150 words."""
    num_words = len(example.instruction.split())
    return None if MIN_WORDS <= num_words <= MAX_WORDS else "legacy_length"


def legacy_blacklist(example: Example) -> str | None:
    """Drop an instruction with a word of the 2023 list."""
    return "legacy_blacklist" if BLACKLIST.search(example.instruction) else None


def legacy_write_a_program(example: Example) -> str | None:
    """Drop an instruction that starts with "Write a program"."""
    return "legacy_write_a_program" if example.instruction.startswith("Write a program") else None


def legacy_first_character(example: Example) -> str | None:
    """Drop an instruction that starts with punctuation or a character outside ASCII."""
    first = example.instruction[:1]
    is_odd = first and (first in string.punctuation or not first.isascii())
    return "legacy_first_character" if is_odd else None


FILTERS = (legacy_length, legacy_blacklist, legacy_write_a_program, legacy_first_character)
