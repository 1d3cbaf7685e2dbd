"""Index the text, code and tests of benchmark problems, cached on disk by their content."""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from code_alpaca.core import fs
from code_alpaca.curation import code_regions, python_parsing
from code_alpaca.curation.decontamination import (
    code_tokens,
    fingerprints,
    python_terms,
    statements,
    word_lists,
    wording,
)
from code_alpaca.curation.decontamination.fingerprints import Fingerprint
from code_alpaca.problems import Problem

MIN_NODES = 9  # of a function that is compared without its names; smaller ones are common code
MIN_HELPER_NODES = 20  # of a function that a reference only calls
MIN_STATEMENT_CHARACTERS = 28
MIN_STATEMENT_WORDS = 3  # without common words
VERSION = 2  # of the format of the cached index


@dataclass
class BenchmarkIndex:
    """Everything that rows are compared with, as JSON values."""

    statements: list[tuple[str, str]] = field(default_factory=list)  # normalized text, task id
    bags: list[tuple[list[str], str]] = field(default_factory=list)  # words, task id
    wordings: list[tuple[list[str], str, str]] = field(default_factory=list)  # stems, name, task id
    functions: dict[str, list[str]] = field(default_factory=dict)  # fingerprint: task ids
    verbatim: dict[str, list[str]] = field(default_factory=dict)  # fingerprint with names: task ids
    parts: list[tuple[dict[str, int], str]] = field(default_factory=list)  # counts, task id
    tokens: list[tuple[dict[str, int], str, str]] = field(default_factory=list)  # bits, name, id
    runs: dict[str, list[str]] = field(default_factory=dict)  # consecutive literals: task ids
    grams: dict[str, str] = field(default_factory=dict)  # consecutive words: task id


def load_index(problems: Sequence[Problem]) -> BenchmarkIndex:
    """Return the index of problems, from the cache if an earlier run built it."""
    content = json.dumps([_code_version(), [asdict(problem) for problem in problems]])
    key = hashlib.sha256(content.encode()).hexdigest()[:16]
    path = fs.cache_dir() / f"contamination-{key}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        return BenchmarkIndex(**json.loads(path.read_text(encoding="utf-8")))
    index = _build_index(problems)
    with contextlib.suppress(OSError):  # without a writable home, it is built in every run (1 s)
        path.parent.mkdir(parents=True, exist_ok=True)
        fs.write_text(path, json.dumps(asdict(index)))
    return index


def _code_version() -> list[object]:
    """Return what determines an index besides the problems: this code, and Python's parser."""
    modules = (code_regions, python_parsing, code_tokens, fingerprints, python_terms, statements,
               word_lists, wording)  # fmt: skip
    files = [*(Path(str(module.__file__)) for module in modules), Path(__file__)]
    return [VERSION, sys.version, [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]]


def _build_index(problems: Sequence[Problem]) -> BenchmarkIndex:
    index = BenchmarkIndex()
    for problem in problems:
        _add_wording(index, problem)
        _add_code(index, problem)
        for text in (problem.prompt, problem.test):
            for run in code_tokens.find_literal_runs(text):
                _add(index.runs, run, problem.task_id)
        for ngram in wording.find_ngrams(problem.prompt):
            index.grams.setdefault(ngram, problem.task_id)
    index.statements = sorted(set(index.statements))
    index.bags = [(list(bag), i) for bag, i in sorted({(tuple(b), i) for b, i in index.bags})]
    return index


def exact_key(function: Fingerprint) -> str:
    """Return the key of a function that is too small to be compared without its names.

    With a name of one word, such as `add`, the annotations must match too.
    """
    has_rare_name = len(code_tokens.split_identifier(function.name)) >= 2
    return str(function.verbatim if has_rare_name else function.typed)


def _rare_name(problem: Problem) -> str:
    """Return the entry point as one token, or "" if it is one word, which many programs use."""
    words = code_tokens.split_identifier(problem.entry_point)
    return "".join(words) if len(words) >= 2 else ""


def _add_wording(index: BenchmarkIndex, problem: Problem) -> None:
    statement = wording.extract_statement(problem)
    for text in (statement, problem.instruction):
        normal = wording.normalize(text)
        if len(normal) >= MIN_STATEMENT_CHARACTERS and wording.inner_words(normal):
            index.statements.append((normal, problem.task_id))
    if len(bag := wording.bag_of_words(statement)) >= MIN_STATEMENT_WORDS:
        index.bags.append((sorted(bag), problem.task_id))
    if stems := sorted(wording.stem_words(statement)):
        index.wordings.append((stems, _rare_name(problem), problem.task_id))


def _add_code(index: BenchmarkIndex, problem: Problem) -> None:
    code = problem.prompt + problem.canonical_solution
    trees = python_parsing.find_python_trees(code) if problem.language == "python" else []
    for function in fingerprints.fingerprint_functions(trees):
        is_entry_point = function.name == problem.entry_point
        min_nodes = MIN_NODES if is_entry_point else MIN_HELPER_NODES
        for key, nodes in (
            (function.with_helpers, function.nodes),
            (function.without_helpers, function.nodes_without_helpers),
        ):
            if nodes >= min_nodes:
                _add(index.functions, str(key), problem.task_id)
        if is_entry_point and function.nodes < min_nodes:
            _add(index.verbatim, exact_key(function), problem.task_id)
        if is_entry_point:
            index.parts.append(({str(k): n for k, n in function.parts.items()}, problem.task_id))
    bits = code_tokens.weigh_tokens(_strip_docstrings(code, trees))
    if problem.canonical_solution:
        index.tokens.append((bits, _rare_name(problem), problem.task_id))


def _strip_docstrings(code: str, trees: list[ast.Module]) -> str:
    """Return a Python reference without comments, docstrings, annotations and imports."""
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
