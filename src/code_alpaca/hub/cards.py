"""Render the card (README.md) of a repository, and keep what people edited in it on the Hub."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable
from pathlib import PurePath
from typing import Any, NamedTuple

import jinja2
import yaml

from code_alpaca.core import markdown
from code_alpaca.core.markdown import Markdown
from code_alpaca.core.redact import map_texts

PREAMBLE = "(before the first heading)"
REWRITTEN = Markdown("<!-- rewritten by every release -->")  # in sections that contain numbers
# Metadata that follows from the content of a release, so that an edited value would be wrong.
COMPUTED_METADATA = {
    "configs", "dataset_info", "size_categories", "model-index", "base_model",
    "base_model_relation", "datasets", "models", "library_name", "pipeline_tag", "sdk",
    "sdk_version", "python_version", "app_file",
}  # fmt: skip
REPOSITORY, INDEX = "Repository", "Index"  # project_urls in setup.cfg
PLACEHOLDER = "/OWNER/"  # in the URL of a repository that is not public yet
UNKNOWN_LICENSE = "other"  # the metadata of a card without a license
LICENSE, OLD_LICENSE = "License", "Licence"  # headings
Metadata = dict[str, Any]
# A path outside the working folder, alone or after `ENGINE:` or `--flag=`.
OUTSIDE_PATH = re.compile(
    r"\A(?P<prefix>(?:[\w-]+:(?!//)|-[\w-]+=)?)(?P<path>(?:/|~|\.\./|file://).*)", re.DOTALL
)
FILTERS = ("code", "codes", "cell", "block", "shell", "python", "url")  # of `core.markdown`


class MergedCard(NamedTuple):
    """A card, and the sections that people edited: kept, or rewritten."""

    text: str
    kept: list[str]
    lost: list[str]


def render_card(
    template: str, read: Callable[[str], str], metadata: Metadata, **values: Any
) -> str:
    """Return the README.md of a repository: YAML metadata for the Hub, then the rendered template.

    Values are printed as plain text, even if they contain Markdown or HTML, unless the template
    passes them through a filter of `FILTERS`. `{{ REWRITTEN }}` marks a section with numbers.
    `read` returns a template by its name.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(read),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        finalize=markdown.finalize,
    )
    environment.filters |= {name: getattr(markdown, name) for name in FILTERS}
    environment.filters["trusted"] = Markdown  # for constants of the template itself
    body = environment.get_template(template).render(**values, REWRITTEN=REWRITTEN)
    metadata = map_texts(markdown.one_line, metadata)  # a line break could end the metadata block
    return f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n\n{body}"


def merge_cards(new: str, released: str, edited: str) -> MergedCard:
    """Return the `new` card with what people `edited` on the Hub since it was `released`.

    A section is the text under one `## ` heading. Edited and added sections are kept and deleted
    ones stay deleted, except those that contain numbers and the text before the first heading,
    which every release rewrites. Edited metadata is kept, unless it is in COMPUTED_METADATA or
    this release changes it as well.
    """
    sections, before, after = (_split_sections(text) for text in (new, released, edited))
    result, kept, lost = dict(sections), [], []
    for title, text in after.items():
        if text == before.get(title):
            continue
        rendered = sections.get(title, "") + before.get(title, "")
        if title == PREAMBLE or REWRITTEN in rendered:
            lost.append(title)
        else:
            kept.append(title)
            result[title] = text
    for title in before.keys() - after.keys():
        if title in result and REWRITTEN not in result[title]:
            kept.append(f"{title} (deleted)")
            del result[title]
    released_metadata, released_text = _split_metadata(before[PREAMBLE])
    edited_metadata, edited_text = _split_metadata(after[PREAMBLE])
    if PREAMBLE in lost and edited_text == released_text:
        lost.remove(PREAMBLE)
    return _merge_metadata(result, released_metadata, edited_metadata, kept, lost)


def adopt_card(new: str, existing: str) -> MergedCard:
    """Return the card of a first release with the metadata of the card that people wrote before."""
    lost = ["text"] if has_text(existing) else []
    result = _split_sections(new)
    defaults = {**_split_metadata(result[PREAMBLE])[0], "license": UNKNOWN_LICENSE}
    edited = _split_metadata(_split_sections(existing)[PREAMBLE])[0]
    return _merge_metadata(result, defaults, edited, [], lost)


def has_text(card: str) -> bool:
    """Return whether a README.md contains more than metadata."""
    return bool(_split_metadata(card)[1].strip())


def install_command(package: str = "code-alpaca") -> Markdown:
    """Return the shell command that installs this version of the tool on another machine.

    From its repository, since the name may belong to anyone on the package index, unless the
    package's metadata states that it is there. Without a public repository it is a comment.
    """
    version = importlib.metadata.version(package)
    lines = importlib.metadata.metadata(package).get_all("Project-URL") or []
    urls = dict(line.split(", ", 1) for line in lines)
    repository = urls.get(REPOSITORY, PLACEHOLDER)
    if INDEX in urls:
        return Markdown(f"pip install {markdown.shell(f'{package}=={version}')}")
    if PLACEHOLDER in repository:
        return Markdown(f"# with {package} {version} installed from its repository")
    return Markdown(f"pip install {markdown.shell(f'{package} @ git+{repository}@v{version}')}")


def strip_local_paths(value: Any) -> Any:
    """Reduce every path outside the working folder to its last part: the rest is private.

    Also in `llama-server:/models/qwen.gguf` and `--chat-template=/models/qwen.jinja`.
    """
    return map_texts(lambda text: OUTSIDE_PATH.sub(_keep_last_part, text), value)


def _keep_last_part(found: re.Match[str]) -> str:
    return found["prefix"] + PurePath(found["path"]).name


def _merge_metadata(
    sections: dict[str, str], before: Metadata, after: Metadata, kept: list[str], lost: list[str]
) -> MergedCard:
    """Return the card of these sections with the metadata that people changed after `before`."""
    metadata, text = _split_metadata(sections[PREAMBLE])
    rendered = dict(metadata)
    for key, value in after.items():
        if value in (before.get(key), rendered.get(key)):
            continue
        if key in rendered and (key in COMPUTED_METADATA or rendered[key] != before.get(key)):
            lost.append(f"metadata {key}")
        else:
            kept.append(f"metadata {key}")
            metadata[key] = value
    sections[PREAMBLE] = f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{text}"
    if metadata.get("license") != rendered.get("license"):
        # The section names the license as well and must agree with the metadata.
        names = [str(markdown.code(values.get("license"))) for values in (rendered, metadata)]
        if LICENSE in sections:
            sections[LICENSE] = sections[LICENSE].replace(*names, 1)
    return MergedCard("".join(sections.values()), kept, lost)


def _split_sections(text: str) -> dict[str, str]:
    """Return the sections by title, in order; a heading in a fenced block starts none.

    The heading of earlier versions, OLD_LICENSE, becomes LICENSE.
    """
    sections, title, fence = {PREAMBLE: ""}, PREAMBLE, ""
    for line in text.splitlines(keepends=True):
        bare = line.strip()
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark[1]
        elif fence and bare and set(bare) == {fence[0]} and len(bare) >= len(fence):
            fence = ""
        elif not fence and line.startswith("## "):
            title = line[3:].strip()
            if title == OLD_LICENSE:
                title, line = LICENSE, line.replace(OLD_LICENSE, LICENSE)
            sections.setdefault(title, "")
        sections[title] += line
    return sections


def _split_metadata(text: str) -> tuple[Metadata, str]:
    found = re.match(r"---\r?\n(.*?)\n---\r?\n(.*)", text, re.DOTALL)
    if not found:
        return {}, text
    try:
        metadata = yaml.safe_load(found[1])
    except yaml.YAMLError:
        metadata = None
    return (metadata if isinstance(metadata, dict) else {}), found[2]
