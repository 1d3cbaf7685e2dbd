"""Detectors of planted benchmark problems, and rows that leak these."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector

PROBLEM = {
    "task_id": "Own/1",
    "prompt": (
        "def largest_gap(values):\n"
        '    """Return the largest difference between neighbours of the sorted values.\n'
        '    >>> largest_gap([1, 5])\n    4\n    """\n'
    ),
    "entry_point": "largest_gap",
    "canonical_solution": (
        "    ordered = sorted(values)\n"
        "    return max((b - a for a, b in zip(ordered, ordered[1:])), default=0)\n"
    ),
    "test": "def check(candidate):\n    assert candidate([1, 5]) == 4\n",
}


def detector_of(path: Path, records: Iterable[Mapping[str, Any]]) -> ContaminationDetector:
    """Write a benchmark file, and return its detector."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return ContaminationDetector([str(path)])


def find(detector: ContaminationDetector, *fields: str) -> list[tuple[str, str]]:
    """Return the problems that a row leaks, with the method."""
    return [(match.task_id, match.method) for match in detector.find_matches(Example(*fields))]


def rename_program(program: str, *, keep_docstrings: bool = False) -> str:
    """Return a program without comments, with other names for its functions and variables."""
    tree = ast.parse(program)
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.setdefault(node.name, f"other_{len(names)}")
            if not keep_docstrings and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.arg):
            names.setdefault(node.arg, f"other_{len(names)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, f"other_{len(names)}")
    for node in ast.walk(tree):
        for field in ("name", "arg", "id"):
            if isinstance(value := getattr(node, field, None), str):
                setattr(node, field, names.get(value, value))
    return ast.unparse(tree) + "\n"
