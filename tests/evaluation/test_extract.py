"""The program comes out of whatever a model wraps it in, and nothing but the program."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.benchmarks import Problem
from code_alpaca.evaluation.extract import extract_program

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
    ["", "I cannot do that.", "```python\n```", "\x00", "\ud800", "def area(r", "(" * 100_000,
     "[" * 5000, "```" * 1000, "lambda: " * 5000, "<think>for ever", "-" * 100_000 + "1",
     "x = " + "1+" * 30_000 + "1"],
    ids=range(13),
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
