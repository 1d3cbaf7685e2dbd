"""Imports follow the layer table of CONTRIBUTING.md; `code-alpaca --help` loads nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import code_alpaca

PACKAGE = Path(code_alpaca.__file__).parent
GUIDE = Path(__file__).parents[1] / "CONTRIBUTING.md"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LAZY = {"torch", "transformers", "trl", "accelerate", "datasets", "deepspeed", "evaluate"}
# Modules whose classes extend a heavy package; other modules import them inside functions.
HEAVY_MODULES = {"code_alpaca.training.trainer"}
LOADED_BY_EVALUATE = {"pass_at_k.py"}  # a metric of the `evaluate` library, never imported here
ROW = re.compile(r"^\| (\d) \| `(\w+)` \| ([^|]*)\|", re.MULTILINE)


def read_table() -> tuple[dict[str, int], dict[str, set[str]]]:
    rows = ROW.findall(GUIDE.read_text(encoding="utf-8"))
    layers = {package: int(layer) for layer, package, _ in rows}
    return layers, {package: set(re.findall(r"`(\w+)`", same)) for _, package, same in rows}


LAYERS, SAME_LAYER = read_table()


def package_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(tree: ast.AST) -> set[str]:
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules.add(node.module)
            modules |= {f"{node.module}.{alias.name}" for alias in node.names}
    return modules


def test_the_table_names_every_package():
    packages = {package_of(path) for path in SOURCES} - {"__init__"}
    assert set(LAYERS) == packages


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    package = package_of(path)
    if package == "__init__":
        return  # re-exports lazily, from any layer
    for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
        _, _, rest = module.partition("code_alpaca.")
        other = rest.split(".")[0]
        if module.split(".")[0] != "code_alpaca" or other not in LAYERS or other == package:
            continue
        downward = LAYERS[other] < LAYERS[package] or other in SAME_LAYER[package]
        assert downward, (
            f"{package} (layer {LAYERS[package]}) imports {module} (layer {LAYERS[other]}); move "
            "the code down, or pass in what it needs"
        )


def test_same_layer_imports_form_no_cycle():
    for package in LAYERS:
        reachable, stack = set(), list(SAME_LAYER[package])
        while stack:
            other = stack.pop()
            if other not in reachable:
                reachable.add(other)
                stack.extend(SAME_LAYER[other])
        assert package not in reachable


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(path):
    module = ".".join(("code_alpaca", *path.relative_to(PACKAGE).with_suffix("").parts))
    if path.name in LOADED_BY_EVALUATE or module in HEAVY_MODULES:
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imported = imported_modules(node)
            heavy = {name.split(".")[0] for name in imported} & LAZY | imported & HEAVY_MODULES
            assert not heavy, f"{path.name} imports {heavy} at module level"


MAX_LINES, MAX_PARAMETERS = 60, 5


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_functions_are_short_and_take_few_parameters(path):
    """A comment in or above a signature may explain why it has more parameters."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        length = (node.end_lineno or 0) - node.lineno + 1
        assert length <= MAX_LINES, f"{node.name} has {length} lines"
        arguments = node.args
        names = [
            argument.arg
            for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
            if argument.arg not in ("self", "cls")
        ]
        signature = lines[node.lineno - 2 : node.body[0].lineno - 1]
        explained = any("#" in line and "fmt:" not in line for line in signature)
        assert len(names) <= MAX_PARAMETERS or explained, f"{node.name} takes {names}"


def test_class_names_are_unique():
    classes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                classes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: paths for name, paths in classes.items() if len(paths) > 1} == {}


def test_help_loads_no_heavy_library():
    code = """
import contextlib, sys
from code_alpaca.cli import STAGES, main

heavy = {"torch", "transformers", "trl", "datasets", "numpy", "numba", "matplotlib", "openai",
         "gradio"}
for words in [["--help"], *([stage, "--help"] for stage in STAGES)]:
    with contextlib.suppress(SystemExit):
        main(words)
    if loaded := heavy & set(sys.modules):
        sys.exit(f"{words} loaded {loaded}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
