"""The dataset card: a Jinja template, and every number in it from the manifest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import yaml

from code_alpaca.schema import CONFIGS

TOP = "(before the first heading)"
ANEW = "<!-- made anew by every release -->"  # stands in sections that hold numbers
SIZES = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]


class Merged(NamedTuple):
    """A card, and the sections of it that were edited by hand: kept, or made anew all the same."""

    text: str
    kept: list[str]
    lost: list[str]


def render(
    manifest: dict[str, Any], example: dict[str, Any] | None, pictures: Sequence[str] = ()
) -> str:
    """The README.md of a dataset folder: YAML metadata, then the card.

    Args:
        manifest: what `manifest.json` holds.
        example: one row to show, if there is any.
        pictures: names of files in `assets/`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_read),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
    )
    body = environment.get_template("README.md.jinja").render(
        **{key: value for key, value in manifest.items() if key != "config"},
        run=manifest["config"],
        example=example,
        fence=_fence(example),
        pictures=pictures,
        ANEW=ANEW,
    )
    return f"---\n{yaml.safe_dump(_metadata(manifest), sort_keys=False)}---\n\n{body}"


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


def _metadata(manifest: dict[str, Any]) -> dict[str, Any]:
    """What the Hub reads: the constant part from metadata.yaml, the rest from the manifest."""
    rows = manifest["counts"]["default"]
    size = next((name for limit, name in SIZES if rows < limit), "1M<n<10M")
    return {
        **yaml.safe_load(_read("metadata.yaml")),
        "license": manifest["license"],
        "size_categories": [size],
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == "default" else {}),
                # `datasets` keys its cache of a local folder on this metadata and not on the
                # files: without a word of the content, it would hand out another run's rows.
                "description": _content(manifest, name),
                "data_files": [
                    {"split": split, "path": f"data/{name}/{split}-*.parquet"}
                    for split in manifest["splits"][name]
                ],
            }
            for name in CONFIGS
            if manifest["counts"][name]
        ],
    }


def _content(manifest: dict[str, Any], name: str) -> str:
    """The hash of a config's shards, as its description."""
    shards = [sha for path, sha in manifest["sha256"].items() if Path(path).parts[1] == name]
    return f"sha256 {' '.join(shards)}"


def _fence(example: dict[str, Any] | None) -> str:
    """A fence longer than any run of backticks in the example."""
    text = "" if example is None else example["input"] + example["output"]
    fence = "```"
    while fence in text:
        fence += "`"
    return fence


def _read(name: str) -> str:
    return resources.files("code_alpaca").joinpath("dataset/templates", name).read_text("utf-8")
