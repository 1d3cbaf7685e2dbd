"""Find the records of numbered text: Instruction, Input, Output, as models really head them.

The form that is asked for is `4. Instruction:`, `4. Input:`, `4. Output:`. Models also count every
heading (`5. Instruction:`, `6. Input:`, `7. Output:`), start again at 1, leave the number or an
empty Input out, and write headings in bold, with `#` or in capitals. The rules:

- A record is an Instruction heading, then at most one Input, then an Output, whatever their
  numbers. It ends where the next record begins.
- An Instruction heading begins a record if its number is higher than that of the record before,
  or if it follows a separator line, or is headed like the first one of the text and an Output of
  its own follows. Any other one is content: answers may quote prompts.
- Input and Output headings of the record's own number are preferred, then those written in the
  same way, so that `# Output: 3` in a program, or `2. Input:` in an answer, stays where it is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Digits and spaces are bounded: an answer may be a megabyte of either.
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
# Between two records only: elsewhere these may be part of an answer.
RULE = re.compile(r"#{2,}|-{3,}|={3,}|\*{3,}|(?:#+ *)?\**(?:Task|Example|Exercise) \d+\W*")
FENCE = re.compile(
    r"\s*(`{3,})[a-z]*[ \t]*\n(?=[ \t]{0,8}\S{0,8}[ \t]{0,4}\S{0,4}instruction)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Heading:
    """One heading: its place, kind, number, and how it is written (hashes, bold, numbered)."""

    start: int
    end: int
    kind: str
    number: int | None
    style: tuple[int, bool, bool]


@dataclass(frozen=True, slots=True)
class Block:
    """The text of one record; `fields` is None where it has no Output heading."""

    text: str
    fields: tuple[str, str, str] | None = None


def split_records(text: str, prefix: str = "") -> list[Block]:
    """Return the records of numbered text in order; none if it has no Instruction heading.

    Args:
        prefix: the Instruction heading at the end of the prompt, which the text continues, unless
            it opens with such a heading itself.
    """
    text = _without_outer_fence(text)
    first = next(_headings(text), None)
    if first is None or first.kind != "instruction":
        return _records(prefix + text)
    lead = text[: first.start]
    started = [Block(prefix + lead)] if prefix and lead.strip() else []
    return [*started, *_records(text)]


def _records(text: str) -> list[Block]:
    headings = list(_headings(text))
    starts = _record_starts(text, headings)
    blocks = []
    for place, start in enumerate(starts):
        following = starts[place + 1] if place + 1 < len(starts) else None
        end = len(text) if following is None else headings[following].start
        blocks.append(_block(text, headings[start:following], end, last=following is None))
    return blocks


def _headings(text: str) -> Iterator[Heading]:
    for found in HEADING.finditer(text):
        number = found["number"] or found["number_after"]
        hashes = len((found["hashes"] or "").strip())
        bold = bool(found["bold"] or found["bold_within"])
        if found["bare"] is not None and not (hashes or bold):
            continue  # a line with a word on it, no heading
        yield Heading(
            found.start(),
            found.end(),
            found["kind"].lower(),
            int(number) if number else None,
            (hashes, bold, number is not None),
        )


def _record_starts(text: str, headings: Sequence[Heading]) -> list[int]:
    """Places in `headings` at which a record begins."""
    instructions = [i for i, each in enumerate(headings) if each.kind == "instruction"]
    outputs = [i for i, each in enumerate(headings) if each.kind == "output"]
    starts: list[int] = []
    last: int | None = None
    for place, index in enumerate(instructions):
        heading = headings[index]
        higher = heading.number is not None and (last is None or heading.number > last)
        if starts and not higher and not _after_separator(text, heading.start):
            following = instructions[place + 1 : place + 2] or [len(headings)]
            found = bisect_left(outputs, index)
            own_output = found < len(outputs) and outputs[found] < following[0]
            alike = heading.style == headings[starts[0]].style or heading.number is not None
            if not (own_output and alike):
                continue
        starts.append(index)
        last = heading.number if heading.number is not None else last
    return starts


def _after_separator(text: str, start: int) -> bool:
    """Whether the line before, blank lines aside, is a separator."""
    before = text[max(0, start - 200) : start].rstrip()
    return bool(RULE.fullmatch(before[before.rfind("\n") + 1 :].strip()))


def _block(text: str, headings: Sequence[Heading], end: int, *, last: bool) -> Block:
    first = headings[0]
    whole = text[first.start : end]
    output, preference = _choose("output", first, headings, end)
    if output is None:
        return Block(whole)
    given, _ = _choose("input", first, headings, output.start, loosest=max(1, preference))
    instruction_end = (given or output).start
    return Block(
        whole,
        (
            text[first.end : instruction_end].strip(),
            text[given.end : output.start].strip() if given else "",
            _answer(text[output.end : end], last=last),
        ),
    )


def _choose(
    kind: str, first: Heading, headings: Sequence[Heading], before: int, loosest: int = 2
) -> tuple[Heading | None, int]:
    """The heading of a kind that belongs to a record, and how loosely it does (0, 1 or 2)."""
    found = [each for each in headings if each.kind == kind and each.start < before]
    rules = (
        lambda each: each.number == first.number and each.style == first.style,
        lambda each: each.style == first.style,
        # A comment `# Output: 3` of a program is no heading, but where all are written like it.
        lambda each: each.style[0] != 1 or first.style[0] > 0,
    )
    for looseness, fits in enumerate(rules[: loosest + 1]):
        for heading in found:
            if fits(heading):
                return heading, looseness
    return None, len(rules)


def _answer(text: str, *, last: bool) -> str:
    """An output without the separator behind it."""
    text = text.rstrip()
    before, _, line = text.rpartition("\n")
    mark = SEPARATOR if last else RULE
    text = (before if mark.fullmatch(line) else text).rstrip()
    return text.lstrip("\n").lstrip(" ").lstrip("\n")


def _without_outer_fence(text: str) -> str:
    """The records in a code block that holds the whole reply."""
    found = FENCE.match(text)
    if not found:
        return text
    inner = text[found.end() :].rstrip()
    if inner.endswith("\n" + found[1]):
        return inner[: -len(found[1])]
    return inner
