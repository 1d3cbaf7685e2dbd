"""Filters of the text of a row: length, characters, refusals, leaked prompts, impossible tasks."""

from __future__ import annotations

import re

from code_alpaca.core.row_formats import contains_reasoning
from code_alpaca.core.schema import Example, is_unicode
from code_alpaca.curation.language_detection import find_code_blocks, is_code, is_prose

MIN_INSTRUCTION_WORDS, MAX_INSTRUCTION_WORDS = 4, 300  # 2023: 4 and 150
MAX_CHARACTERS = 20_000  # of an input or output

REFUSAL = re.compile(
    r"^\W*(i'?m sorry|sorry,|i (can'?t|cannot|am unable to|'m unable to) (help|assist|do|comply|"
    r"fulfil)|as an ai\b|as a (large )?language model)",
    re.IGNORECASE,
)
REQUESTS_CODE = re.compile(
    r"^\W*(please )?(write|create|implement|develop|generate|build|construct|code|produce|compose)"
    r"\b.{0,60}\b(function|program|code|script|class|method|query|snippet|regex|selector|loop)\b",
    re.IGNORECASE | re.DOTALL,
)
REQUESTS_PROSE = re.compile(
    r"\b(explain|describe|comment|documentation|docstring|summary|summari[sz]e|explanation|"
    r"description|review|pseudo-?code|question|sentence|paragraph|essay|list of|code word)\b",
    re.IGNORECASE,
)
IMPOSSIBLE = re.compile(
    r"^\W*(please )?(draw|paint|sketch|photograph|sing|listen|play|record|watch|"
    r"show me (a|an|the) (picture|image|photo|video)|take (a|an) (photo|picture|screenshot)|"
    r"open (a|an|the|my) (window|browser|app|application|website|file manager|door)|"
    r"(go to|visit|browse) (the|this|a|http)|send (a|an|the) (e-?mail|message)|"
    r"(call|phone|text) (me|my|the|this)|print (it )?on paper)\b",
    re.IGNORECASE,
)
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0e-\x1f]")
PROMPT_HEADING = re.compile(r"^### (Instruction|Input|Response):", re.MULTILINE)


def empty(example: Example) -> str | None:
    """Drop a row without an instruction or an output."""
    return None if example.instruction.strip() and example.output.strip() else "empty"


def instruction_too_short(example: Example) -> str | None:
    """Drop an instruction of fewer than MIN_INSTRUCTION_WORDS words, which is underspecified."""
    return "instruction_too_short" if _count_words(example) < MIN_INSTRUCTION_WORDS else None


def instruction_too_long(example: Example) -> str | None:
    """Drop an instruction of more than MAX_INSTRUCTION_WORDS words: a pasted document."""
    return "instruction_too_long" if _count_words(example) > MAX_INSTRUCTION_WORDS else None


def input_too_long(example: Example) -> str | None:
    """Drop an input that does not fit into a training sequence."""
    return "input_too_long" if len(example.input) > MAX_CHARACTERS else None


def output_too_long(example: Example) -> str | None:
    """Drop an output that does not fit into a training sequence."""
    return "output_too_long" if len(example.output) > MAX_CHARACTERS else None


def not_text(example: Example) -> str | None:
    """Drop control characters, other than tabs and line ends, and unpaired surrogates."""
    text = "".join(example.texts)
    return "not_text" if CONTROL_CHARACTER.search(text) or not is_unicode(text) else None


def refusal(example: Example) -> str | None:
    """Drop an output in which the teacher declines the task or describes itself."""
    return "refusal" if REFUSAL.match(example.output) else None


def prompt_leak(example: Example) -> str | None:
    """Drop a row with the headings of the Alpaca prompt, which a student would learn to write."""
    return "prompt_leak" if any(map(PROMPT_HEADING.search, example.texts)) else None


def reasoning_leak(example: Example) -> str | None:
    """Drop an output that contains the model's reasoning (`<think>`)."""
    return "reasoning_leak" if contains_reasoning(example.output) else None


def prose_for_code(example: Example) -> str | None:
    """Drop prose where the instruction requests code."""
    requested = REQUESTS_CODE.search(example.instruction)
    requested = requested and not REQUESTS_PROSE.search(example.instruction)
    return "prose_for_code" if requested and is_prose(example.output) else None


def impossible(example: Example) -> str | None:
    """Drop a task that a text model cannot do (draw, open, visit), unless its output is code."""
    requested = IMPOSSIBLE.match(example.instruction)
    has_code = is_code(example.output) or find_code_blocks(example.output)
    return "impossible" if requested and not has_code else None


def _count_words(example: Example) -> int:
    return len(example.instruction[:MAX_CHARACTERS].split())
