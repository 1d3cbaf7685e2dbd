"""A reward is earned by a program that passes the tests of its row, and by nothing else."""

from __future__ import annotations

import pytest
from support.forgeries import FORGERIES

from code_alpaca.rewards import tests_passed as reward

RIGHT = "def double(n):\n    return 2 * n\n"
WRONG = "def double(n):\n    return n + 2\n"
TESTS = "assert double(2) == 4\nassert double(5) == 10"


@pytest.mark.parametrize(
    ("completion", "tests", "expected"),
    [
        (RIGHT, TESTS, 1.0),
        (WRONG, TESTS, 0.0),
        ("I cannot do that.", TESTS, 0.0),
        ("", TESTS, 0.0),
        (f"Here it is:\n```python\n{RIGHT}```\nIt doubles.", TESTS, 1.0),
        ([{"role": "assistant", "content": f"```python\n{RIGHT}```"}], TESTS, 1.0),
        ([{"role": "assistant", "content": None}], TESTS, 0.0),
        (f"<think>Two times.</think>{RIGHT}", TESTS, 1.0),
        (
            "def read(s):\n    return int(s)",
            "import math\nassert read('3') == math.floor(3.2)",
            1.0,
        ),
        (
            "def half(n):\n    return n / 2",
            "for n in range(5):\n    assert half(n) == n / 2\nassert isinstance(half(1), float)",
            1.0,
        ),
        (
            "def encode(s):\n    return s[::-1]\n\ndef decode(s):\n    return s[::-1]",
            "assert decode(encode('ab')) == 'ab'\nassert encode('ab') == 'ba'",
            1.0,
        ),
        (f"```python\n{RIGHT}```\nFor example:\n```python\nprint(double(4))\n```", TESTS, 1.0),
        ([{"role": "assistant", "content": [{"type": "text", "text": RIGHT}]}], TESTS, 1.0),
        (RIGHT, None, None),
        (RIGHT, "", None),
        (RIGHT, "assert 1 == 1", None),
        (RIGHT, "assert double(2) ==", None),
    ],
)
def test_a_completion_earns_the_reward_if_its_program_passes_the_tests(completion, tests, expected):
    assert reward([completion], [tests]) == [expected]


@pytest.mark.parametrize(
    ("right", "wrong", "tests"),
    [
        (
            "class Stack(list):\n    def push(self, x):\n        self.append(x)",
            "class Stack(list):\n    def push(self, x):\n        self.insert(0, x)",
            "stack = Stack([2])\nstack.push(1)\nassert stack[-1] == 1",
        ),
        ("LIMIT = 3", "LIMIT = 4", "assert LIMIT == 3"),
        ("CHEAT = 3", "class C:\n    def __eq__(self, _): return True\nCHEAT = C()",
         "assert CHEAT == 3"),
    ],
)  # fmt: skip
def test_a_known_solution_decides_where_values_cannot_be_sent(right, wrong, tests):
    assert reward([right, wrong], [tests] * 2, solution=[f"```python\n{right}\n```"] * 2) == [1, 0]


def test_the_rewards_of_a_batch_are_in_its_order_and_other_columns_are_ignored():
    completions = [WRONG, RIGHT, RIGHT, WRONG]
    tests = [TESTS, TESTS, "", TESTS]
    rewards = reward(
        prompts=[""] * 4, completions=completions, tests=tests, language=["python"] * 4
    )
    assert rewards == [0.0, 1.0, None, 0.0]


def test_a_program_that_cheats_the_tests_earns_nothing():
    tests = "\n".join(f"assert f({n}) == {n + 1}" for n in range(4))
    names, programs = zip(*FORGERIES.items(), strict=True)
    rewards = reward(programs, [tests] * len(programs))
    assert {name for name, earned in zip(names, rewards, strict=True) if earned} == set()
    right = "def f(n):\n    return n + 1"
    assert reward([right], [tests]) == [1.0]
    assert set(reward(programs, [tests] * len(programs), [right] * len(programs))) == {0.0}
