"""Find rows that leak a benchmark problem. There are six signs, each with its evidence.

- `statement`: the text of the problem stands in the row, whatever its case and spacing.
- `solution`: a function of the row is a reference solution under other names, in another order of
  its statements or in an equivalent spelling (`curation.fingerprints`); or, of at least
  MIN_SIMILAR_NODES nodes, nearly so. A function too small for that (`return a + b` is everyone's)
  has to have the names of the reference too.
- `reworded`: the instruction asks for the same in nearly the same words, or in synonyms of rare
  words (`curation.wording`).
- `identifiers`: the row's code, in any language, has the name of the problem's function and most
  of the identifiers and literals of its reference (`curation.code_tokens`).
- `tests`: the row has six literals of the problem's tests or examples in a row.
- `overlap`: thirteen words in a row of the problem's prompt (Brown et al. 2020,
  https://arxiv.org/abs/2005.14165, appendix C), lists of numbers and letters left out.

Code is compared wherever it stands in a row: in fences and other marks, between prose, in classes
(`code_alpaca.curation.code_regions`). N-grams of code are no sign: on real rows they found sorting
loops and little else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import ge
from typing import NamedTuple

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination import code_tokens, wording
from code_alpaca.curation.decontamination.fingerprints import Fingerprint, fingerprints
from code_alpaca.curation.decontamination.index import (
    MIN_NODES,
    BenchmarkIndex,
    cached_index,
    same_names_only,
)
from code_alpaca.curation.python_parsing import find_python_trees
from code_alpaca.problems import Problem, is_on_hub, load_problems

REWORDED = 0.9  # F1 of the bags of words
SYNONYMOUS = (0.65, 28, 0.9)  # F1 of the weighed words, shared bits, share of the shorter text
SAME_NAME = (0.9, 12, 0.9)  # the same, where the function has the same name of several words
MIN_SIMILAR_NODES = 40
SIMILAR = 0.8  # share of the parts of two functions
IDENTIFIERS = (0.6, 24)  # share of the reference's bits, and bits
UNNAMED_IDENTIFIERS = (0.8, 60)  # the same without the name of the function
RARE_TOKEN, RARE_TOKENS = 8, 3  # bits, and how many of them make a comparison worth its time
COMMON_PART, RARE_PARTS = 30, 4  # functions that may have a part, and how many such are shared


class ContaminationMatch(NamedTuple):
    """One problem that a row leaks, how it was found, and the evidence."""

    task_id: str
    method: str
    evidence: str


class ContaminationDetector:
    """A search for the problems of benchmarks, by names or files.

    Args:
        names: what `load_problems` takes; all splits are searched.
        skip_missing: leave out a benchmark of the Hub that cannot be fetched, and list it in
            `missing`, instead of refusing.

    Raises:
        InputError: a benchmark does not exist, is of another form or cannot be fetched.
    """

    def __init__(self, names: Sequence[str], *, skip_missing: bool = False) -> None:
        self.missing: list[str] = []
        problems: list[Problem] = []
        for name in names:
            try:
                problems += load_problems(name, all_splits=True)
            except InputError as error:
                if not is_on_hub(name):
                    raise
                if not skip_missing:
                    raise InputError(
                        f"{error}; or go on without it by --missing_benchmarks skip, which the "
                        f"card then says"
                    ) from error
                self.missing.append(name)
        self.num_problems = len(problems)
        self._index = index = cached_index(problems)
        self._invert(index)

    def _invert(self, index: BenchmarkIndex) -> None:
        """Note which problems have which rare members: only these are compared with a row."""
        # A statement is searched only in rows with its rarest word.
        times = Counter(w for text, _ in index.statements for w in set(wording.inner_words(text)))
        self._statements: dict[str, list[tuple[str, str]]] = {}
        for text, task_id in index.statements:
            rarest = min(wording.inner_words(text), key=lambda word: (times[word], word))
            self._statements.setdefault(rarest, []).append((text, task_id))
        self._bags = _inverted(bag for bag, _ in index.bags)
        self._wordings = _inverted(
            [stem for stem in stems if wording.weight(stem) > wording.LEAST_RARE]
            for stems, _, _ in index.wordings
        )
        self._named_wordings = _inverted([name] for _, name, _ in index.wordings)
        self._tokens = _inverted(
            [token for token, bits in tokens.items() if bits >= RARE_TOKEN]
            for tokens, _, _ in index.tokens
        )
        self._named_tokens = _inverted([name] for _, name, _ in index.tokens)
        parts = _inverted(parts for parts, _ in index.parts)
        self._parts = {key: found for key, found in parts.items() if len(found) <= COMMON_PART}

    def find_matches(self, example: Example) -> list[ContaminationMatch]:
        """Return every problem that the row leaks, once a method, sorted."""
        text = f"{example.instruction}\n{example.input}\n{example.output}"
        names, functions = _code_of(example)
        found: dict[tuple[str, str], ContaminationMatch] = {}
        for hit in (
            *self._statement(text),
            *self._solution(functions),
            *self._reworded(example.instruction, names),
            *self._identifiers(names),
            *self._copied_tests(f"{text}\n{example.tests}"),
            *self._overlap(text),
        ):
            found.setdefault((hit.task_id, hit.method), hit)
        return sorted(found.values())

    def _statement(self, text: str) -> Iterator[ContaminationMatch]:
        text = wording.normalized(text)
        for word in set(wording.WORD.findall(text)) & self._statements.keys():
            for statement, task_id in self._statements[word]:
                if statement in text:
                    yield ContaminationMatch(task_id, "statement", statement[:120])

    def _solution(self, functions: list[Fingerprint]) -> Iterator[ContaminationMatch]:
        for function in functions:
            same: list[str] = []
            if function.nodes >= MIN_NODES:
                same += self._index.functions.get(str(function.with_helpers), [])
            if function.nodes_without_helpers >= MIN_NODES:
                same += self._index.functions.get(str(function.without_helpers), [])
            if function.nodes < MIN_NODES:
                for key in same_names_only(function):
                    same += self._index.verbatim.get(key, [])
            for task_id in same:
                yield ContaminationMatch(task_id, "solution", f"def {function.name}")
            if not same and function.nodes >= MIN_SIMILAR_NODES:
                yield from self._similar(function)

    def _similar(self, function: Fingerprint) -> Iterator[ContaminationMatch]:
        parts = {str(key): count for key, count in function.parts.items()}
        total = sum(parts.values())
        for number in _sharing(self._parts, parts, least=RARE_PARTS):
            others, task_id = self._index.parts[number]
            same = sum(min(count, others.get(key, 0)) for key, count in parts.items())
            similarity = 2 * same / (total + sum(others.values()))
            if similarity >= SIMILAR:
                yield ContaminationMatch(
                    task_id, "solution", f"def {function.name}, similarity {similarity:.2f}"
                )

    def _reworded(self, instruction: str, names: dict[str, int]) -> Iterator[ContaminationMatch]:
        bag = wording.bag(instruction)
        counts = Counter(bag)
        shared = Counter(n for word in counts for n in self._bags.get(word, ()))
        repeated = len(bag) - len(counts)
        for number, words in shared.items():
            other, task_id = self._index.bags[number]
            least = REWORDED * (len(bag) + len(other)) / 2
            if words + repeated >= least and len(other) >= least:  # cheap bounds first
                f1 = 2 * (counts & Counter(other)).total() / (len(bag) + len(other))
                if f1 >= REWORDED:
                    yield ContaminationMatch(task_id, "reworded", _evidence(f1, other))
        yield from self._synonymous(wording.stems(instruction), names)

    def _synonymous(
        self, stems: dict[str, str], names: dict[str, int]
    ) -> Iterator[ContaminationMatch]:
        total = sum(map(wording.weight, stems))
        named = {n for name in names for n in self._named_wordings.get(name, ())}
        for number in named | _sharing(self._wordings, stems, least=2):
            others, _, task_id = self._index.wordings[number]
            both = [stem for stem in stems if stem in others]
            bits, total_other = sum(map(wording.weight, both)), sum(map(wording.weight, others))
            if not bits:
                continue
            found = (2 * bits / (total + total_other), bits, bits / min(total, total_other))
            limits = [SYNONYMOUS, SAME_NAME] if number in named else [SYNONYMOUS]
            if any(all(map(ge, found, limit)) for limit in limits):
                yield ContaminationMatch(
                    task_id, "reworded", _evidence(found[0], [stems[stem] for stem in both])
                )

    def _identifiers(self, names: dict[str, int]) -> Iterator[ContaminationMatch]:
        named = {n for name in names for n in self._named_tokens.get(name, ())}
        for number in named | _sharing(self._tokens, names, least=RARE_TOKENS):
            reference, _, task_id = self._index.tokens[number]
            both = sorted((t for t in reference if t in names), key=lambda t: (-reference[t], t))
            bits = sum(reference[token] for token in both)
            share, least = IDENTIFIERS if number in named else UNNAMED_IDENTIFIERS
            if bits >= least and bits >= share * sum(reference.values()):
                yield ContaminationMatch(task_id, "identifiers", " ".join(both)[:120])

    def _copied_tests(self, text: str) -> Iterator[ContaminationMatch]:
        for run in code_tokens.literal_runs(text):
            for task_id in self._index.runs.get(run, ()):
                yield ContaminationMatch(task_id, "tests", run.replace("|", " ")[:120])

    def _overlap(self, text: str) -> Iterator[ContaminationMatch]:
        for gram in wording.grams(text):
            if (task_id := self._index.grams.get(gram)) is not None:
                yield ContaminationMatch(task_id, "overlap", gram)


def _code_of(example: Example) -> tuple[dict[str, int], list[Fingerprint]]:
    """The identifiers and literals of a row's texts, and the functions in them."""
    names: dict[str, int] = {}
    functions: list[Fingerprint] = []
    for text in (example.output, example.input, example.instruction):
        functions += fingerprints(find_python_trees(text))
        if text is not example.instruction:
            names |= code_tokens.tokens(text)
    return names, functions


def _inverted(groups: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """For each member that is not empty, the numbers of the groups that have it."""
    found: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        for member in dict.fromkeys(group):
            if member:
                found.setdefault(member, []).append(number)
    return found


def _sharing(groups: dict[str, list[int]], members: Iterable[str], *, least: int) -> set[int]:
    """The numbers of the groups that have at least `least` of the members."""
    counts = Counter(number for member in members for number in groups.get(member, ()))
    return {number for number, count in counts.items() if count >= least}


def _evidence(f1: float, words: Sequence[str]) -> str:
    return f"similarity {f1:.2f}: {' '.join(words)}"[:120]
