"""Solutions are found after they were renamed, wrapped in markup, extended or respelled."""

from __future__ import annotations

import ast
import html
import json

import pytest
from support.decontamination import find, rename_program
from support.reference_problems import RECORDS, SHORT

from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector


def find_missed(detector: ContaminationDetector, rewrite) -> set[str]:
    """Return the problems whose rewritten reference is not found."""
    missed = set()
    for record in RECORDS:
        matches = detector.find_matches(Example("Do this.", "", rewrite(record)))
        if record["task_id"] not in {match.task_id for match in matches}:
            missed.add(record["task_id"])
    return missed


def rename(record) -> str:
    """Return the reference without docstring and comments, with other names."""
    return rename_program(record["prompt"] + record["canonical_solution"])


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
    assert find_missed(detector, lambda record: wrap(rename(record))) <= SHORT


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
        tree = ast.parse(rename(record))
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
