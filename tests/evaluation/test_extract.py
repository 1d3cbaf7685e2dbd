"""The program comes out of whatever a model wraps it in, and nothing but the program."""

from __future__ import annotations

import ast
import decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.evaluation.extract import extract_program
from code_alpaca.problems import Problem

PROMPT = (
    'import math\n\ndef half(x):\n    return x / 2\n\ndef area(r):\n    """Area of a circle."""\n'
)
PROBLEM = Problem("Own/1", PROMPT, "area", "    return math.pi * r * r\n", "")
WHOLE = "def area(r):\n    return math.pi * r * r\n"


def value(answer, problem=PROBLEM):
    """What the extracted program's function gives for 2; its own output is caught as a failure."""
    names: dict = {"__name__": "__main__"}

    def print(*_):
        raise AssertionError("the example was kept")

    names["print"] = names["input"] = print
    exec(compile(extract_program(problem, answer), "answer", "exec"), names)
    return names[problem.entry_point](2)


@pytest.mark.parametrize(
    "answer",
    [
        "    return math.pi * r * r\n",
        "return math.pi * r * r",
        "    # the formula\n    return math.pi * r * r\n\n\ndef other():\n    return 1\n",
        WHOLE,
        "import math\n" + WHOLE,
        PROMPT + "    return math.pi * r * r\n",
        f"Sure! Here it is:\n```python\n{WHOLE}```\nIt multiplies.",
        f"```\n{WHOLE}\n```",
        f"```py\r\n{WHOLE}\r\n```".replace("\n", "\r\n"),
        f"```python\n{WHOLE}",
        "```python\n    return math.pi * r * r\n```",
        f"First try:\n```python\ndef wrong(): pass\n```\nBetter:\n```python\n{WHOLE}```",
        "```python\ndef square(r):\n    return r * r\n```\nand\n"
        "```python\ndef area(r):\n    return math.pi * square(r)\n```",
        "  1. like this:\n  ```python\n  def area(r):\n      return math.pi * r * r\n  ```",
        "<think>def area(r): return 0\n```python\ndef area(r): return 1\n```</think>\n"
        f"```\n{WHOLE}```",
        WHOLE + "\nprint(area(3))\narea(input())\nassert area(1) == 0\n",
        WHOLE + "\nif __name__ == '__main__':\n    print(area(2))\n",
        WHOLE + "\nfor r in [1, 2]:\n    print(area(r))\n",
        WHOLE + "\nfor r in [1, 2]:\n    assert area(r) == 0\n",
        WHOLE + "\nimport sys\nsys.exit(area(1))\n",
        WHOLE + "\ndef unfinished(x):\n    return [x for",
        WHOLE + "\nThis function multiplies pi by the square of r.",
        "area = lambda r: math.pi * r * r",
        "def area(r):\n    return PI * square(r)\n\n"
        "def square(r):\n    return r * r\n\nPI = math.pi\n",
        "SQUARES = {}\nfor n in range(9):\n    SQUARES[n] = n * n\n\ndef area(r):\n"
        "    return math.pi * SQUARES[r]\n",
        "TABLE = []\nTABLE.append(math.pi)\ndef area(r):\n    return TABLE[0] * r * r",
        "try:\n    import numpy_that_is_not_there as np\nexcept ImportError:\n    np = math\n"
        "def area(r):\n    return np.pi * r * r",
        "from math import *\ndef area(r):\n    return pi * r * r",
        "class Circle:\n    def __init__(self, r): self.r = r\n"
        "    def area(self): return half(2 * math.pi) * self.r ** 2\n"
        "def area(r):\n    return Circle(r).area()",
    ],
)  # fmt: skip
def test_the_function_is_found_and_its_examples_are_left(answer):
    assert value(answer) == pytest.approx(12.566370614)


@pytest.mark.parametrize(
    "answer",
    [
        f"````markdown\n```python\n{WHOLE}```\n````",
        f"~~~py\n{WHOLE}~~~",
        f"Here: ```python\n{WHOLE}```",
        "```python def area(r): return math.pi * r * r```",
        "> ```python\n> def area(r):\n>     return math.pi * r * r\n> ```",
        f"[PYTHON]\n{WHOLE}[/PYTHON]",
        "<pre><code>def area(r):\n    return 4 * math.pi if r &gt; 1 else 0\n</code></pre>",
        "The code:\n\n    def area(r):\n        return math.pi * r * r\n\nThat's it.",
        f"Sure! It's easy:\n\n{WHOLE}\nIt's O(1).",
        f"import the module first.\n\n{WHOLE}",
        "python\n" + WHOLE,
        "\ufeff" + WHOLE,
        WHOLE.replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
        "def area(r):\n    return math.pi * r * r if \u201ca\u201d == 'a' else 0\n",
        WHOLE.replace("    ", "\t"),
        "# def area(r): multiplies\n    return math.pi * r * r\n",
        "s = math.pi\n    for _ in range(2):\n        s *= r\n    return s\n",
        "```python\n>>> def area(r):\n...     return math.pi * r * r\n>>> area(1)\n3.1\n```",
        f"```python\nfrom __future__ import annotations\n{WHOLE}```",
        "```python\nclass Solution:\n    def area(self, r):\n"
        "        return half(2) * math.pi * r * r\n```",
        "```python\nclass Solution:\n    def area(self, r):\n        return math.pi * r * r\n\n"
        "shown = Solution().area('x')\n```",
        "```python\nclass Solution:\n    @staticmethod\n    def area(r):\n"
        "        return math.pi * r * r\n```",
        f"```python\n{WHOLE}```\nA wrong one:\n```python\ndef area(r):\n    return r\n```",
        "```python\ndef area(r):\n    return math.pi * square(r)\n```\nwith\n"
        "```python\ndef square(r):\n    return r * r\n```\nnot\n"
        "```python\ndef area(r):\n    return square(r)\n```",
        f"```bash\narea = 1\n```\n```python\n{WHOLE}```",
        f"<thinking>\n```python\ndef area(r):\n    return 0\n```\n</thinking>\n{WHOLE}",
        f"```python\ndef area(r): return 0\n```\n</think>\n\n{WHOLE}",
        WHOLE + "\n\ndef other():\n    \"\"\"never clo",
        WHOLE + "\n\nprint(\"the area is",
    ],
    ids=range(29),
)  # fmt: skip
def test_every_wrapping_is_taken_off(answer):
    assert value(answer) == pytest.approx(12.566370614)


@pytest.mark.parametrize(
    "examples",
    [
        "rs = list(map(float, input().split()))\nfor r in rs:\n    print(area(r))",
        "def main():\n    r = float(input())\n    print(area(r))\n\nmain()",
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n"
        "        self.assertEqual(area(1), 0)\n\nunittest.main()",
        "import argparse\nparser = argparse.ArgumentParser()\nparser.add_argument('r')\n"
        "arguments = parser.parse_args()\nprint(area(arguments.r))",
        "class Shape:\n    def area(self, r):\n        return area(r)\n\nShape().area('x')",
        "import time\nstart = time.time()\nfound = area('x')\nprint(time.time() - start)",
        "try:\n    area('x')\nexcept ValueError as error:\n    print(error)",
        "while True:\n    line = input()\n    if not line:\n        break\n    print(area(line))",
        "import plots_that_are_not_there as plt\nplt.plot([area(1)])\nplt.show()",
        "import sys\nif len(sys.argv) > 1:\n    print(area(sys.argv[1]))\nsys.exit(1)",
    ],
    ids=range(10),
)
def test_examples_are_left_out(examples):
    assert value(f"```python\n{WHOLE}\n{examples}\n```") == pytest.approx(12.566370614)


@pytest.mark.parametrize(
    "program",
    [
        "import sys\nsys.setrecursionlimit(20_000)\ndef area(r):\n    return LIMITS[0] - 19_993\n",
        "from decimal import Decimal, getcontext\ngetcontext().prec = 50\ndef area(r):\n"
        "    return 7 if len(str(Decimal(1) / 3)) == 52 else 0\n",
        "SEEN = set()\ndef fill():\n    for n in range(8):\n        SEEN.add(n)\nfill()\n"
        "def area(r):\n    return max(SEEN)\n",
        "TABLE = []\ndef fill(table):\n    table.append(7)\nfill(TABLE)\n"
        "def area(r):\n    return TABLE[0]\n",
        "COUNT = 0\ndef step():\n    global COUNT\n    COUNT += 7\nstep()\n"
        "def area(r):\n    return COUNT\n",
        "def seven():\n    return 7\ndef area(r):\n    return eval('seven()')\n",
        "class Rule:\n    known = []\n    def __init_subclass__(cls):\n"
        "        Rule.known.append(cls)\n"
        "class Seven(Rule):\n    value = 7\ndef area(r):\n    return Rule.known[0].value\n",
        "RULES = {}\ndef rule(f):\n    RULES[f.__name__] = f\n    return f\n@rule\ndef seven():\n"
        "    return 7\ndef area(r):\n    return RULES['seven']()\n",
        "import functools\ndef area(r):\n    return 7\narea = functools.lru_cache(None)(area)\n",
        "def area(r):\n    return area.value\narea.value = 7\n",
        "with open(__file__ if False else '/dev/null') as file:\n    LINES = file.readlines()\n"
        "def area(r):\n    return 7 + len(LINES)\n",
    ],
    ids=range(11),
)  # fmt: skip
def test_what_changes_the_function_is_kept(program, monkeypatch):
    limits: list[int] = []
    monkeypatch.setattr("sys.setrecursionlimit", limits.append)
    monkeypatch.setattr("builtins.LIMITS", limits, raising=False)
    with decimal.localcontext():
        assert value(f"```python\n{program}```") == 7


def test_the_program_keeps_its_own_text():
    program = "def area(r):  # in square meters\n    return 0x10 + r ;\n"
    assert program.strip() in extract_program(PROBLEM, f"```python\n{program}```")


def test_a_long_sum_is_a_program_like_any_other():
    terms = 327
    answer = f"```python\ndef area(r):\n    return {' + '.join(['r'] * terms)}\n```"
    assert value(answer) == 2 * terms


@pytest.mark.parametrize(
    "answer",
    ["", "I cannot do that.", "```python\n```", "\x00", "\ud800", "def area(r", "(" * 100_000,
     "[" * 5000, "```" * 1000, "lambda: " * 5000, "<think>for ever", "-" * 100_000 + "1",
     "x = " + "1+" * 30_000 + "1", "def area(r):\n    return " + "+".join(["r"] * 5_000),
     "if r:\n" * 500, ">>> " * 5_000, "<code>" * 2_000],
    ids=range(17),
)  # fmt: skip
def test_what_is_no_program_comes_back_as_text(answer):
    assert isinstance(extract_program(PROBLEM, answer), str)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.integers(0, len(WHOLE)))
def test_never_raises(noise, at):
    text = extract_program(PROBLEM, WHOLE[:at] + noise + WHOLE[at:])
    assert isinstance(text, str)


NAMES = st.sampled_from(["a", "b", "c", "d"])
PIECES = st.lists(
    st.one_of(
        st.builds("def {}(r):\n    return r + {}".format, NAMES, st.integers(0, 9)),
        st.builds("{} = {}".format, NAMES, st.integers(0, 9)),
        st.builds("import math as {}".format, NAMES),
    ),
    max_size=6,
).map("\n".join)


@settings(max_examples=100, deadline=None)
@given(PIECES, NAMES, st.sampled_from(["{}", "```python\n{}\n```", "Here:\n```\n{}\n```\nDone."]))
def test_an_exact_program_means_the_same_afterwards(before, name, wrapping):
    problem = Problem("Own/2", "", "f", "", "")
    program = (
        f"{before}\ndef f(r):\n    try:\n        return {name}(r)\n"
        "    except Exception as e:\n        return str(e)\n"
    )
    found = extract_program(problem, wrapping.format(program))
    ours: dict = {}
    theirs: dict = {}
    exec(found, ours)
    exec(program, theirs)
    assert ours["f"](2) == theirs["f"](2)
    assert ast.parse(found)
