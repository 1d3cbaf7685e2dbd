"""List the shipped recipes, print one, or copy one to edit it.

    code-alpaca recipes
    code-alpaca recipes show llama-7b/sft/config_full
    code-alpaca recipes copy llama-7b/sft/config_full my_recipes

`--config` of every stage also takes the name of a recipe.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path

from code_alpaca.core import console
from code_alpaca.core.config import CommandLineParser
from code_alpaca.core.errors import InputError
from code_alpaca.core.shipped import RECIPES, find_recipe, list_names

HEADER = re.compile(r"# (\w+): +(.+(?:\n#  +.+)*)")


def run_recipes(argv: Sequence[str]) -> None:
    """List the recipes, or print or copy one."""
    arguments = _parse(argv)
    if arguments.action == "copy":
        _copy(find_recipe(arguments.name), arguments.folder)
    elif arguments.action == "show":
        text = find_recipe(arguments.name).read_text(encoding="utf-8")
        console.stage("").print(text.removesuffix("\n"))
    else:
        _print_list()


def read_header(path: Path) -> dict[str, str]:
    """Return what the comments at the top of a recipe state: When, Hardware, Time, Command, ..."""
    text = path.read_text(encoding="utf-8")
    return {key: re.sub(r"\s*\n#\s+", " ", value) for key, value in HEADER.findall(text)}


def _print_list() -> None:
    """Print plain lines, so that names can be copied and the list can be searched with grep."""
    output = console.stage("")
    for name in list_names(RECIPES):
        header = read_header(find_recipe(name))
        output.print(
            f"{name}\n  when:     {header['When']}\n  hardware: {header['Hardware']}\n"
            f"  time:     {header['Time']}\n"
        )
    output.print("code-alpaca recipes show NAME prints a recipe, with the command that runs it")


def _copy(recipe: Path, folder: Path) -> None:
    path = folder / recipe.name
    if path.exists():
        raise InputError(f"{path} exists; delete it, or copy the recipe to another folder")
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(recipe, path)
    option = f"--config {shlex.quote(str(path))}"
    console.stage("recipes").print(f"{path}; edit it, then give it as {option}")


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = CommandLineParser(
        prog="code-alpaca recipes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", title="actions", metavar="ACTION")
    actions.add_parser("list", help="list every recipe with its hardware and time (the default)")
    show = actions.add_parser("show", help="print a recipe")
    copy = actions.add_parser("copy", help="copy a recipe into a folder")
    for action in (show, copy):
        action.add_argument("name", help="such as smoke/sft/config_cpu")
    copy.add_argument("folder", type=Path, nargs="?", default=Path(), help="default: this folder")
    return parser.parse_args(argv)
