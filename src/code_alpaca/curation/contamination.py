"""Does a row give a benchmark problem away? Four signs, each with its evidence.

- `statement`: the text of the problem stands in the row, whatever its case and spacing.
- `solution`: a function of the row is a reference solution up to the names that it gives out: the
  same syntax tree after renaming, of at least MIN_NODES nodes (`return a + b` is everyone's).
- `reworded`: the instruction asks for the same in nearly the same words, once those that all
  tasks share are left out: F1 of the two bags of words of at least REWORDED.
- `overlap`: thirteen words in a row of the problem's prompt (Brown et al. 2020,
  https://arxiv.org/abs/2005.14165, appendix C), lists of numbers and letters left out.

N-grams of code are no sign: on real rows they found sorting loops and little else.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

from code_alpaca import benchmarks, whole
from code_alpaca.benchmarks import Problem
from code_alpaca.cache import cache_folder
from code_alpaca.curation.measures import LANGUAGES
from code_alpaca.errors import InputError
from code_alpaca.schema import Example

MIN_NODES = 14
MIN_STATEMENT = 28  # characters
MIN_WORDS = 3  # of a statement without GLUE
REWORDED = 0.9
GRAM = 13
VERSION = 1  # of the form of the index
WORD = re.compile(r"\w+")
EXAMPLES = re.compile(r">>>|\n\s*assert |\n\s*(For example|Examples?|Note)\b|\bFor example\b")
GLUE = frozenset(
    {
        "a", "an", "the", "of", "to", "in", "on", "for", "with", "by", "and", "or", "is", "are",
        "that", "which", "this", "it", "its", "from", "as", "be", "your", "you", "please", "using",
        "use", "if", "whether", "given", "write", "create", "make", "build", "design", "develop",
        "construct", "generate", "implement", "define", "find", "output", "take", "following",
        "function", "method", "program", "code", "script", "algorithm", "snippet",
    }
)  # fmt: skip


class Hit(NamedTuple):
    """One problem that a row gives away, how it was found, and what shows it."""

    task_id: str
    method: str
    evidence: str


@dataclass
class Index:
    """What is looked up, over all problems of some benchmarks; plain values, to be cached."""

    statements: list[tuple[str, str]] = field(default_factory=list)  # normalized text, task id
    bags: list[tuple[list[str], str]] = field(default_factory=list)  # words without glue, task id
    functions: dict[str, list[str]] = field(default_factory=dict)  # shape: task ids
    grams: dict[str, str] = field(default_factory=dict)  # words with spaces between: task id


class Contamination:
    """A search for the problems of benchmarks, by names or files.

    Args:
        names: what `benchmarks.load` takes.
        go_without: leave out a benchmark of the Hub that cannot be fetched, and say so in
            `missing`, instead of refusing.

    Raises:
        InputError: a benchmark does not exist, is of another form or cannot be fetched.
    """

    def __init__(self, names: Sequence[str], *, go_without: bool = False) -> None:
        self.missing: list[str] = []
        problems: list[Problem] = []
        for name in names:
            try:
                problems += benchmarks.load(name)
            except InputError as error:
                if name.partition("@")[0] not in benchmarks.ON_THE_HUB:
                    raise
                if not go_without:
                    raise InputError(
                        f"{error}; or go on without it by --missing_benchmarks skip, which the "
                        f"card then says"
                    ) from error
                self.missing.append(name)
        self.problems = len(problems)
        self._index = _cached_index(problems)
        # A statement is searched only in rows with its rarest word, a bag where a word is shared.
        times = Counter(w for text, _ in self._index.statements for w in set(_inner_words(text)))
        self._statements: dict[str, list[tuple[str, str]]] = {}
        for text, task_id in self._index.statements:
            rarest = min(_inner_words(text), key=lambda word: (times[word], word))
            self._statements.setdefault(rarest, []).append((text, task_id))
        self._with_word: dict[str, list[int]] = {}
        for number, (bag, _) in enumerate(self._index.bags):
            for word in set(bag):
                self._with_word.setdefault(word, []).append(number)

    def hits(self, example: Example) -> list[Hit]:
        """Every problem that the row gives away, once a method, sorted."""
        text = f"{example.instruction}\n{example.input}\n{example.output}"
        found: dict[tuple[str, str], Hit] = {}
        for hit in (
            *self._statement(text),
            *self._solution(example),
            *self._reworded(example.instruction),
            *self._overlap(text),
        ):
            found.setdefault((hit.task_id, hit.method), hit)
        return sorted(found.values())

    def _statement(self, text: str) -> Iterator[Hit]:
        text = _normal(text)
        for word in set(WORD.findall(text)) & self._statements.keys():
            for statement, task_id in self._statements[word]:
                if statement in text:
                    yield Hit(task_id, "statement", statement[:120])

    def _solution(self, example: Example) -> Iterator[Hit]:
        for text in (example.output, example.input):
            for name, shape in _shapes(text):
                for task_id in self._index.functions.get(shape, ()):
                    yield Hit(task_id, "solution", f"def {name}")

    def _reworded(self, instruction: str) -> Iterator[Hit]:
        bag = _bag(instruction)
        counts = Counter(bag)
        shared: Counter[int] = Counter()
        for word in counts:
            for number in self._with_word.get(word, ()):
                shared[number] += 1
        for number, words in shared.items():
            other, task_id = self._index.bags[number]
            if 2 * words >= REWORDED * (len(bag) + len(other)) - len(bag):  # a cheap bound first
                same = (counts & Counter(other)).total()
                f1 = 2 * same / (len(bag) + len(other))
                if f1 >= REWORDED:
                    yield Hit(task_id, "reworded", f"{f1:.2f} alike: {' '.join(other)}"[:120])

    def _overlap(self, text: str) -> Iterator[Hit]:
        for gram in _grams(text):
            if (task_id := self._index.grams.get(gram)) is not None:
                yield Hit(task_id, "overlap", gram)


def _index(problems: Sequence[Problem]) -> Index:
    index = Index()
    statements: set[tuple[str, str]] = set()
    bags: set[tuple[tuple[str, ...], str]] = set()
    functions: dict[str, set[str]] = {}
    for problem in problems:
        said = _said(problem)
        for text in (said, problem.instruction):
            normal = _normal(text)
            if len(normal) >= MIN_STATEMENT and _inner_words(normal):
                statements.add((normal, problem.task_id))
        if len(bag := _bag(said)) >= MIN_WORDS:
            bags.add((tuple(sorted(bag)), problem.task_id))
        for _, shape in _shapes(problem.prompt + problem.canonical_solution):
            functions.setdefault(shape, set()).add(problem.task_id)
        for gram in _grams(problem.prompt):
            index.grams.setdefault(gram, problem.task_id)
    index.statements = sorted(statements)
    index.bags = [(list(bag), task_id) for bag, task_id in sorted(bags)]
    index.functions = {shape: sorted(ids) for shape, ids in functions.items()}
    return index


def _cached_index(problems: Sequence[Problem]) -> Index:
    """The index over these very problems, from the cache where an earlier run left it."""
    # All that the index is made by: another setting, or another Python's syntax trees, another key.
    rules = [VERSION, MIN_NODES, MIN_STATEMENT, MIN_WORDS, GRAM, sorted(GLUE), sys.version]
    told = json.dumps([rules, [asdict(problem) for problem in problems]])
    key = hashlib.sha256(told.encode()).hexdigest()[:16]
    path = cache_folder() / f"contamination-{key}.json"
    try:
        return Index(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    index = _index(problems)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole.write_text(path, json.dumps(asdict(index)))
    except OSError:
        pass  # a read-only home costs a second at the next start, and nothing else
    return index


# -- texts ---------------------------------------------------------------------------------------


def _normal(text: str) -> str:
    return " ".join(text.lower().split())


def _inner_words(text: str) -> list[str]:
    """Words that stand whole in any text that contains this one: all but the first and last."""
    return WORD.findall(text)[1:-1]


def _said(problem: Problem) -> str:
    """What a problem asks, in prose: the docstring of its prompt without the examples."""
    tree = _parsed(problem.prompt) or _parsed(problem.prompt + "\n    pass\n")
    if tree is None:
        return EXAMPLES.split(problem.instruction)[0]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    named = [node for node in functions if node.name == problem.entry_point] or functions[-1:]
    docs = [ast.get_docstring(node) for node in (tree, *named)]
    return EXAMPLES.split(next((doc for doc in docs if doc), ""))[0]


def _bag(text: str) -> list[str]:
    """Words that tell one task from another, without the s of plurals and third persons."""
    words = WORD.findall(text.lower())
    return [
        word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word
        for word in words
        if word not in GLUE and word not in LANGUAGES
    ]


def _grams(text: str) -> Iterator[str]:
    words = WORD.findall(text.lower())
    plain = [len(word) == 1 or word.isdigit() for word in words]
    for start in range(len(words) - GRAM + 1):
        if 2 * sum(plain[start : start + GRAM]) < GRAM:
            yield " ".join(words[start : start + GRAM])


# -- code ----------------------------------------------------------------------------------------


def _parsed(code: str) -> ast.Module | None:
    try:
        return ast.parse(textwrap.dedent(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _shapes(code: str) -> Iterator[tuple[str, str]]:
    """Each function and its syntax tree with names numbered by first appearance.

    Methods named by Python (`__init__`) are left out: every class has them.
    """
    tree = _parsed(code) if "def " in code else None
    for node in ast.walk(tree) if tree else ():
        if not isinstance(node, ast.FunctionDef) or node.name.startswith("__"):
            continue
        name = node.name
        try:
            if (shape := _shape(node)) is not None:
                yield name, shape
        except RecursionError:
            continue


def _shape(function: ast.FunctionDef) -> str | None:
    if ast.get_docstring(function) is not None:
        function.body = function.body[1:]
    if sum(1 for _ in ast.walk(function)) < MIN_NODES:
        return None
    text = ast.dump(_Renamer(_bound_names(function)).visit(function))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _bound_names(function: ast.FunctionDef) -> set[str]:
    """Names that the function itself gives out; all others (`sum`, `len`) mean something."""
    bound = {function.name}
    for node in ast.walk(function):
        if isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound.add(node.id)
        elif isinstance(node, ast.FunctionDef):
            bound.add(node.name)
    return bound


class _Renamer(ast.NodeTransformer):
    """Numbers the bound names in order of appearance and forgets annotations."""

    def __init__(self, bound: set[str]) -> None:
        self._bound = bound
        self._names: dict[str, str] = {}

    def _rename(self, name: str) -> str:
        return self._names.setdefault(name, f"n{len(self._names)}") if name in self._bound else name

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = self._rename(node.name)
        node.returns = None
        self.generic_visit(node)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.arg = self._rename(node.arg)
        node.annotation = None
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = self._rename(node.id)
        return node
