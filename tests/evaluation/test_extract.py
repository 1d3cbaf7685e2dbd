"""The program, and nothing but the program, is extracted from any wrapping of a response."""

from __future__ import annotations

import ast
import decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.evaluation.extract import extract_program
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem

PROMPT = (
    'import math\n\ndef half(x):\n    return x / 2\n\ndef area(r):\n    """Area of a circle."""\n'
)
PROBLEM = Problem("Own/1", PROMPT, "area", "    return math.pi * r * r\n", "")
AREA = "def area(r):\n    return math.pi * r * r\n"


def call_extracted(response, problem=PROBLEM):
    """Return what the extracted function returns for 2; fail if an example prints or reads."""
    names: dict = {"__name__": "__main__"}

    def print(*_):
        raise AssertionError("the program contains an example")

    names["print"] = names["input"] = print
    exec(compile(extract_program(problem, response), "answer", "exec"), names)
    return names[problem.entry_point](2)


@pytest.mark.parametrize(
    "response",
    [
        "    return math.pi * r * r\n",
        "return math.pi * r * r",
        "    # the formula\n    return math.pi * r * r\n\n\ndef other():\n    return 1\n",
        AREA,
        "import math\n" + AREA,
        PROMPT + "    return math.pi * r * r\n",
        f"Sure! Here it is:\n```python\n{AREA}```\nIt multiplies.",
        f"```\n{AREA}\n```",
        f"```py\r\n{AREA}\r\n```".replace("\n", "\r\n"),
        f"```python\n{AREA}",
        "```python\n    return math.pi * r * r\n```",
        f"First try:\n```python\ndef wrong(): pass\n```\nBetter:\n```python\n{AREA}```",
        "```python\ndef square(r):\n    return r * r\n```\nand\n"
        "```python\ndef area(r):\n    return math.pi * square(r)\n```",
        "  1. like this:\n  ```python\n  def area(r):\n      return math.pi * r * r\n  ```",
        "<think>def area(r): return 0\n```python\ndef area(r): return 1\n```</think>\n"
        f"```\n{AREA}```",
        AREA + "\nprint(area(3))\narea(input())\nassert area(1) == 0\n",
        AREA + "\nif __name__ == '__main__':\n    print(area(2))\n",
        AREA + "\nfor r in [1, 2]:\n    print(area(r))\n",
        AREA + "\nfor r in [1, 2]:\n    assert area(r) == 0\n",
        AREA + "\nimport sys\nsys.exit(area(1))\n",
        AREA + "\ndef unfinished(x):\n    return [x for",
        AREA + "\nThis function multiplies pi by the square of r.",
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
        f"````markdown\n```python\n{AREA}```\n````",
        f"~~~py\n{AREA}~~~",
        f"Here: ```python\n{AREA}```",
        "```python def area(r): return math.pi * r * r```",
        "> ```python\n> def area(r):\n>     return math.pi * r * r\n> ```",
        f"[PYTHON]\n{AREA}[/PYTHON]",
        "<pre><code>def area(r):\n    return 4 * math.pi if r &gt; 1 else 0\n</code></pre>",
        "The code:\n\n    def area(r):\n        return math.pi * r * r\n\nThat's it.",
        f"Sure! It's easy:\n\n{AREA}\nIt's O(1).",
        f"import the module first.\n\n{AREA}",
        "python\n" + AREA,
        "\ufeff" + AREA,
        AREA.replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
        "def area(r):\n    return math.pi * r * r if \u201ca\u201d == 'a' else 0\n",
        AREA.replace("    ", "\t"),
        "# def area(r): multiplies\n    return math.pi * r * r\n",
        "s = math.pi\n    for _ in range(2):\n        s *= r\n    return s\n",
        "```python\n>>> def area(r):\n...     return math.pi * r * r\n>>> area(1)\n3.1\n```",
        f"```python\nfrom __future__ import annotations\n{AREA}```",
        "```python\nclass Solution:\n    def area(self, r):\n"
        "        return half(2) * math.pi * r * r\n```",
        "```python\nclass Solution:\n    def area(self, r):\n        return math.pi * r * r\n\n"
        "shown = Solution().area('x')\n```",
        "```python\nclass Solution:\n    @staticmethod\n    def area(r):\n"
        "        return math.pi * r * r\n```",
        f"```python\n{AREA}```\nA wrong one:\n```python\ndef area(r):\n    return r\n```",
        "```python\ndef area(r):\n    return math.pi * square(r)\n```\nwith\n"
        "```python\ndef square(r):\n    return r * r\n```\nnot\n"
        "```python\ndef area(r):\n    return square(r)\n```",
        f"```bash\narea = 1\n```\n```python\n{AREA}```",
        f"<thinking>\n```python\ndef area(r):\n    return 0\n```\n</thinking>\n{AREA}",
        f"```python\ndef area(r): return 0\n```\n</think>\n\n{AREA}",
        AREA + "\n\ndef other():\n    \"\"\"never clo",
        AREA + "\n\nprint(\"the area is",
    ],
    ids=range(58),
)  # fmt: skip
def test_the_function_is_extracted_from_every_wrapping_without_its_examples(response):
    assert call_extracted(response) == pytest.approx(12.566370614)


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
def test_examples_are_dropped(examples):
    assert call_extracted(f"```python\n{AREA}\n{examples}\n```") == pytest.approx(12.566370614)


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
def test_statements_that_change_the_function_are_kept(program, monkeypatch):
    limits: list[int] = []
    monkeypatch.setattr("sys.setrecursionlimit", limits.append)
    monkeypatch.setattr("builtins.LIMITS", limits, raising=False)
    with decimal.localcontext():
        assert call_extracted(f"```python\n{program}```") == 7


def test_the_source_text_is_not_reformatted():
    program = "def area(r):  # in square meters\n    return 0x10 + r ;\n"
    assert program.strip() in extract_program(PROBLEM, f"```python\n{program}```")


def test_a_long_expression_is_extracted():
    terms = 327
    response = f"```python\ndef area(r):\n    return {' + '.join(['r'] * terms)}\n```"
    assert call_extracted(response) == 2 * terms


@pytest.mark.parametrize(
    "response",
    ["", "I cannot do that.", "```python\n```", "\x00", "\ud800", "def area(r", "(" * 100_000,
     "[" * 5000, "```" * 1000, "lambda: " * 5000, "<think>never closed", "-" * 100_000 + "1",
     "x = " + "1+" * 30_000 + "1", "def area(r):\n    return " + "+".join(["r"] * 5_000),
     "if r:\n" * 500, ">>> " * 5_000, "<code>" * 2_000],
    ids=range(17),
)  # fmt: skip
def test_a_response_without_a_program_is_returned_as_text(response):
    assert isinstance(extract_program(PROBLEM, response), str)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.integers(0, len(AREA)))
def test_extraction_never_raises(noise, at):
    text = extract_program(PROBLEM, AREA[:at] + noise + AREA[at:])
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
def test_a_complete_program_behaves_the_same_after_extraction(before, name, wrapping):
    problem = Problem("Own/2", "", "f", "", "")
    program = (
        f"{before}\ndef f(r):\n    try:\n        return {name}(r)\n"
        "    except Exception as e:\n        return str(e)\n"
    )
    extracted = extract_program(problem, wrapping.format(program))
    actual: dict = {}
    expected: dict = {}
    exec(extracted, actual)
    exec(program, expected)
    assert actual["f"](2) == expected["f"](2)
    assert ast.parse(extracted)


ADD = Problem(
    "own/0", 'def add(a, b):\n    """Add."""\n', "add", "    return a + b\n",
    "def check(candidate):\n    assert candidate(1, 2) == 3\n",
)  # fmt: skip


@pytest.mark.parametrize(
    ("response", "status"),
    [
        ("    return a + b\n", "passed"),
        ("def add(a, b):\n    return a + b", "passed"),
        ("Sure!\n```python\ndef add(a, b):\n    return a + b\n```\nIt adds.", "passed"),
        ("```\ndef other(): pass\n```\n```python\ndef add(x, y): return y + x\n```", "passed"),
        ("```python\ndef add(a, b):\n    return a + b", "passed"),
        ("    return a - b\n", "failed"),
        ("I cannot do that.", "failed"),
        ("def add(a, b):\n    import sys; sys.exit(0)", "exited"),
    ],
)
def test_extracted_programs_are_graded(pool, response, status):
    (grade,) = Grader(pool, timeout=5).grade([ADD], [extract_program(ADD, response)])
    assert grade.status == status, grade.detail
