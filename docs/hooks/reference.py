"""MkDocs hook: write the command reference from the code, and add pages from outside docs/.

In a page, the line `<!-- commands -->` becomes the reference of every command. Documents of the
repository that belong to the site become pages, and links between them and docs/ are rewritten, so
that the same text works on the site and in the repository.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

from mkdocs.structure.files import File, Files

from code_alpaca import cli
from code_alpaca.core.config import StageConfig, add_arguments, describe_choices
from code_alpaca.training.arguments import SFTArguments

ROOT = Path(__file__).parents[2]
COMMANDS = "<!-- commands -->"
# Document of the repository -> page of the site.
PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "recipes/README.md": "recipes.md",
}
SFT_KEYS = (
    "Also every key of TRL's `SFTConfig` and `ModelConfig` "
    "([TRL's reference](https://huggingface.co/docs/trl/sft_trainer)), and `--accelerate_config`: "
    "launch with this file or shipped name, such as cpu or zero2.\n\n"
)
LINK = re.compile(r"(?<=\]\()([\w./-]+\.md)(?=[)#])")


class Key(NamedTuple):
    """A key of a command."""

    name: str
    about: str
    default: str


def on_files(files: Files, config: Any, **_: Any) -> Files:
    """Add the documents of the repository that are pages of the site."""
    for source, page in PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=_rewrite_links(text, source, page)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page, and fill in the reference of the commands."""
    if page.file.src_uri not in PAGES.values():
        source = f"docs/{page.file.src_uri}"
        markdown = _rewrite_links(markdown, source, page.file.src_uri)
    return markdown.replace(COMMANDS, "\n".join(map(describe_command, cli.STAGES)))


def describe_command(stage: str) -> str:
    """Return the reference of one command as Markdown, from its config class or its `--help`."""
    command = cli.STAGES[stage]
    title = f"## `{stage}`\n\n{command.help[0].upper()}{command.help[1:]}.\n\n"
    if command.config:
        module = importlib.import_module(f"code_alpaca.{command.module}")
        return title + _table(_read_config_class(getattr(module, command.config)))
    if stage == "sft":
        return title + SFT_KEYS + _table(_read_dataclass(SFTArguments))
    return f"{title}```text\n{_print_help(stage)}```\n"


def _read_config_class(config: type[StageConfig]) -> Iterator[Key]:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser, config)
    for action in parser._actions:
        about, _, default = (action.help or "").replace("%%", "%").rpartition(" (")
        yield Key(action.dest, about, default.removesuffix(")").removeprefix("default: "))


def _read_dataclass(arguments: type) -> Iterator[Key]:
    types = get_type_hints(arguments)
    for item in dataclasses.fields(arguments):
        default = None if item.default is dataclasses.MISSING else item.default
        about = describe_choices(item.metadata["help"], types[item.name])
        yield Key(item.name, about, str(default))


def _table(keys: Iterable[Key]) -> str:
    rows = (
        f"| `{key.name}` | {_cell(key.about)} | {_cell(f'`{key.default}`')} |\n" for key in keys
    )
    return f"| Key | Meaning | Default |\n|---|---|---|\n{''.join(rows)}"


def _print_help(stage: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        cli.run_stage(stage, ["--help"])
    return output.getvalue()


def _cell(text: str) -> str:
    """Return a text that no Markdown extension changes; braces would be attributes."""
    if text == "`required`":
        return "required"
    if text.startswith("`"):
        return text.replace("|", r"\|")
    return text.replace("|", r"\|").replace("<", "&lt;").replace("{", "&#123;").replace("_", r"\_")


def _rewrite_links(text: str, source: str, page: str) -> str:
    """Point links between documents of the repository to their pages."""

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match[0]))
        target = PAGES.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(page) or ".")

    return LINK.sub(rewrite, text)
