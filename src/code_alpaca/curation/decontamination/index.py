"""What a row is searched for: the text, code and tests of benchmark problems.

The index holds plain values, and is cached by the content of the problems.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.core.fs import cache_dir
from code_alpaca.curation import code_regions, python_parsing
from code_alpaca.curation.decontamination import code_tokens, fingerprints, python_terms, wording
from code_alpaca.curation.decontamination.fingerprints import Fingerprint
from code_alpaca.problems import Problem

MIN_NODES = 9  # of a function that is compared whatever its names; smaller ones are common code
MIN_HELPER_NODES = 20  # of a function that a reference only calls
MIN_STATEMENT = 28  # characters
MIN_WORDS = 3  # of a statement without common words
VERSION = 2  # of the form of the index


@dataclass
class BenchmarkIndex:
    """The signs of all problems of some benchmarks; lists and dicts, as JSON has them."""

    statements: list[tuple[str, str]] = field(default_factory=list)  # normalized text, task id
    bags: list[tuple[list[str], str]] = field(default_factory=list)  # words without glue, task id
    wordings: list[tuple[list[str], str, str]] = field(default_factory=list)  # stems, name, task id
    functions: dict[str, list[str]] = field(default_factory=dict)  # fingerprint: task ids
    verbatim: dict[str, list[str]] = field(default_factory=dict)  # with names: task ids
    parts: list[tuple[dict[str, int], str]] = field(default_factory=list)  # of large functions
    tokens: list[tuple[dict[str, int], str, str]] = field(default_factory=list)  # bits, name, id
    runs: dict[str, list[str]] = field(default_factory=dict)  # literals in a row: task ids
    grams: dict[str, str] = field(default_factory=dict)  # words with spaces between: task id


def cached_index(problems: Sequence[Problem]) -> BenchmarkIndex:
    """Return the index of these problems, from the cache where an earlier run left it."""
    facts = [_rules(), [asdict(problem) for problem in problems]]
    key = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    path = cache_dir() / f"contamination-{key}.json"
    try:
        return BenchmarkIndex(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    index = build_index(problems)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_text(path, json.dumps(asdict(index)))
    except OSError:
        pass  # a read-only home costs a second at the next start, and nothing else
    return index


def _rules() -> list[object]:
    """All that shapes an index besides the problems: the code, and Python's syntax trees."""
    modules = (code_regions, python_parsing, code_tokens, fingerprints, python_terms, wording)
    files = [*(Path(str(module.__file__)) for module in modules), Path(__file__)]
    sources = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    return [VERSION, sys.version, sources]


def build_index(problems: Sequence[Problem]) -> BenchmarkIndex:
    """Return the signs of these problems."""
    index = BenchmarkIndex()
    for problem in problems:
        _add_wording(index, problem)
        _add_code(index, problem)
        for text in (problem.prompt, problem.test):
            for run in code_tokens.literal_runs(text):
                _add(index.runs, run, problem.task_id)
        for gram in wording.grams(problem.prompt):
            index.grams.setdefault(gram, problem.task_id)
    index.statements = sorted(set(index.statements))
    index.bags = [(list(bag), i) for bag, i in sorted({(tuple(b), i) for b, i in index.bags})]
    return index


def own_name(problem: Problem) -> str:
    """Return the entry point as one token, or "" where many programs use its name."""
    words = code_tokens.words_of(problem.entry_point)
    return "".join(words) if len(words) >= 2 else ""


def same_names_only(found: Fingerprint) -> Iterator[str]:
    """Yield the keys of a function that is too small to be compared without its names.

    A name of several words is enough; under a name of one word, as `add`, the annotations have
    to be the same too.
    """
    if len(code_tokens.words_of(found.name)) >= 2:
        yield str(found.verbatim)
    else:
        yield str(found.typed)


def _add_wording(index: BenchmarkIndex, problem: Problem) -> None:
    statement = wording.statement_of(problem)
    for text in (statement, problem.instruction):
        normal = wording.normalized(text)
        if len(normal) >= MIN_STATEMENT and wording.inner_words(normal):
            index.statements.append((normal, problem.task_id))
    if len(bag := wording.bag(statement)) >= MIN_WORDS:
        index.bags.append((sorted(bag), problem.task_id))
    if stems := sorted(wording.stems(statement)):
        index.wordings.append((stems, own_name(problem), problem.task_id))


def _add_code(index: BenchmarkIndex, problem: Problem) -> None:
    code = problem.prompt + problem.canonical_solution
    trees = python_parsing.find_python_trees(code) if problem.language == "python" else []
    for found in fingerprints.fingerprints(trees):
        entry = found.name == problem.entry_point
        least = MIN_NODES if entry else MIN_HELPER_NODES
        for key, nodes in (
            (found.with_helpers, found.nodes),
            (found.without_helpers, found.nodes_without_helpers),
        ):
            if nodes >= least:
                _add(index.functions, str(key), problem.task_id)
        if entry and found.nodes < least:
            for name in same_names_only(found):
                _add(index.verbatim, name, problem.task_id)
        if entry:
            index.parts.append(({str(k): n for k, n in found.parts.items()}, problem.task_id))
    bits = code_tokens.tokens(_without_docstrings(code, trees))
    if problem.canonical_solution:
        index.tokens.append((bits, own_name(problem), problem.task_id))


def _without_docstrings(code: str, trees: list[ast.Module]) -> str:
    """The code of a Python reference without comments, docstrings, annotations and imports."""
    try:
        tree = ast.parse(ast.unparse(trees[0]))
    except (IndexError, RecursionError):
        return code
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    tree.body = [n for n in tree.body if not isinstance(n, ast.Import | ast.ImportFrom)]
    return ast.unparse(tree)


def _add(table: dict[str, list[str]], key: str, task_id: str) -> None:
    ids = table.setdefault(key, [])
    if task_id not in ids:
        ids.append(task_id)
