"""Benchmark problems are found under other names, and common code is no hit."""

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
def index(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps(PROBLEM) + "\n")
    return ContaminationDetector([str(path)])


def found(index: ContaminationDetector, *fields: str) -> list[tuple[str, str]]:
    return [(hit.task_id, hit.method) for hit in index.find_matches(Example(*fields))]


def test_a_renamed_solution_is_found(index):
    code = (
        "def gap(xs: list[int]) -> int:\n"
        "    '''Biggest hole.'''\n"
        "    s = sorted(xs)\n"
        "    return max((q - p for p, q in zip(s, s[1:])), default=0)\n"
    )
    assert found(index, "Find the hole.", "", code) == [("Own/1", "solution")]
    assert found(index, "Explain this.", code, "It sorts.") == [("Own/1", "solution")]
    (hit,) = index.find_matches(Example("Find the hole.", "", code))
    assert hit.evidence == "def gap"


def test_the_statement_is_found_whatever_its_case_and_spacing(index):
    asked = "RETURN the largest difference between\n neighbours of the sorted values."
    assert ("Own/1", "statement") in found(index, asked, "", "...")
    assert ("Own/1", "statement") in found(index, "Do it.", "", f"def f():\n    '''{asked}'''")


@pytest.mark.parametrize(
    "asked",
    [
        "Returns the largest difference between neighbour sorted values.",
        "In Rust, write a function for the largest difference of sorted values between neighbours "
        "and return it.",
    ],
)
def test_the_same_task_in_other_words_is_found(index, asked):
    assert found(index, asked, "", "...") == [("Own/1", "reworded")]
    assert found(index, asked.replace("difference", "sum of squares"), "", "...") == []


@pytest.mark.parametrize(
    "code",
    [
        # The same shape with another builtin means another thing.
        "def gap(xs):\n    s = sorted(xs)\n"
        "    return min((q - p for p, q in zip(s, s[1:])), default=0)\n",
        "def add(a, b):\n    return a + b\n",
        "class Node:\n    def __init__(self, data):\n        self.data = data\n"
        "        self.left = None\n        self.right = None\n",
        "this is not python (",
        "x = [" + "1, 2, 3, " * 30 + "]",
    ],
)
def test_other_code_is_no_hit(index, code):
    assert found(index, "Write a function for this.", "", code) == []


def test_runs_of_words_are_found_and_lists_of_numbers_are_none(tmp_path):
    words = "one lone wolf walks over seven long hills before any other wolf wakes up there"
    numbers = " ".join(str(n) for n in range(40))
    path = tmp_path / "own.jsonl"
    prompt = f"def f():\n    # {words}\n    # {numbers}\n"
    path.write_text(json.dumps({**PROBLEM, "prompt": prompt, "entry_point": "f"}) + "\n")
    index = ContaminationDetector([str(path)])
    assert found(index, "Tell me.", "", f"so {words}") == [("Own/1", "overlap")]
    assert found(index, "Tell me.", numbers, numbers) == []


def test_planted_copies_of_every_problem_are_found():
    """Renamed and written in another layout; without the docstring only short ones slip by."""
    problems = load_problems("mini")
    index = ContaminationDetector(["mini"])
    for keep_docstring in (True, False):
        missed = [
            problem.task_id
            for problem in problems
            if problem.task_id
            not in {h.task_id for h in index.find_matches(planted(problem, keep_docstring))}
        ]
        assert len(missed) <= (0 if keep_docstring else 2), missed


def planted(problem, keep_docstring: bool) -> Example:
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


def test_an_index_is_cached_by_its_problems_and_made_again_where_that_is_broken(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    problem = load_problems("mini")[3]
    row = planted(problem, keep_docstring=True)
    first = ContaminationDetector(["mini"]).find_matches(row)
    (cached,) = (tmp_path / "code_alpaca").glob("contamination-*.json")
    assert ContaminationDetector(["mini"]).find_matches(row) == first
    cached.write_text("{")
    assert ContaminationDetector(["mini"]).find_matches(row) == first
    assert json.loads(cached.read_text())["functions"]


def test_a_benchmark_that_does_not_exist():
    with pytest.raises(InputError):
        ContaminationDetector(["no-such-benchmark"])


def test_a_benchmark_that_cannot_be_fetched_is_refused_or_named(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="go on without it by --missing_benchmarks skip"):
        ContaminationDetector(["mini", "humaneval"])
    index = ContaminationDetector(["mini", "humaneval"], skip_missing=True)
    assert index.missing == ["humaneval"] and index.num_problems == 20
    with pytest.raises(InputError):
        ContaminationDetector(["no-such-file.jsonl"], skip_missing=True)


# -- solutions that are wrapped and rewritten ----------------------------------------------------


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("benchmark") / "own.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    return ContaminationDetector([str(path)])


def missed(index: ContaminationDetector, rewrite) -> set[str]:
    """The problems whose rewritten reference is not found beside an empty instruction."""
    missing = set()
    for record in RECORDS:
        hits = index.find_matches(Example("Do what we agreed on.", "", rewrite(record)))
        if record["task_id"] not in {hit.task_id for hit in hits}:
            missing.add(record["task_id"])
    return missing


def source(record, *, renamed: bool = False) -> str:
    """The reference without docstring and comments; with other names if `renamed`."""
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
def test_a_solution_is_found_in_every_wrapping(many, wrap):
    assert missed(many, lambda record: wrap(source(record, renamed=True))) <= SHORT


def test_a_verbatim_solution_is_found_however_short_it_is(many):
    def fenced(record):
        return f"It's\n```python\n{record['prompt']}{record['canonical_solution']}```\nDone."

    assert missed(many, fenced) == set()
    typed = "def plus(a: int, b: int):\n    '''Other words.'''\n    return a + b\n"
    assert found(many, "Do it.", "", typed) == [("Own/1", "solution")]
    method = "class Math:\n    def plus(self, a: int, b: int):\n        return a + b\n"
    assert found(many, "Do it.", "", method) == [("Own/1", "solution")]


def rewritten(change):
    """A rewrite of the renamed reference by a change of its function."""

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
def test_a_solution_is_found_behind_additions(many, change):
    assert missed(many, rewritten(change)) <= SHORT


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
def test_a_nested_helper_may_stand_elsewhere(many, code):
    (hit,) = many.find_matches(Example("Do what we agreed on.", "", code))
    assert (hit.task_id, hit.method, hit.evidence) == ("Own/16", "solution", "def root")


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
def test_an_equivalent_spelling_is_found(many, task_id, code):
    assert (task_id, "solution") in found(many, "Do what we agreed on.", "", code)


# -- other languages, tests, words ---------------------------------------------------------------

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
def test_a_translation_is_found_by_its_identifiers(many, task_id, code):
    assert (task_id, "identifiers") in found(many, "Do what we agreed on.", "", code)


def test_copied_tests_and_examples_are_found_in_any_language(many):
    python = "assert f([41, 27, 13, 38, 16, 14]) == [2]"
    javascript = "assert.deepEqual(f([41, 27, 13, 38, 16, 14]), [2]);"
    assert found(many, "Write tests.", "", python) == [("Own/4", "tests")]
    assert found(many, "Write tests.", "", javascript) == [("Own/4", "tests")]
    (hit,) = many.find_matches(Example("Write it.", "", "def f(x): ...", tests=python))
    assert (hit.task_id, hit.method) == ("Own/4", "tests")


@pytest.mark.parametrize(
    "common",
    ["[1, 2, 3, 4, 5, 6, 7]", "['a', 'b', 'c', 'd', 'e', 'f']", "[1, 4, 9, 16, 25, 36]",
     "['one', 'two', 'three', 'four', 'five', 'six']", "[10, 20, 30, 40, 2, 2]",
     "[11, 13, 17, 19, 23, 29]", "[13, 21, 34, 55, 89, 144]", "[16, 32, 64, 128, 256, 512]"],
)  # fmt: skip
def test_literals_that_every_program_has_are_no_hit(tmp_path, common):
    path = tmp_path / "own.jsonl"
    test = f"def check(candidate):\n    assert candidate({common})\n"
    path.write_text(json.dumps({**PROBLEM, "test": test}) + "\n")
    assert (
        found(ContaminationDetector([str(path)]), "Write tests.", "", f"print(f({common}))") == []
    )


@pytest.mark.parametrize(
    "asked",
    [
        "From the highest of the thermometer's readings, subtract the lowest.",
        "Turn a ring of beads clockwise by a number of steps.",
        "Texts of digits and letters, such as '3a2b', have to be expanded to 'aaabb'.",
    ],
)
def test_a_paraphrase_is_found_by_its_rare_words(many, asked):
    assert {hit.method for hit in many.find_matches(Example(asked, "", "..."))} == {"reworded"}


COUNTING = "def count(readings):\n    n = 0\n    for r in readings:\n        n += 1\n    return n\n"


@pytest.mark.parametrize(
    "fields",
    [
        # The small computation of a reference, under names of its own.
        ("Join a street and a number.", "",
         "def address(street: str, number: str) -> str:\n    return street + number\n"),
        ("Translate to C++.",
         "def name(first: int, second: int) -> int:\n    result: int = first + second\n"
         "    return result\n", "int name(int a, int b) {}"),
        ("Add.", "", "def plus(x: float, y: float) -> float:\n    return x + y\n"),
        # Words of a problem in a task of another kind.
        ("Explain what the peak of a running total is.", "", "It is the largest of the sums."),
        ("Sort guest names.", "", "def sort_names(names):\n    return sorted(set(names))\n"),
        ("Count readings.", "", COUNTING),
    ],
)  # fmt: skip
def test_a_row_that_shares_only_common_things_is_no_hit(many, fields):
    assert found(many, *fields) == []


@settings(max_examples=100, deadline=None)
@given(before=st.text(), after=st.text(), cut=st.integers(0, 200))
def test_no_row_is_an_error(many, before, after, cut):
    code = source(RECORDS[10])[:cut]
    assert isinstance(many.find_matches(Example(before, f"{before}{code}", f"{code}{after}")), list)


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
def test_a_degenerate_answer_is_compared_or_passed_over(many, output):
    assert many.find_matches(Example("Write it.", "", output)) == []


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
    hits = ContaminationDetector([str(path)]).find_matches(Example("Write it.", "", record["code"]))
    assert {hit.task_id for hit in hits} == {"MBPP/7", "MBPP/12", "MBPP/803"}
