"""Every filter keeps what it must keep and drops what it must drop."""

from __future__ import annotations

import pytest

from code_alpaca.curation.filters import DEFAULT, FILTERS
from code_alpaca.schema import Example

ASK = "Write a function that adds two numbers."
KEEP = [
    Example("Plot the path of a file in a graph as text.", "", "print(path)"),
    Example("Read a CSV file into a hash map keyed by id.", "id,name\n1,a", "import csv\n..."),
    Example("Draw a triangle of asterisks with n rows.", "", "for i in range(n): print('*' * i)"),
    Example("Explain what this code does, please.", "x = 1", "It binds x to 1."),
    Example("Show how to say sorry in Python code.", "", "print(\"I'm sorry, I can't help\")"),
    Example("Give a README with one code block.", "", "Use it:\n```python\nx()\n```\n"),
    Example("Fix the tab\tand CRLF in this text.", "a\r\nb", "a\nb"),
    Example("写一个计算阶乘的函数 in Python please.", "", "def f(n): ..."),
]
DROP = {
    "empty": [Example("", "", "x"), Example(ASK, "", " \n")],
    "not_text": [Example(ASK, "", "a\x00b"), Example(ASK, "\x1b[31m", "a")],
    "refusal": [
        Example(ASK, "", "I'm sorry, but I can't help with that."),
        Example(ASK, "", "As an AI language model, I do not run code."),
        Example(ASK, "", "I cannot assist with this request."),
    ],
    "instruction_length": [Example("Sort it", "", "x"), Example("word " * 301, "", "x")],
    "output_length": [Example(ASK, "", "x" * 20_001)],
    "prompt_leak": [Example(ASK, "", "x = 1\n\n### Instruction:\nNow do this")],
    "legacy_2023": [
        Example("Sort this list", "", "x"),
        Example("Upload a file to the server.", "", "x"),
        Example("Now GO TO the next line.", "", "x"),
        Example("Write a program that adds two numbers.", "", "x"),
        Example("(a) Add two numbers in C.", "", "x"),
        Example("写一个 add function in Python", "", "x"),
    ],
    "unbalanced_fence": [Example(ASK, "", "```python\nprint(1)\n")],
}


@pytest.mark.parametrize("example", KEEP, ids=lambda example: example.instruction[:30])
def test_good_rows_pass_every_filter(example):
    assert [name for name in DEFAULT if FILTERS[name](example)] == []


@pytest.mark.parametrize("name", FILTERS)
def test_bad_rows_are_dropped_with_a_reason(name):
    assert DROP[name]
    for example in DROP[name]:
        assert FILTERS[name](example)


def test_the_legacy_filter_keeps_what_2023_kept():
    for text in ("Graphics and filenames are fine words here.", "write a program in lower case"):
        assert FILTERS["legacy_2023"](Example(text, "", "x")) is None
