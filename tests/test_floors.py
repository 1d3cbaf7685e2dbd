"""The house rules that no single file shows: who may import whom, and how light the command is."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import code_alpaca

PACKAGE = Path(code_alpaca.__file__).parent
FLOORS = {
    "errors": -1, "cache": -1, "whole": -1, "code_regions": -1, "reasoning": -1, "shipped": -1,
    "redact": -1, "markdown": -1, "hub_records": -1, "unsafe_files": -1,
    "config": 0, "hub_errors": 0, "records": 0, "row_formats": 0, "ledger_file": 0,
    "hub_rights": 0.5,
    "schema": 1, "formatting": 1, "ledger": 1, "benchmarks": 1, "hub": 1, "cards": 1, "versions": 1,
    "sandbox": 1, "quiet": 1, "weights": 1, "model_source": 1,
    "row_checks": 1.5, "release_plan": 1.5, "releases": 1.7,
    "teacher": 2, "curation": 2, "dataset": 2, "inference": 2,
    "generation": 3, "training": 3, "evaluation": 3, "report": 3,
    "release": 4,
    "quickstart": 5, "cli": 5, "__init__": 5,
}  # fmt: skip
# Rooms of the first floor that rest on another one; everything else goes down.
SAME_FLOOR = {
    ("whole", "errors"), ("ledger", "schema"), ("versions", "hub"), ("versions", "cards"),
    ("row_formats", "records"), ("model_source", "weights"), ("shipped", "errors"),
}  # fmt: skip
LAZY_ONLY = {"torch", "transformers", "trl", "accelerate", "datasets", "deepspeed", "evaluate"}
PLUGINS = {"pass_at_k.py"}  # loaded by `evaluate`, never by us
SOURCES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def imported_modules(tree: ast.AST) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path):
    room = room_of(path)
    assert room in FLOORS, f"{room} has no floor; give it one here and in the architecture"
    for module in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
        parts = module.split(".")
        if parts[0] != "code_alpaca" or len(parts) < 2 or parts[1] not in FLOORS:
            continue
        other = parts[1]
        downward = FLOORS[other] < FLOORS[room] or other == room or (room, other) in SAME_FLOOR
        assert downward, f"{path.name} (floor {FLOORS[room]}) imports {module} ({FLOORS[other]})"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_packages_are_imported_inside_functions(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body if path.name not in PLUGINS else ():
        for module in (
            imported_modules(node) if isinstance(node, ast.Import | ast.ImportFrom) else ()
        ):
            assert module.split(".")[0] not in LAZY_ONLY, f"{path.name} loads {module} at import"


def test_the_command_loads_neither_torch_nor_transformers():
    code = (
        "import sys, code_alpaca.cli as cli; cli.main(['--help']);"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'openai', 'gradio'};"
        "heavy &= set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
