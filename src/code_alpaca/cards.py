"""Cards: a Jinja template filled from files, and what people wrote into it afterwards."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

import jinja2
import yaml

TOP = "(before the first heading)"
ANEW = "<!-- made anew by every release -->"  # stands in sections that hold numbers


class Merged(NamedTuple):
    """A card, and the sections of it that were edited by hand: kept, or made anew all the same."""

    text: str
    kept: list[str]
    lost: list[str]


def render(
    template: str, read: Callable[[str], str], metadata: dict[str, Any], **values: Any
) -> str:
    """The README.md of a repository: YAML metadata for the Hub, then the card.

    Args:
        template: the name of a Jinja template; `{{ ANEW }}` in it marks a section that holds
            numbers.
        read: gives a template by its name.

    Raises:
        jinja2.UndefinedError: the template names a value that is not there.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    body = environment.get_template(template).render(**values, ANEW=ANEW)
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n{body}"


def merge(ours: str, base: str, theirs: str) -> Merged:
    """Our new card with what people wrote into the old one.

    Sections are what stands under one `## ` heading. One that was edited or added by hand is kept,
    one that was deleted stays away, but those that hold numbers (and the text before the first
    heading) are always made anew. Metadata that we do not write is kept.

    Args:
        ours: the card as it is rendered now.
        base: the card as it was released last.
        theirs: what people made of it.
    """
    new, old, edited = _sections(ours), _sections(base), _sections(theirs)
    kept, lost, result = [], [], dict(new)
    for title, text in edited.items():
        if text == old.get(title):
            continue
        if title == TOP or ANEW in new.get(title, ""):
            lost.append(title)
        else:
            kept.append(title)
            result[title] = text
    for title in old.keys() - edited.keys():
        if title in result and ANEW not in result[title]:
            kept.append(f"{title} (deleted)")
            del result[title]
    metadata, top = _split_metadata(result[TOP])
    (before, text), (after, edited_text) = _split_metadata(old[TOP]), _split_metadata(edited[TOP])
    if TOP in lost and edited_text == text:
        lost.remove(TOP)
    for key in after:
        if after[key] != before.get(key):
            (lost if key in metadata else kept).append(f"metadata {key}")
            metadata.setdefault(key, after[key])
    result[TOP] = f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{top}"
    return Merged("".join(result.values()), kept, lost)


def _sections(text: str) -> dict[str, str]:
    """Sections by their titles, in order; the text before the first one is `TOP`."""
    found, title, fence = {TOP: ""}, TOP, ""
    for line in text.splitlines(keepends=True):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif (
            fence
            and line.strip()
            and set(line.strip()) == {fence[0]}
            and (len(line.strip()) >= len(fence))
        ):
            fence = ""
        elif not fence and line.startswith("## "):
            title = line[3:].strip()
            found.setdefault(title, "")
        found[title] += line
    return found


def _split_metadata(text: str) -> tuple[dict[str, Any], str]:
    found = re.match(r"---\r?\n(.*?)\n---\r?\n(.*)", text, re.DOTALL)
    if not found:
        return {}, text
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError:
        metadata = None
    return (metadata if isinstance(metadata, dict) else {}), found[2]


def public(value: Any) -> Any:
    """A value as a card or a released file may tell it: of a path its last part, but for those
    below the working folder.

    The rest is about somebody's disk.
    """
    if isinstance(value, dict):
        return {public(key): public(item) for key, item in value.items()}
    if isinstance(value, list):
        return [public(item) for item in value]
    abroad = isinstance(value, str) and value.startswith(("/", "~", "../", "file://"))
    return PurePath(value).name if abroad else value
