"""Remove a model's reasoning ("thinking") from its response.

Servers without a reasoning parser leave it in the text, between tags. If the chat template opened
the tag, only the closing one remains. Tags that a response only mentions (in JSON strings, code
fences, quotes, comments, prose) are kept.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right

_NAMES = r"think|thinking|thoughts?|reasoning|reflection|scratchpad|seed:think"
_OPEN = (
    rf"<(?P<angle>{_NAMES})\s*>"  # DeepSeek-R1, Qwen3, GLM, Seed-OSS, ...
    r"|\[(?P<square>THINK)\]"  # Magistral
    r"|◁(?P<kimi>think)▷"
    r"|<\|begin_of_(?P<pipe>thought)\|>"  # OpenThinker, Sky-T1
    r"|<\|START_(?P<cohere>THINKING)\|>"  # Command A
    r"|<\|(?P<apertus>inner)_prefix\|>"
    r"|<\|(?P<bar>think)\|>"
)
_CLOSE = (
    rf"</(?P<angle_end>{_NAMES})\s*>|\[/(?P<square_end>THINK)\]|◁/(?P<kimi_end>think)▷"
    r"|<\|end_of_(?P<pipe_end>thought)\|>|<\|END_(?P<cohere_end>THINKING)\|>"
    r"|<\|(?P<apertus_end>inner)_suffix\|>|<\|/(?P<bar_end>think)\|>"
)
_TAG = re.compile(f"{_OPEN}|{_CLOSE}", re.IGNORECASE)
_FENCE = re.compile(r"^[ \t]{0,3}(?:```+|~~~+)(.*)$", re.MULTILINE)
_COMMENT = re.compile(r"\s*(?:#|//|--|;|\*|/\*|<!--)")
_QUOTE = re.compile(r'(?<!\\)"|`')
_QUOTES = ("'", '"', "`")
_BLANK = re.compile(r"\s*")
_SOLUTION = re.compile(r"<\|(?:(?:begin|end)_of_solution|(?:START|END)_RESPONSE)\|>")
# The channels of gpt-oss (https://github.com/openai/harmony), with and without special tokens.
_HARMONY = re.compile(r"\s*(?:(?:<\|start\|>assistant)?<\|channel\|>|analysis(?=[A-Z\s]))")
_FINAL = re.compile(r"<\|channel\|>final[^<]*<\|message\|>|assistantfinal")
_ANALYSIS = re.compile(
    r"<\|channel\|>analysis[^<]*<\|message\|>(.*?)(?=<\|(?:end|start|channel)\|>|\Z)", re.DOTALL
)
_END = re.compile(r"<\|(?:end|return|call)\|>")


def strip_reasoning(text: str) -> str:
    """Return `text` without the reasoning that precedes or interrupts the response.

    A block that is never closed extends to the end of the text: a response that was truncated
    during reasoning is empty. Text without reasoning is unchanged.
    """
    return split_reasoning(text)[0]


def split_reasoning(text: str) -> tuple[str, str]:
    """Return the response in `text` as `strip_reasoning` does, and the reasoning without tags."""
    if _is_json(text):
        return text, ""
    if _HARMONY.match(text) and (found := _split_channels(text)) is not None:
        return found
    return _split_blocks(text)


def _is_json(text: str) -> bool:
    if text.lstrip()[:1] not in ("{", "["):
        return False
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _split_channels(text: str) -> tuple[str, str] | None:
    finals = list(_FINAL.finditer(text))
    if not finals and "<|channel|>analysis" not in text:
        return None
    start, end = (finals[-1].start(), finals[-1].end()) if finals else (len(text), len(text))
    parts = _ANALYSIS.findall(text[:start]) or [text[:start].strip().removeprefix("analysis")]
    return _END.split(text[end:], maxsplit=1)[0], "\n\n".join(map(str.strip, parts))


def _split_blocks(text: str) -> tuple[str, str]:
    tags = list(_TAG.finditer(text))
    if not tags:
        return text, ""
    layout = _Layout(text)
    kept: list[str] = []
    removed: list[str] = []
    start = 0  # of the response's text that is not in `kept` yet
    block = 0  # start of the current block
    opened: str | None = None  # name of the current block
    depth = last_close = 0
    for place, tag in enumerate(tags):
        name, closes = _name(tag)
        previous = tags[place - 1] if place else None
        if opened is None:
            if closes and layout.is_markup(tag, start, previous) and not layout.in_code(tag, start):
                # The prompt opened it.
                kept, removed, start = [], [text[: tag.start()]], tag.end()
            elif not closes and layout.begins_reasoning(tag, start, after_text=bool(kept)):
                if not layout.is_blank(start, tag.start()):
                    kept.append(text[start : tag.start()])
                opened, depth, last_close, block = name, 1, 0, tag.end()
        elif name == opened:
            if not closes:
                depth += layout.is_first_in_line(tag.start(), 0)
                continue
            last_close = tag.end()
            depth -= layout.is_markup(tag, 0, None)
            if depth == 0:
                opened, start = None, tag.end()
                removed.append(text[block : tag.start()])
    if opened is not None:  # unbalanced tags: the last one counts
        start = last_close or len(text)
        removed.append(_TAG.sub("", text[block:start]))
    if not kept and start == 0:
        return text, ""
    response = "".join(kept) + text[start:].lstrip("\r\n")
    return _SOLUTION.sub("", response), "\n\n".join(filter(None, map(str.strip, removed)))


def _name(tag: re.Match[str]) -> tuple[str, bool]:
    """Return the kind and name of a tag, and whether it is a closing tag."""
    group = tag.lastgroup or ""
    return group.removesuffix("_end") + tag[group].lower(), group.endswith("_end")


class _Layout:
    """The positions of lines, code fences and quotes, computed once for a text with many tags."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._quotes = [found.start() for found in _QUOTE.finditer(text)]
        fences = list(_FENCE.finditer(text))
        self._fences = [found.start() for found in fences]
        self._bare = [not found[1].strip() for found in fences]

    def begins_reasoning(self, tag: re.Match[str], start: int, *, after_text: bool) -> bool:
        """Return whether a tag is at the start of the response, or of a line outside code."""
        if not after_text and self.is_blank(start, tag.start()):
            return True
        return self._text[tag.start() - 1] in "\r\n" and not self.in_code(tag, start)

    def in_code(self, tag: re.Match[str], start: int) -> bool:
        """Return whether a tag is inside a fence opened after `start` and closed again."""
        after = bisect_left(self._fences, tag.start())
        opened = (after - bisect_left(self._fences, start)) % 2 == 1
        return opened and after < len(self._fences) and self._bare[after]

    def is_blank(self, start: int, end: int) -> bool:
        found = _BLANK.match(self._text, start, end)
        return found is not None and found.end() == end

    def is_first_in_line(self, index: int, start: int) -> bool:
        return self.is_blank(self._line(index, start), index)

    def is_markup(self, tag: re.Match[str], start: int, previous: re.Match[str] | None) -> bool:
        """Return whether a closing tag is markup, not part of a string, comment or sentence.

        Text before `start` is ignored. An opening tag on the same line belongs to this one.
        """
        index, text = tag.start(), self._text
        line = self._line(index, start)
        if self.is_first_in_line(index, start):
            return True
        before, after = text[index - 1], text[tag.end() : tag.end() + 2]
        if before in _QUOTES or after[:1] in (*_QUOTES, "\\"):
            return False
        if before == " " and after[:1] == " " and after[1:].islower():
            return False
        quotes = bisect_left(self._quotes, index) - bisect_left(self._quotes, line)
        if quotes % 2 or _COMMENT.match(text, line):
            return False
        return previous is None or previous.start() < line or _name(previous)[1]

    def _line(self, index: int, start: int) -> int:
        """Return the start of the line of `index`, but at least `start`."""
        return max(start, self._lines[bisect_right(self._lines, index) - 1])
