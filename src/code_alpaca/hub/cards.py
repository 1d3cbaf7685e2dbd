"""Cards: a Jinja template filled from files, and what people wrote into it afterwards."""

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

PREAMBLE = "(before the first heading)"
REWRITTEN = Markdown("<!-- rewritten by every release -->")  # stands in sections that hold numbers
# Metadata that follows from the content of a release, and is of no use when it says other things.
COMPUTED_METADATA = {"configs", "dataset_info", "size_categories", "model-index", "base_model",
            "base_model_relation", "datasets", "models", "library_name", "pipeline_tag", "sdk",
            "sdk_version", "python_version", "app_file"}  # fmt: skip
REPOSITORY_LABELS = (
    "repository",
    "source",
    "source code",
)  # labels of addresses in a package's metadata
NO_LICENSE = "other"  # what is written where nobody named one


class MergedCard(NamedTuple):
    """A card, and the sections of it that were edited by hand: kept, or rewritten all the same."""

    text: str
    kept: list[str]
    lost: list[str]


def render_card(
    template: str, read: Callable[[str], str], metadata: dict[str, Any], **values: Any
) -> str:
    """The README.md of a repository: YAML metadata for the Hub, then the card.

    Values are printed as plain text, whatever Markdown or HTML they hold; the template gives those
    of another form to the filters `code`, `codes`, `cell`, `block`, `shell`,
    `python` and `url`.

    Args:
        template: the name of a Jinja template; `{{ REWRITTEN }}` in it marks a section that holds
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
        finalize=markdown.finalize,
    )
    filters = ("code", "codes", "cell", "block", "shell", "python", "url")
    environment.filters |= {name: getattr(markdown, name) for name in filters}
    environment.filters["trusted"] = Markdown  # for constants of the template itself
    body = environment.get_template(template).render(**values, REWRITTEN=REWRITTEN)
    return f"---\n{yaml.safe_dump(_flat(metadata), sort_keys=False)}---\n\n{body}"


def merge_cards(ours: str, base: str, theirs: str) -> MergedCard:
    """Our new card with what people wrote into the old one.

    Sections are what stands under one `## ` heading. One that was edited or added by hand is kept,
    one that was deleted stays away, but those that hold numbers (and the text before the first
    heading) are rendered again by every release. Metadata is kept where people set it, the licence
    and the name too, unless it is `COMPUTED` or was changed for this release as well.

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
        # The old card counts too: its section of numbers may have another heading by now.
        if title == PREAMBLE or REWRITTEN in new.get(title, "") + old.get(title, ""):
            lost.append(title)
        else:
            kept.append(title)
            result[title] = text
    for title in old.keys() - edited.keys():
        if title in result and REWRITTEN not in result[title]:
            kept.append(f"{title} (deleted)")
            del result[title]
    (before, text), (after, edited_text) = (
        _split_metadata(old[PREAMBLE]),
        _split_metadata(edited[PREAMBLE]),
    )
    if PREAMBLE in lost and edited_text == text:
        lost.remove(PREAMBLE)
    _keep_metadata(result, before, after, kept, lost)
    return MergedCard("".join(result.values()), kept, lost)


def adopt_card(ours: str, theirs: str) -> MergedCard:
    """Our first card with the metadata of one that people made before there was a release."""
    kept: list[str] = []
    lost = ["text"] if has_text(theirs) else []
    result = _sections(ours)
    metadata = _split_metadata(result[PREAMBLE])[0]
    before = {key: value for key, value in metadata.items() if key != "license"}
    after = _split_metadata(_sections(theirs)[PREAMBLE])[0]
    _keep_metadata(result, {**before, "license": NO_LICENSE}, after, kept, lost)
    return MergedCard("".join(result.values()), kept, lost)


def has_text(card: str) -> bool:
    """Tell whether a README.md holds anything but metadata."""
    return bool(_split_metadata(card)[1].strip())


def _keep_metadata(
    sections: dict[str, str],
    before: dict[str, Any],
    after: dict[str, Any],
    kept: list[str],
    lost: list[str],
) -> None:
    """Put metadata that people set, from `before` to `after`, into our card."""
    metadata, top = _split_metadata(sections[PREAMBLE])
    ours = dict(metadata)
    for key, value in after.items():
        if value in (before.get(key), ours.get(key)):
            continue
        if key in ours and (key in COMPUTED_METADATA or ours[key] != before.get(key)):
            lost.append(f"metadata {key}")
        else:
            kept.append(f"metadata {key}")
            metadata[key] = value
    sections[PREAMBLE] = f"---\n{yaml.safe_dump(metadata, sort_keys=False)}---\n{top}"
    if metadata.get("license") != ours.get("license") and "Licence" in sections:
        # The section says the licence as well, and must not say another one than the metadata.
        names = [str(markdown.code(each.get("license"))) for each in (ours, metadata)]
        sections["Licence"] = sections["Licence"].replace(*names, 1)


def install_command(package: str = "code-alpaca") -> Markdown:
    """Return the line of a shell that installs this version of the tool.

    By the repository that its metadata names, at the tag of the version: the name alone may belong
    to anybody on the package index. A comment, where the metadata names no repository.
    """
    version = importlib.metadata.version(package)
    for line in importlib.metadata.metadata(package).get_all("Project-URL") or []:
        label, _, address = (part.strip() for part in line.partition(","))
        if label.lower() in REPOSITORY_LABELS and address.startswith("https://"):
            requirement = f"{package} @ git+{address.removesuffix('/')}@v{version}"
            return Markdown(f"pip install {markdown.shell(requirement)}")
    return Markdown(f"# with {package} {version} installed from its repository")


def _flat(value: Any) -> Any:
    """Metadata with each text on one line, so that none of it ends the metadata."""
    if isinstance(value, dict):
        return {_flat(key): _flat(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_flat(item) for item in value]
    return markdown.one_line(value) if isinstance(value, str) else value


def _sections(text: str) -> dict[str, str]:
    """Sections by their titles, in order; the text before the first one is `TOP`."""
    found, title, fence = {PREAMBLE: ""}, PREAMBLE, ""
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


def strip_local_paths(value: Any) -> Any:
    """A value as a card or a released file may tell it: of a path its last part, but for those
    below the working folder.

    The rest is about somebody's disk.
    """
    if isinstance(value, dict):
        return {strip_local_paths(key): strip_local_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strip_local_paths(item) for item in value]
    abroad = isinstance(value, str) and value.startswith(("/", "~", "../", "file://"))
    return PurePath(value).name if abroad else value
