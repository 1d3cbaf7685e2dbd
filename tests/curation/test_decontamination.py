"""Leaked benchmark problems are found after rewriting, and common code is not."""

from __future__ import annotations

import ast
import html
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.reference_problems import RECORDS, SHORT

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.problems import load_problems

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


@pytest.fixture
def small_detector(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(PROBLEM) + "\n")
    return ContaminationDetector([str(path)])


def find(detector: ContaminationDetector, *fields: str) -> list[tuple[str, str]]:
    """Return the problems that a row leaks, with the method."""
    return [(match.task_id, match.method) for match in detector.find_matches(Example(*fields))]


def test_a_renamed_solution_is_found(small_detector):
    code = (
        "def gap(xs: list[int]) -> int:\n"
        "    '''Biggest hole.'''\n"
        "    s = sorted(xs)\n"
        "    return max((q - p for p, q in zip(s, s[1:])), default=0)\n"
    )
    assert find(small_detector, "Find the hole.", "", code) == [("Own/1", "solution")]
    assert find(small_detector, "Explain this.", code, "It sorts.") == [("Own/1", "solution")]
    (match,) = small_detector.find_matches(Example("Find the hole.", "", code))
    assert match.evidence == "def gap"


def test_the_statement_is_found_in_any_case_and_spacing(small_detector):
    instruction = "RETURN the largest difference between\n neighbours of the sorted values."
    assert ("Own/1", "statement") in find(small_detector, instruction, "", "...")
    assert ("Own/1", "statement") in find(
        small_detector, "Do it.", "", f"def f():\n    '''{instruction}'''"
    )


@pytest.mark.parametrize(
    "instruction",
    [
        "Returns the largest difference between neighbour sorted values.",
        "In Rust, write a function for the largest difference of sorted values between neighbours "
        "and return it.",
    ],
)
def test_a_reworded_task_is_found(small_detector, instruction):
    assert find(small_detector, instruction, "", "...") == [("Own/1", "reworded")]
    assert (
        find(small_detector, instruction.replace("difference", "sum of squares"), "", "...") == []
    )


@pytest.mark.parametrize(
    "code",
    [
        # The same structure with another builtin is another function.
        "def gap(xs):\n    s = sorted(xs)\n"
        "    return min((q - p for p, q in zip(s, s[1:])), default=0)\n",
        "def add(a, b):\n    return a + b\n",
        "class Node:\n    def __init__(self, data):\n        self.data = data\n"
        "        self.left = None\n        self.right = None\n",
        "this is not python (",
        "x = [" + "1, 2, 3, " * 30 + "]",
    ],
)
def test_other_code_does_not_match(small_detector, code):
    assert find(small_detector, "Write a function for this.", "", code) == []


def test_consecutive_words_are_found_but_not_numbers(tmp_path):
    words = "one lone wolf walks over seven long hills before any other wolf wakes up there"
    numbers = " ".join(str(n) for n in range(40))
    path = tmp_path / "own.jsonl"
    prompt = f"def f():\n    # {words}\n    # {numbers}\n"
    path.write_text(json.dumps({**PROBLEM, "prompt": prompt, "entry_point": "f"}) + "\n")
    detector = ContaminationDetector([str(path)])
    assert find(detector, "Go.", "", f"so {words}") == [("Own/1", "overlap")]
    assert find(detector, "Go.", numbers, numbers) == []


def test_renamed_copies_of_every_problem_are_found():
    """With the docstring all are found, without it all but two short ones."""
    problems = load_problems("mini")
    detector = ContaminationDetector(["mini"])
    for keep_docstring in (True, False):
        missed = [
            problem.task_id
            for problem in problems
            if problem.task_id
            not in {
                match.task_id for match in detector.find_matches(plant(problem, keep_docstring))
            }
        ]
        assert len(missed) <= (0 if keep_docstring else 2), missed


def plant(problem, keep_docstring: bool) -> Example:
    """Return a row with a problem's solution under other names."""
    tree = ast.parse(problem.prompt + problem.canonical_solution)
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.setdefault(node.name, f"planted_{len(names)}")
            for arg in node.args.args:
                names.setdefault(arg.arg, f"planted_{len(names)}")
            if not keep_docstring and ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, f"planted_{len(names)}")
    for node in ast.walk(tree):
        for field in ("name", "arg", "id"):
            if isinstance(value := getattr(node, field, None), str):
                setattr(node, field, names.get(value, value))
    return Example("Write what is wanted here.", "", ast.unparse(tree))


def test_an_index_is_cached_by_its_problems_and_rebuilt_if_it_is_damaged(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problem = load_problems("mini")[3]
    row = plant(problem, keep_docstring=True)
    first = ContaminationDetector(["mini"]).find_matches(row)
    (cached,) = (tmp_path / "code_alpaca").glob("contamination-*.json")
    assert ContaminationDetector(["mini"]).find_matches(row) == first
    cached.write_text("{")
    assert ContaminationDetector(["mini"]).find_matches(row) == first
    assert json.loads(cached.read_text())["functions"]


def test_an_unknown_benchmark_is_refused():
    with pytest.raises(InputError):
        ContaminationDetector(["no-such-benchmark"])


def test_a_benchmark_that_cannot_be_fetched_is_refused_or_skipped(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="skip it with --missing_benchmarks skip"):
        ContaminationDetector(["mini", "humaneval"])
    detector = ContaminationDetector(["mini", "humaneval"], skip_missing=True)
    assert detector.missing == ["humaneval"] and detector.num_problems == 20
    with pytest.raises(InputError):
        ContaminationDetector(["no-such-file.jsonl"], skip_missing=True)


# -- Wrapped and rewritten solutions ----------------------------------------------------


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "own.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return ContaminationDetector([str(path)])


def find_missed(detector: ContaminationDetector, rewrite) -> set[str]:
    """Return the problems whose rewritten reference is not found."""
    missed = set()
    for record in RECORDS:
        matches = detector.find_matches(Example("Do this.", "", rewrite(record)))
        if record["task_id"] not in {match.task_id for match in matches}:
            missed.add(record["task_id"])
    return missed


def source(record, *, renamed: bool = False) -> str:
    """Return the reference without docstring and comments; with other names if `renamed`."""
    tree = ast.parse(record["prompt"] + record["canonical_solution"])
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            names.setdefault(node.name, f"other_{len(names)}")
            if ast.get_docstring(node) is not None:
                node.body = node.body[1:]
        elif isinstance(node, ast.arg):
            names.setdefault(node.arg, f"other_{len(names)}")
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.setdefault(node.id, f"other_{len(names)}")
    for node in ast.walk(tree) if renamed else ():
        for field in ("name", "arg", "id"):
            if isinstance(value := getattr(node, field, None), str):
                setattr(node, field, names.get(value, value))
    return ast.unparse(tree) + "\n"


def lines(text: str, before: str) -> str:
    return "".join(f"{before}{line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    "wrap",
    [
        "{0}".format,
        "Here it is, it's easy:\n\n```python\n{0}```\n\nIt's fast.".format,
        "It's:\n~~~\n{0}~~~\n".format,
        "It's this:\n```py\n{0}".format,
        "Sure! It's this function:\n\n{0}\nIt's linear.".format,
        lambda code: "1. It's\n\n" + lines(f"```python\n{code}```", "   "),
        lambda code: "It's the code:\n\n" + lines(code, "    ") + "\nDone.",
        lambda code: "You'd write:\n" + lines(code, "> "),
        lambda code: f"<p>It's</p><pre><code>{html.escape(code)}</code></pre>",
        lambda code: "It's in JSON: " + json.dumps({"code": code}),
        lambda code: f"program = {code!r}\nexec(program)\n",
        lambda code: "It's\n```diff\n" + lines(code, "+") + "```",
        lambda code: f"It's\r\n```python\r\n{code}```".replace("\n", "\r\n"),
        lambda code: f"It's\n```python\n{code}\nprint(f(1))\nassert f(2) == 3\n```\n```\n4\n```",
        lambda code: f"{code}\ndef half_written(x):\n    return (x +",
        lambda code: json.dumps({"cells": [{"source": code.splitlines(keepends=True)}]}),
        lambda code: lines(code, "# "),
        lambda code: "".join(f"{n:3} | {line}\n" for n, line in enumerate(code.splitlines(), 1)),
    ],
    ids=range(18),
)
def test_a_solution_is_found_in_any_markup(detector, wrap):
    assert find_missed(detector, lambda record: wrap(source(record, renamed=True))) <= SHORT


def test_a_short_verbatim_solution_is_found(detector):
    def fenced(record):
        return f"It's\n```python\n{record['prompt']}{record['canonical_solution']}```\nDone."

    assert find_missed(detector, fenced) == set()
    typed = "def plus(a: int, b: int):\n    '''Other words.'''\n    return a + b\n"
    assert find(detector, "Do it.", "", typed) == [("Own/1", "solution")]
    method = "class Math:\n    def plus(self, a: int, b: int):\n        return a + b\n"
    assert find(detector, "Do it.", "", method) == [("Own/1", "solution")]


def rewrite_with(change):
    """Return a rewrite of the renamed reference that changes its function."""

    def rewrite(record):
        tree = ast.parse(source(record, renamed=True))
        tree.body = [change(node) for node in tree.body]
        return ast.unparse(ast.fix_missing_locations(tree))

    return rewrite


def in_a_class(node):
    node.args.args.insert(0, ast.arg("self"))
    return ast.ClassDef("Solution", [], [], [node], [])


def with_statements(*statements: str):
    def change(node):
        node.body = [*ast.parse("\n".join(statements)).body, *node.body]
        return node

    return change


def with_hints(node):
    for argument in node.args.args:
        argument.annotation = ast.Name("object", ast.Load())
    node.returns = ast.Name("object", ast.Load())
    return node


def as_coroutine(node):
    return ast.AsyncFunctionDef(node.name, node.args, node.body, [], None)


def in_a_try(node):
    report = ast.parse("print(error)\nraise").body
    handler = ast.ExceptHandler(ast.Name("Exception", ast.Load()), "error", report)
    node.body = [ast.Try(node.body, [handler], [], [])]
    return node


@pytest.mark.parametrize(
    "change",
    [
        in_a_class,
        with_hints,
        as_coroutine,
        in_a_try,
        with_statements("print('started')"),
        with_statements("'''Other words.\n\n    Returns: the result.\n    '''"),
        with_statements("assert True, 'never'"),
        with_statements("import math", "if 1 > 2:\n    raise ValueError('wrong')"),
        lambda node: in_a_class(in_a_try(with_statements("'Docs.'", "print(1)")(node))),
    ],
)
def test_a_solution_is_found_despite_additions(detector, change):
    assert find_missed(detector, rewrite_with(change)) <= SHORT


HELPER_BESIDE = """\
def crossfoot(n):
    return sum(int(c) for c in str(n))

def root(k):
    while k > 9:
        k = crossfoot(k)
    return k
"""
HELPER_METHOD = """\
class Roots:
    def crossfoot(self, n):
        return sum([int(c) for c in str(n)])

    def root(self, k):
        while 9 < k:
            k = self.crossfoot(k)
        return k
"""


@pytest.mark.parametrize("code", [HELPER_BESIDE, HELPER_METHOD])
def test_a_nested_helper_may_be_defined_elsewhere(detector, code):
    (match,) = detector.find_matches(Example("Do this.", "", code))
    assert (match.task_id, match.method, match.evidence) == ("Own/16", "solution", "def root")


REORDERED_TOTALS = """\
def f(xs):
    top = 0
    s = 0
    for x in xs:
        s = x + s
        top = max(top, s)
    return s, top
"""
REORDERED_BALANCE = """\
def f(ws):
    r = sum(ws)
    l = 0
    out = []
    for k, w in enumerate(ws):
        r = r - w
        if r == l:
            out += [k]
        l = l + w
    return out
"""
RESPELLED_MERGE = """\
def f(a):
    if len(a) == 0:
        return list()
    a = sorted(a)
    m = [list(a[0])]
    for s, e in a[1:]:
        if m[-1][1] >= s:
            m[-1][1] = max(m[-1][1], e)
            continue
        m.append([s, e])
    return m
"""
RESPELLED_LADDER = """\
def f(w):
    if not len(w) >= 2:
        return True
    else:
        for a, b in zip(w, w[1:]):
            if b < a:
                return False
        return True
"""
EXTENDED_ISLANDS = """\
def f(sea):
    def g(y, x):
        if 0 <= y < len(sea) and 0 <= x < len(sea[0]) and sea[y][x] == 1:
            sea[y][x] = 2
            for p, q in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                g(y + p, x + q)
    n = 0
    calls = 0
    for y in range(len(sea)):
        for x in range(len(sea[0])):
            if sea[y][x] == 1:
                n += 1
                g(y, x)
    return n
"""


@pytest.mark.parametrize(
    ("task_id", "code"),
    [
        ("Own/14", REORDERED_TOTALS),
        ("Own/4", REORDERED_BALANCE),
        ("Own/6", RESPELLED_MERGE),
        ("Own/7", RESPELLED_LADDER),
        ("Own/2", "keep = lambda ps, n: list(filter(lambda p: n < p, ps))\n"),
        (
            "Own/11",
            "def f(line):\n    drawn = ''.join(\n        ['#' if c.lower() in 'aeiou' else '.' "
            "for c in line])\n    return drawn\n",
        ),
        ("Own/10", EXTENDED_ISLANDS),
    ],
)
def test_an_equivalent_spelling_is_found(detector, task_id, code):
    assert (task_id, "solution") in find(detector, "Do this.", "", code)


# -- Other languages, tests, words ---------------------------------------------------------------

JAVASCRIPT = """\
function mergeShifts(shifts) {
  if (!shifts.length) return [];
  shifts = [...shifts].sort();
  const merged = [[...shifts[0]]];
  for (const [start, end] of shifts.slice(1)) {
    const last = merged.at(-1);
    if (start <= last[1]) last[1] = Math.max(last[1], end);
    else merged.push([start, end]);
  }
  return merged;
}
"""
RUST = """\
fn longest_plateau(heights: &[i32]) -> i32 {
    let (mut best, mut run) = (0, 0);
    let mut before = None;
    for h in heights {
        run = if Some(h) == before { run + 1 } else { 1 };
        best = best.max(run);
        before = Some(h);
    }
    best
}
"""


@pytest.mark.parametrize(("task_id", "code"), [("Own/6", JAVASCRIPT), ("Own/3", RUST)])
def test_a_translation_is_found_by_its_identifiers(detector, task_id, code):
    assert (task_id, "identifiers") in find(detector, "Do this.", "", code)


def test_copied_tests_are_found_in_any_language(detector):
    python = "assert f([41, 27, 13, 38, 16, 14]) == [2]"
    javascript = "assert.deepEqual(f([41, 27, 13, 38, 16, 14]), [2]);"
    assert find(detector, "Write tests.", "", python) == [("Own/4", "tests")]
    assert find(detector, "Write tests.", "", javascript) == [("Own/4", "tests")]
    (match,) = detector.find_matches(Example("Write it.", "", "def f(x): ...", tests=python))
    assert (match.task_id, match.method) == ("Own/4", "tests")


@pytest.mark.parametrize(
    "common",
    ["[1, 2, 3, 4, 5, 6, 7]", "['a', 'b', 'c', 'd', 'e', 'f']", "[1, 4, 9, 16, 25, 36]",
     "['one', 'two', 'three', 'four', 'five', 'six']", "[10, 20, 30, 40, 2, 2]",
     "[11, 13, 17, 19, 23, 29]", "[13, 21, 34, 55, 89, 144]", "[16, 32, 64, 128, 256, 512]"],
)  # fmt: skip
def test_common_literals_do_not_match(tmp_path, common):
    path = tmp_path / "own.jsonl"
    test = f"def check(candidate):\n    assert candidate({common})\n"
    path.write_text(json.dumps({**PROBLEM, "test": test}) + "\n")
    assert find(ContaminationDetector([str(path)]), "Write tests.", "", f"print(f({common}))") == []


@pytest.mark.parametrize(
    "instruction",
    [
        "From the highest of the thermometer's readings, subtract the lowest.",
        "Turn a ring of beads clockwise by a number of steps.",
        "Texts of digits and letters, such as '3a2b', have to be expanded to 'aaabb'.",
    ],
)
def test_a_paraphrase_is_found_by_its_rare_words(detector, instruction):
    assert {match.method for match in detector.find_matches(Example(instruction, "", "..."))} == {
        "reworded"
    }


COUNTING = "def count(readings):\n    n = 0\n    for r in readings:\n        n += 1\n    return n\n"


@pytest.mark.parametrize(
    "fields",
    [
        # The short computation of a reference, with other names.
        ("Join a street and a number.", "",
         "def address(street: str, number: str) -> str:\n    return street + number\n"),
        ("Translate to C++.",
         "def name(first: int, second: int) -> int:\n    result: int = first + second\n"
         "    return result\n", "int name(int a, int b) {}"),
        ("Add.", "", "def plus(x: float, y: float) -> float:\n    return x + y\n"),
        # Words of a problem in another task.
        ("Explain what the peak of a running total is.", "", "It is the largest of the sums."),
        ("Sort guest names.", "", "def sort_names(names):\n    return sorted(set(names))\n"),
        ("Count readings.", "", COUNTING),
    ],
)  # fmt: skip
def test_a_row_that_shares_only_common_code_or_words_does_not_match(detector, fields):
    assert find(detector, *fields) == []


@settings(max_examples=100, deadline=None)
@given(before=st.text(), after=st.text(), cut=st.integers(0, 200))
def test_no_row_raises(detector, before, after, cut):
    code = source(RECORDS[10])[:cut]
    assert isinstance(
        detector.find_matches(Example(before, f"{before}{code}", f"{code}{after}")), list
    )


@pytest.mark.parametrize(
    "output",
    [
        "def f(a):\n    return " + " + ".join(["a"] * 3_000),
        "def f(a):\n" + "    if a:\n" * 400,
        "def f(\x00):\n    return 1",
        "def f(a):\n    return \ud800",
        "def f(x):\n  return (\n" * 300,
        "def f(a):\n    return '\\d' is a\n",
    ],
    ids=range(6),
)
@pytest.mark.filterwarnings("error")
def test_a_degenerate_output_does_not_raise(detector, output):
    assert detector.find_matches(Example("Write it.", "", output)) == []


def test_every_split_of_mbpp_is_searched(tmp_path):
    record = {
        "text": "Write a function to leave out the vowels of a label.",
        "code": "def label_core(label):\n    return label.strip('aeiou')",
        "test_list": ["assert label_core('oboe') == 'b'"],
    }
    path = tmp_path / "mbpp.jsonl"
    rows = [{**record, "task_id": number} for number in (7, 12, 803)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert len(load_problems(str(path))) == 1
    matches = ContaminationDetector([str(path)]).find_matches(
        Example("Write it.", "", record["code"])
    )
    assert {match.task_id for match in matches} == {"MBPP/7", "MBPP/12", "MBPP/803"}
