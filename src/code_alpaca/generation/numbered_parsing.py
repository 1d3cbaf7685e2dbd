"""Parse the tasks in numbered text: Instruction, Input and Output under headings.

The requested form is `4. Instruction:`, `4. Input:`, `4. Output:`. Models also number every
heading (`5. Instruction:`, `6. Input:`, `7. Output:`), restart at 1, omit the number or an empty
Input, and write headings in bold, with `#` or in capitals. The rules:

- A record is an Instruction heading, then at most one Input, then an Output, with any numbers.
- An Instruction heading begins a record if its number is higher than that of the record before,
  or if it follows a separator line, or if it is styled like the first one of the text and has an
  Output before the next one. Any other one is content: answers may quote prompts.
- Input and Output headings with the record's own number are preferred, then those of the same
  style, so that `# Output: 3` in a program, or `2. Input:` in an answer, remains content.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.generation.candidates import (
    Candidate,
    GeneratedTask,
    build_candidate,
    reject_reply,
    reject_text,
)
from code_alpaca.teacher.reply_parsing import ParsedReply

BYTE_ORDER_MARK = "\ufeff"
# Digits and spaces are bounded: a reply may be a megabyte of either.
HEADING = re.compile(
    r"^[ \t]{0,8}(?P<hashes>\#{1,6}[ \t]{0,4})?(?P<bold>\*{1,3}|__)?"
    r"(?:(?P<number>\d{1,6})[.)][ \t]{0,4})?(?P<bold_within>\*{1,3}|__)?"
    r"(?P<kind>instruction|input|output)s?\b(?:[ \t]\#?(?P<number_after>\d{1,6}))?"
    r"(?:[ \t]\([^()\n]{1,40}\))?"
    r"(?:(?:\*{1,3}|__)?[ \t]{0,4}:(?:\*{1,3}|__)?"
    r"|(?P<bare>(?:\*{1,3}|__)?[ \t]{0,4}$))",
    re.MULTILINE | re.IGNORECASE,
)
SEPARATOR = re.compile(r"#{2,}")
# Only between two records: elsewhere these may be part of an answer.
SEPARATOR_LINE = re.compile(
    r"#{2,}|-{3,}|={3,}|\*{3,}|(?:#+ *)?\**(?:Task|Example|Exercise) \d+\W*"
)
FENCE = re.compile(
    r"\s*(`{3,})[a-z]*[ \t]*\n(?=[ \t]{0,8}\S{0,8}[ \t]{0,4}\S{0,4}instruction)", re.IGNORECASE
)


class Heading(NamedTuple):
    """One heading."""

    start: int
    end: int
    kind: str
    number: int | None
    style: tuple[int, bool, bool]  # number of hashes, bold, numbered


# The text of a record, and its instruction, input and output; None without an Output heading.
NumberedRecord = tuple[str, tuple[str, str, str] | None]


def parse_numbered(reply: ParsedReply, prefix: str = "") -> list[Candidate]:
    """Return the candidates in numbered text, in order and at least one. Never raises.

    Every complete record is kept, also beyond the requested number. The last record of a truncated
    reply is rejected.

    Args:
        prefix: the Instruction heading at the end of the prompt, which the reply continues unless
            it begins with such a heading itself.
    """
    if (rejected := reject_reply(reply)) is not None:
        return [rejected]
    text = strip_reasoning(reply.text.removeprefix(BYTE_ORDER_MARK).replace("\r\n", "\n"))
    records = _split_records(text, prefix)
    if not records:
        return [reject_text(reply.text, "truncated" if reply.truncated else "malformed")]
    candidates = []
    for number, (record_text, fields) in enumerate(records, 1):
        if reply.truncated and number == len(records):
            candidates.append(reject_text(record_text, "truncated"))
        elif fields is None:
            candidates.append(reject_text(record_text, "malformed"))
        else:
            instruction, task_input, output = fields
            task = GeneratedTask(instruction=instruction, input=task_input, output=output)
            candidates.append(build_candidate(task))
    return candidates


def _split_records(text: str, prefix: str) -> list[NumberedRecord]:
    """Return the records of numbered text in order; none if it has no Instruction heading."""
    text = _strip_fence(text)
    first = next(_find_headings(text), None)
    if first is None or first.kind != "instruction":
        return _split(prefix + text)
    lead = text[: first.start]
    continued = [(prefix + lead, None)] if prefix and lead.strip() else []
    return [*continued, *_split(text)]


def _split(text: str) -> list[NumberedRecord]:
    headings = list(_find_headings(text))
    starts = [*_find_record_starts(text, headings), None]
    records = []
    for start, following in pairwise(starts):
        last = following is None
        end = len(text) if last else headings[following].start
        records.append(_parse_record(text, headings[start:following], end, last=last))
    return records


def _find_headings(text: str) -> Iterator[Heading]:
    for match in HEADING.finditer(text):
        number = match["number"] or match["number_after"]
        hashes = len((match["hashes"] or "").strip())
        bold = bool(match["bold"] or match["bold_within"])
        if match["bare"] is not None and not (hashes or bold):
            continue  # a line that consists of the word, and no heading
        style = (hashes, bold, number is not None)
        yield Heading(*match.span(), match["kind"].lower(), int(number) if number else None, style)


def _find_record_starts(text: str, headings: Sequence[Heading]) -> list[int]:
    """Return the indices of the headings that begin a record."""
    instructions = [i for i, heading in enumerate(headings) if heading.kind == "instruction"]
    outputs = [i for i, heading in enumerate(headings) if heading.kind == "output"]
    starts: list[int] = []
    last_number: int | None = None
    for index, following in pairwise([*instructions, len(headings)]):
        heading = headings[index]
        number = heading.number
        higher = number is not None and (last_number is None or number > last_number)
        if starts and not higher and not _follows_separator(text, heading.start):
            output = bisect_left(outputs, index)
            has_output = output < len(outputs) and outputs[output] < following
            same_style = heading.style == headings[starts[0]].style or number is not None
            if not (has_output and same_style):
                continue
        starts.append(index)
        last_number = last_number if number is None else number
    return starts


def _follows_separator(text: str, start: int) -> bool:
    """Return whether the line before, ignoring blank lines, is a separator."""
    before = text[max(0, start - 200) : start].rstrip()
    return bool(SEPARATOR_LINE.fullmatch(before[before.rfind("\n") + 1 :].strip()))


def _parse_record(
    text: str, headings: Sequence[Heading], end: int, *, last: bool
) -> NumberedRecord:
    instruction = headings[0]
    record_text = text[instruction.start : end]
    output, looseness = _choose_heading("output", headings, end)
    if output is None:
        return record_text, None
    task_input, _ = _choose_heading("input", headings, output.start, max(1, looseness))
    fields = (
        text[instruction.end : (task_input or output).start].strip(),
        text[task_input.end : output.start].strip() if task_input else "",
        _strip_separator(text[output.end : end], last=last),
    )
    return record_text, fields


def _choose_heading(
    kind: str, headings: Sequence[Heading], before: int, max_looseness: int = 2
) -> tuple[Heading | None, int]:
    """Return the heading of a kind that belongs to a record, and how loosely (0, 1 or 2).

    Only headings before a position of the text count. The first heading is the record's
    Instruction.
    """
    first = headings[0]
    rules = (
        lambda heading: heading.number == first.number and heading.style == first.style,
        lambda heading: heading.style == first.style,
        # `# Output: 3` is a comment of a program, unless every heading is written like that.
        lambda heading: heading.style[0] != 1 or first.style[0] > 0,
    )
    for looseness, matches in enumerate(rules[: max_looseness + 1]):
        for heading in headings:
            if heading.kind == kind and heading.start < before and matches(heading):
                return heading, looseness
    return None, len(rules)


def _strip_separator(text: str, *, last: bool) -> str:
    """Return an output without the separator after it."""
    text = text.rstrip()
    before, _, line = text.rpartition("\n")
    separator = SEPARATOR if last else SEPARATOR_LINE
    text = (before if separator.fullmatch(line) else text).rstrip()
    return text.lstrip("\n").lstrip(" ").lstrip("\n")


def _strip_fence(text: str) -> str:
    """Return the content of a code block that encloses the whole reply."""
    match = FENCE.match(text)
    if not match:
        return text
    inner = text[match.end() :].rstrip()
    return inner.removesuffix(match[1]) if inner.endswith("\n" + match[1]) else inner
