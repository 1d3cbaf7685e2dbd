"""Filters of the text of a row: length, characters, refusals, leaked prompts, impossible tasks."""

from __future__ import annotations

import re

from code_alpaca.core.row_formats import contains_reasoning, is_unicode
from code_alpaca.core.schema import Example
from code_alpaca.curation.language_detection import find_code_blocks, is_code, is_prose

MIN_INSTRUCTION_WORDS, MAX_INSTRUCTION_WORDS = 4, 300  # 2023: 4 and 150
MAX_CHARACTERS = 20_000  # of an input or output

REFUSAL = re.compile(
    r"(?i)^\W*(i'?m sorry|sorry,|i (can'?t|cannot|am unable to|'m unable to) (help|assist|do|"
    r"comply|fulfil)|as an ai\b|as a (large )?language model)"
)
REQUESTS_CODE = re.compile(
    r"(?is)^\W*(please )?(write|create|implement|develop|generate|build|construct|code|produce|"
    r"compose)\b.{0,60}\b(function|program|code|script|class|method|query|snippet|regex|selector|"
    r"loop)\b"
)
REQUESTS_PROSE = re.compile(
    r"(?i)\b(explain|describe|comment|documentation|docstring|summary|summari[sz]e|explanation|"
    r"description|review|pseudo-?code|question|sentence|paragraph|essay|list of|code word)\b"
)
IMPOSSIBLE = re.compile(
    r"(?i)^\W*(please )?(draw|paint|sketch|photograph|sing|listen|play|record|watch|"
    r"show me (a|an|the) (picture|image|photo|video)|take (a|an) (photo|picture|screenshot)|"
    r"open (a|an|the|my) (window|browser|app|application|website|file manager|door)|"
    r"(go to|visit|browse) (the|this|a|http)|send (a|an|the) (e-?mail|message)|"
    r"(call|phone|text) (me|my|the|this)|print (it )?on paper)\b"
)
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
PROMPT_HEADING = re.compile(r"^### (Instruction|Input|Response):", re.MULTILINE)


def empty(example: Example) -> bool:
    """Drop a row without an instruction or an output."""
    return bool(example.instruction.strip() and example.output.strip())


def instruction_too_short(example: Example) -> bool:
    """Drop an instruction of fewer than MIN_INSTRUCTION_WORDS words, which is underspecified."""
    return _count_words(example) >= MIN_INSTRUCTION_WORDS


def instruction_too_long(example: Example) -> bool:
    """Drop an instruction of more than MAX_INSTRUCTION_WORDS words: a pasted document."""
    return _count_words(example) <= MAX_INSTRUCTION_WORDS


def input_too_long(example: Example) -> bool:
    """Drop an input that does not fit into a training sequence."""
    return len(example.input) <= MAX_CHARACTERS


def output_too_long(example: Example) -> bool:
    """Drop an output that does not fit into a training sequence."""
    return len(example.output) <= MAX_CHARACTERS


def not_text(example: Example) -> bool:
    """Drop control characters, other than tabs and line ends, and unpaired surrogates."""
    text = "".join(example.texts)
    return not CONTROL_CHARACTER.search(text) and is_unicode(text)


def refusal(example: Example) -> bool:
    """Drop an output in which the teacher declines the task or describes itself."""
    return not find_refusal(example)


def find_refusal(example: Example) -> str:
    """Return the words with which an output declines the task; "" if it does not."""
    found = REFUSAL.match(example.output)
    return found[0].strip() if found else ""


def prompt_leak(example: Example) -> bool:
    """Drop a row with the headings of the Alpaca prompt, which a student would learn to write."""
    return not any(map(PROMPT_HEADING.search, example.texts))


def reasoning_leak(example: Example) -> bool:
    """Drop an output that contains the model's reasoning (`<think>`)."""
    return not contains_reasoning(example.output)


def prose_for_code(example: Example) -> bool:
    """Drop prose where the instruction requests code."""
    instruction = example.instruction
    requested = REQUESTS_CODE.search(instruction) and not REQUESTS_PROSE.search(instruction)
    return not (requested and is_prose(example.output))


def impossible(example: Example) -> bool:
    """Drop a task that a text model cannot do (draw, open, visit), unless its output is code."""
    output = example.output
    return (
        not IMPOSSIBLE.match(example.instruction)
        or is_code(output)
        or bool(find_code_blocks(output))
    )


def _count_words(example: Example) -> int:
    return len(example.instruction[:MAX_CHARACTERS].split())
