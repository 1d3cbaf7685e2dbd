"""The filters of Code Alpaca in 2023, unchanged; only for reproducing its results.

The word list drops one real row in six, hash maps and CSV among them.
"""

from __future__ import annotations

import re
import string

from code_alpaca.core.schema import Example

MIN_WORDS, MAX_WORDS = 4, 150
BLACKLIST = re.compile(
    r"(?i)\b(images?|graphs?|pictures?|files?|maps?|draw|plot|go to|video|audio|music|flowchart|"
    r"diagram)\b"
)


def legacy_length(example: Example) -> bool:
    """Drop an instruction of up to 3 or more than 150 words."""
    return MIN_WORDS <= len(example.instruction.split()) <= MAX_WORDS


def legacy_blacklist(example: Example) -> bool:
    """Drop an instruction with a word of the 2023 list."""
    return not BLACKLIST.search(example.instruction)


def legacy_write_a_program(example: Example) -> bool:
    """Drop an instruction that starts with "Write a program"."""
    return not example.instruction.startswith("Write a program")


def legacy_first_character(example: Example) -> bool:
    """Drop an instruction that starts with punctuation or a character outside ASCII."""
    first = example.instruction[:1]
    return first == "" or (first not in string.punctuation and first.isascii())


FILTERS = (legacy_length, legacy_blacklist, legacy_write_a_program, legacy_first_character)
