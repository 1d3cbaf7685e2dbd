"""Benchmark problems in one form, whoever made them.

The form is HumanEval's (Chen et al. 2021, https://arxiv.org/abs/2107.03374): a prompt to be
continued, and a `check(candidate)` that asserts. Ours adds `instruction`, the same problem in
the words of an instruction.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from code_alpaca.errors import InputError

BUILT_IN = {"mini": "data/mini_benchmark.jsonl"}
REQUIRED = ("task_id", "prompt", "entry_point", "canonical_solution", "test")


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. `prompt + canonical_solution + test` and `check(entry_point)` run clean."""

    task_id: str
    prompt: str
    entry_point: str
    canonical_solution: str
    test: str
    instruction: str = ""
    language: str = "python"


def load(name: str) -> list[Problem]:
    """The problems of a built-in benchmark (`mini`), or of a HumanEval-form .jsonl[.gz] file.

    Raises:
        InputError: there is no such benchmark, or a line is of another form (named by number).
    """
    if name in BUILT_IN:
        text = resources.files("code_alpaca").joinpath(BUILT_IN[name]).read_text("utf-8")
    else:
        text = _read(Path(name))
    problems = [
        _problem(line, f"benchmark {name}, line {number}")
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    if not problems:
        raise InputError(f"benchmark {name} holds no problem")
    if len({problem.task_id for problem in problems}) < len(problems):
        raise InputError(f"benchmark {name} holds the same task_id twice")
    return problems


def _read(path: Path) -> str:
    if not path.exists():
        raise InputError(
            f"no benchmark {str(path)!r}: neither built in ({', '.join(BUILT_IN)}) nor a file"
        )
    try:
        data = path.read_bytes()
        return (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read benchmark {path}: {error}") from None


def _problem(line: str, where: str) -> Problem:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON ({error.msg})") from None
    if not isinstance(record, dict) or not all(isinstance(record.get(k), str) for k in REQUIRED):
        raise InputError(f"{where}: not in HumanEval form; it needs {', '.join(REQUIRED)}")
    extra = {k: record[k] for k in ("instruction", "language") if isinstance(record.get(k), str)}
    return Problem(**{key: record[key] for key in REQUIRED}, **extra)
