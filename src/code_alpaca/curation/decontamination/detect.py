"""Find rows that leak a benchmark problem, with the evidence. There are six methods:

- `statement`: the row contains the text of the problem, ignoring case and white space.
- `solution`: a function of the row equals a reference solution after renaming, reordering of its
  statements and equivalent rewriting (see `fingerprints`), or, from MIN_SIMILAR_NODES nodes on,
  nearly does. Smaller functions (`return a + b`) must also have the names of the reference.
- `reworded`: the instruction requests the same in nearly the same words, or in synonyms of rare
  words (see `wording`).
- `identifiers`: the row's code, in any language, has the name of the problem's function and most of
  the identifiers and literals of its reference (see `code_tokens`).
- `tests`: the row contains six consecutive literals of the problem's tests or examples.
- `overlap`: 13 consecutive words of the problem's prompt (Brown et al. 2020,
  https://arxiv.org/abs/2005.14165, appendix C), other than lists of numbers and letters.

Code is found in fences and other markup, between prose and in classes (see `python_parsing`).
N-grams of code are not used: on real rows they found little but sorting loops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from operator import ge
from typing import NamedTuple

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination import code_tokens, wording
from code_alpaca.curation.decontamination.fingerprints import Fingerprint, fingerprint_functions
from code_alpaca.curation.decontamination.index import MIN_NODES, exact_key, load_index
from code_alpaca.curation.python_parsing import find_python_trees
from code_alpaca.problems import Problem, is_on_hub, load_problems

MIN_WORD_F1 = 0.9  # of bags of words
# F1 of weighted words, shared bits, fraction of the shorter text.
MIN_SYNONYMS = (0.65, 28, 0.9)
MIN_SYNONYMS_SAME_NAME = (0.9, 12, 0.9)  # if the function has the same name of several words
MIN_SIMILAR_NODES = 40
MIN_SOLUTION_SIMILARITY = 0.8  # fraction of the parts of two functions
# Fraction of the reference's bits, and bits.
MIN_IDENTIFIERS = (0.6, 24)
MIN_IDENTIFIERS_OTHER_NAME = (0.8, 60)
RARE_TOKEN_BITS, MIN_RARE_TOKENS = 8, 3  # tokens that make a comparison worthwhile
MAX_COMMON_PART, MIN_SHARED_PARTS = 30, 4  # functions with the same part; parts to share
MAX_EVIDENCE = 120  # characters


class ContaminationMatch(NamedTuple):
    """A problem that a row leaks."""

    task_id: str
    method: str
    evidence: str


class ContaminationDetector:
    """Search rows for the problems of benchmarks.

    Args:
        names: benchmarks by name or file (see `load_problems`); all splits are searched.
        skip_missing: leave out a Hub benchmark that cannot be fetched and list it in `missing`.
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
                        f"{error}; or skip it with --missing_benchmarks skip, which the card states"
                    ) from error
                self.missing.append(name)
        self.num_problems = len(problems)
        self._index = load_index(problems)
        self._invert_index()

    def _invert_index(self) -> None:
        """Map rare members to the problems that have them: only these are compared with a row."""
        index = self._index
        # A statement is searched only in rows with its rarest word.
        counts = Counter(w for text, _ in index.statements for w in set(wording.inner_words(text)))
        self._statements: dict[str, list[tuple[str, str]]] = {}
        for text, task_id in index.statements:
            rarest = min(wording.inner_words(text), key=lambda word: (counts[word], word))
            self._statements.setdefault(rarest, []).append((text, task_id))
        self._bags = _invert(bag for bag, _ in index.bags)
        self._wordings = _invert(
            [stem for stem in stems if wording.weight(stem) > wording.VERY_FREQUENT_BITS]
            for stems, _, _ in index.wordings
        )
        self._wordings_by_name = _invert([name] for _, name, _ in index.wordings)
        self._tokens = _invert(
            [token for token, bits in tokens.items() if bits >= RARE_TOKEN_BITS]
            for tokens, _, _ in index.tokens
        )
        self._tokens_by_name = _invert([name] for _, name, _ in index.tokens)
        parts = _invert(parts for parts, _ in index.parts)
        self._parts = {key: n for key, n in parts.items() if len(n) <= MAX_COMMON_PART}

    def find_matches(self, example: Example) -> list[ContaminationMatch]:
        """Return every problem that the row leaks, once per method, sorted."""
        if not self.num_problems:
            return []  # parsing a row takes longer than to send its request
        text = "\n".join(example.texts)
        sources = (example.output, example.input, example.instruction)
        functions = [f for t in sources for f in fingerprint_functions(find_python_trees(t))]
        # Identifiers and literals of the row's code, with their weights.
        names = code_tokens.weigh_tokens(example.output) | code_tokens.weigh_tokens(example.input)
        matches: dict[tuple[str, str], ContaminationMatch] = {}
        for match in (
            *self._match_statement(text),
            *self._match_solution(functions),
            *self._match_wording(example.instruction),
            *self._match_synonyms(wording.stem_words(example.instruction), names),
            *self._match_identifiers(names),
            *self._match_tests(f"{text}\n{example.tests}"),
            *self._match_overlap(text),
        ):
            matches.setdefault((match.task_id, match.method), match)
        return sorted(matches.values())

    def _match_statement(self, text: str) -> Iterator[ContaminationMatch]:
        text = wording.normalize(text)
        for word in sorted(set(wording.WORD.findall(text)) & self._statements.keys()):
            for statement, task_id in self._statements[word]:
                if statement in text:
                    yield ContaminationMatch(task_id, "statement", statement[:MAX_EVIDENCE])

    def _match_solution(self, functions: list[Fingerprint]) -> Iterator[ContaminationMatch]:
        index = self._index
        for function in functions:
            if function.nodes < MIN_NODES:
                equal = index.verbatim.get(exact_key(function), [])
            else:
                equal = index.functions.get(str(function.with_helpers), [])
                if function.nodes_without_helpers >= MIN_NODES:
                    equal = equal + index.functions.get(str(function.without_helpers), [])
            for task_id in equal:
                yield ContaminationMatch(task_id, "solution", f"def {function.name}")
            if not equal and function.nodes >= MIN_SIMILAR_NODES:
                yield from self._match_similar(function)

    def _match_similar(self, function: Fingerprint) -> Iterator[ContaminationMatch]:
        parts = {str(key): count for key, count in function.parts.items()}
        total = sum(parts.values())
        for number in _find_sharing(self._parts, parts, minimum=MIN_SHARED_PARTS):
            reference, task_id = self._index.parts[number]
            shared = sum(min(count, reference.get(key, 0)) for key, count in parts.items())
            similarity = 2 * shared / (total + sum(reference.values()))
            if similarity >= MIN_SOLUTION_SIMILARITY:
                evidence = f"def {function.name}, similarity {similarity:.2f}"
                yield ContaminationMatch(task_id, "solution", evidence)

    def _match_wording(self, instruction: str) -> Iterator[ContaminationMatch]:
        bag = wording.bag_of_words(instruction)
        counts = Counter(bag)
        num_shared = Counter(n for word in counts for n in self._bags.get(word, ()))
        num_repeated = len(bag) - len(counts)
        for number, words in num_shared.items():
            other, task_id = self._index.bags[number]
            minimum = MIN_WORD_F1 * (len(bag) + len(other)) / 2
            if words + num_repeated >= minimum and len(other) >= minimum:  # cheap bounds first
                f1 = 2 * (counts & Counter(other)).total() / (len(bag) + len(other))
                if f1 >= MIN_WORD_F1:
                    yield ContaminationMatch(task_id, "reworded", _format_evidence(f1, other))

    def _match_synonyms(
        self, stems: dict[str, str], names: dict[str, int]
    ) -> Iterator[ContaminationMatch]:
        total = sum(map(wording.weight, stems))
        same_name = {n for name in names for n in self._wordings_by_name.get(name, ())}
        for number in same_name | _find_sharing(self._wordings, stems, minimum=2):
            others, _, task_id = self._index.wordings[number]
            shared = [stem for stem in stems if stem in others]
            bits, total_other = sum(map(wording.weight, shared)), sum(map(wording.weight, others))
            if not bits:
                continue
            scores = (2 * bits / (total + total_other), bits, bits / min(total, total_other))
            matches = all(map(ge, scores, MIN_SYNONYMS))
            if matches or (number in same_name and all(map(ge, scores, MIN_SYNONYMS_SAME_NAME))):
                evidence = _format_evidence(scores[0], [stems[stem] for stem in shared])
                yield ContaminationMatch(task_id, "reworded", evidence)

    def _match_identifiers(self, names: dict[str, int]) -> Iterator[ContaminationMatch]:
        same_name = {n for name in names for n in self._tokens_by_name.get(name, ())}
        for number in same_name | _find_sharing(self._tokens, names, minimum=MIN_RARE_TOKENS):
            reference, _, task_id = self._index.tokens[number]
            shared = sorted((t for t in reference if t in names), key=lambda t: (-reference[t], t))
            bits = sum(reference[token] for token in shared)
            is_same = number in same_name
            fraction, min_bits = MIN_IDENTIFIERS if is_same else MIN_IDENTIFIERS_OTHER_NAME
            if bits >= min_bits and bits >= fraction * sum(reference.values()):
                yield ContaminationMatch(task_id, "identifiers", " ".join(shared)[:MAX_EVIDENCE])

    def _match_tests(self, text: str) -> Iterator[ContaminationMatch]:
        for run in code_tokens.find_literal_runs(text):
            for task_id in self._index.runs.get(run, ()):
                yield ContaminationMatch(task_id, "tests", run.replace("|", " ")[:MAX_EVIDENCE])

    def _match_overlap(self, text: str) -> Iterator[ContaminationMatch]:
        for ngram in wording.find_ngrams(text):
            if (task_id := self._index.grams.get(ngram)) is not None:
                yield ContaminationMatch(task_id, "overlap", ngram)


def _invert(groups: Iterable[Iterable[str]]) -> dict[str, list[int]]:
    """Return, for each non-empty member, the numbers of the groups that contain it."""
    numbers: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        for member in dict.fromkeys(group):
            if member:
                numbers.setdefault(member, []).append(number)
    return numbers


def _find_sharing(
    groups: dict[str, list[int]], members: Iterable[str], *, minimum: int
) -> set[int]:
    """Return the numbers of the groups that contain at least `minimum` of the members."""
    counts = Counter(number for member in members for number in groups.get(member, ()))
    return {number for number, count in counts.items() if count >= minimum}


def _format_evidence(f1: float, words: Sequence[str]) -> str:
    return f"similarity {f1:.2f}: {' '.join(words)}"[:MAX_EVIDENCE]
