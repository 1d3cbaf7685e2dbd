"""Each filter keeps and drops the rows listed here, and gives its own name as the reason."""

from __future__ import annotations

import re
import textwrap

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.core.plugins import PluginError
from code_alpaca.core.schema import Example
from code_alpaca.curation.duplicates import DuplicateOutputs
from code_alpaca.curation.filters import (
    ALPACA_2023_FILTERS,
    DEFAULT_FILTERS,
    FILTER_NAMES,
    FILTERS,
    load_filters,
    resolve_names,
)
from code_alpaca.curation.language_detection import detect_language, is_prose
from code_alpaca.curation.rules import CurationRules

ASK = "Write a function that adds two numbers."
ADD = "def add(a, b):\n    return a + b\n"
ANSWERS = [  # each holds a program that is right
    f"```python\n{ADD}```",
    f"```py\n{ADD}```",
    f"~~~~ python title=add.py\n{ADD}~~~~",
    f"```\n{ADD}```",
    f"Sure, here is the code: ```python\n{ADD}```\nIt doesn't check its arguments.",
    "1. Define it:\n" + textwrap.indent(f"```python\n{ADD}```", "    "),
    "Call it:\n```print(add(1, 2))```",
    "```python add = lambda a, b: a + b```",
    "Quoted:\n" + textwrap.indent(f"```python\n{ADD}```", "> "),
    f"1. ```python\n{textwrap.indent(ADD, '   ')}   ```\n2. Call it.",
    f"```python\n{ADD}",  # never closed, and complete
    f"```bash\npip install numpy\n```\n\n```python\n{ADD}```\n\n```text\n3 = (\n```",
    ">>> def add(a, b):\n...     return a + b\n...\n>>> add(1, 2)\n3",
    f"Here's the code:\n\n{ADD}",
    f"You'd write it like this, which isn't long (it's two lines):\n{ADD}",
    f'def two():\n    """Two.\n\n    ```python\n    two()\n    ```\n    """\n    return 2\n\n{ADD}',
]
KEEP = [
    Example("Plot the path of a file in a graph as text.", "", "print(path)"),
    Example("Read a CSV file into a hash map keyed by id.", "id,name\n1,a", "import csv\n..."),
    Example("Draw a triangle of asterisks with n rows.", "", "for i in range(n): print('*' * i)"),
    Example("Explain what this code does, please.", "x = 1", "It binds x to 1."),
    Example("Show how to print an apology in Python.", "", "print(\"I'm sorry, I can't help\")"),
    Example("Give a README with one code block.", "", "Use it:\n```python\nx()\n```\n"),
    Example("Fix the tab\tand CRLF in this text.", "a\r\nb", "a\nb"),
    Example("写一个计算阶乘的函数 in Python please.", "", "def f(n): ..."),
    Example("Show a bar chart of sales with matplotlib.", "", "import matplotlib.pyplot as plt"),
    Example("Open a window with a button in tkinter.", "", "import tkinter as tk\ntk.Tk()"),
    Example("Upload an image to the server in PHP.", "", "<?php move_uploaded_file($a, $b); ?>"),
    Example("Play a sound when the button is clicked.", "", "<audio id='a'></audio>"),
    Example("Find the largest number in the array.", "[1, 7]", "7"),
    Example("What is the output of this Java code?", "int z = 40;", "z = 40"),
    Example("Print a triangle in Swift.", "", "for i in 1...7 {\n  print(i)\n}"),
    Example("Write the header of a Python gcd function.", "", "def gcd(x, y):"),
    Example("Write a function that prints hello.", "", "def hello():\n    print('hello')"),
    Example(
        "How would you sort a list in Python?", "", "You can use sorted(x), which returns one."
    ),
    Example("Write a function to explain recursion in a docstring.", "", "It calls itself, often."),
    Example("Create a CSS rule for all paragraphs.", "", "p {\n  // style rules \n}"),
    Example("Send a mail with smtplib in Python.", "", "send('john.doe@example.com')"),
    Example("Validate an e-mail address by a regex.", "x", r"^[\w.]+@[\w.]+\.\w+$"),
    Example("Add an MIT license header to my file.", "", "# Copyright (c) 2020 The Authors"),
    Example("Connect to a database with a password.", "", "connect(user='me', password='secret1')"),
    Example("Write a page with a footer in HTML.", "", "<footer>&copy; 2020 Shop</footer>"),
    *(
        Example(f"Write a Python function that adds, way {number}.", "", output)
        for number, output in enumerate(ANSWERS)
    ),
    Example("What is the complexity of this Python code?", "sorted(x)", "O(n log n), it's fast"),
    Example("What is the complexity of this Python code?", "for i in x: f(i)", "O(n^2)"),
    Example("Explain a CSV script in Python in steps.", "",
            "1. Import it with 'import csv'.\n2. Open the file by 'with open(name) as f'."),
    Example("Explain bubble sort in Python by an example.", "",
            "1. Compare neighbours and swap them.\n\nHere's an example:\n\ndef f(a):\n    pass"),
    Example("Return the longer string in Rust, please.", "",
            "fn longer<'a>(x: &'a str, y: &'a str) -> &'a str {\n    if x > y { x } else { y }\n}"),
    Example("Greet somebody in JavaScript, politely.", "",
            "Don't use {name} alone, as that isn't safe: greet({name}) is."),
    Example("Write a Java class with a main method.", "",
            "```java\nclass A {\n  public static void main(String[] a) { }\n}\n```"),
    Example("Send a mail with smtplib in Python.", "", "send('dan@gmail.com', 'eve22@yahoo.com')"),
    Example("Extract all e-mail addresses of a text.", "to peter.jansen@gmail.com", "find(p, t)"),
]  # fmt: skip
DROP = {
    "empty": [Example("", "", "x"), Example(ASK, "", " \n")],
    "not_text": [Example(ASK, "", "a\x00b"), Example(ASK, "\x1b[31m", "a")],
    "refusal": [
        Example(ASK, "", "I'm sorry, but I can't help with that."),
        Example(ASK, "", "As an AI language model, I do not run code."),
        Example(ASK, "", "I cannot assist with this request."),
    ],
    "instruction_too_short": [Example("Sort it", "", "x")],
    "instruction_too_long": [Example("word " * 301, "", "x")],
    "input_too_long": [Example(ASK, "x" * 20_001, "x")],
    "output_too_long": [Example(ASK, "", "x" * 20_001)],
    "prompt_leak": [Example(ASK, "", "x = 1\n\n### Instruction:\nNow do this")],
    "reasoning_leak": [
        Example(ASK, "", "<think>\nThey want a sum.\n</think>\n\na + b"),
        Example(ASK, "", "They want a sum.\n</think>\n\na + b"),
    ],
    "legacy_length": [Example("Sort this list", "", "x")],
    "legacy_blacklist": [
        Example("Upload a file to the server.", "", "x"),
        Example("Now GO TO the next line.", "", "x"),
    ],
    "legacy_write_a_program": [Example("Write a program that adds two numbers.", "", "x")],
    "legacy_first_character": [
        Example("(a) Add two numbers in C.", "", "x"),
        Example("写一个 add function in Python", "", "x"),
    ],
    "cut_off": [
        Example(ASK, "", "def add(a, b):\n    return sum([a, b"),
        Example(ASK, "", 'print("hello', language="python"),
        Example("Add two numbers in Java.", "", "int add(int a, int b) {\n  if (a > b) {"),
    ],
    "syntax_error": [
        Example(ASK, "", "def add(a, b):\nreturn a + b"),
        Example(ASK, "", "def add(a, b):\n    return a + b\n// Output: 3"),
        Example(ASK, "", "print(“hello”)", language="python"),
        Example(ASK, "", "```python\ndef add(a, b):\nreturn a + b\n```\nIt returns the sum."),
        Example(ASK, "", "def add(a, b):\nreturn a + b\n\nOutput:\nThe sum of the numbers is 3."),
        Example(ASK, "", 'def add(a, b):\n"""Return the sum of both of the numbers."""\nreturn a'),
    ],
    "wrong_language": [
        Example(ASK, "", "#include <stdio.h>\nint main() { return 0; }", language="python"),
        Example(ASK, "", "def add(a, b):\n    return a + b", language="java"),
        Example(ASK, "", "```javascript\nlet add = (a, b) => a + b;\n```", language="python"),
        Example(ASK, "", "```python\ndef add(a, b):\n    return a + b\n```", language="java"),
    ],
    "prose_for_code": [
        Example(ASK, "", "Take the first number and add the second one to it. That is the sum."),
        Example("Write a SQL query that counts users.", "", "Count all of the users in the table."),
    ],
    "impossible": [
        Example("Draw a picture of a sorting algorithm.", "", "Here it is, see above."),
        Example(
            "Open the browser and go to my page.", "", "The browser is open now, as you asked."
        ),
        Example("Play the sound of a bell, please.", "", "Ding!"),
    ],
    "secret": [
        Example(ASK, "", "key = 'AKIA" + "IOSFODNN7EXAMPLE'"),
        Example(ASK, "-----BEGIN RSA " + "PRIVATE KEY-----", "x"),
        Example(ASK, "", "login('hf_" + "a1B2" * 9 + "')"),
        Example(ASK, "", "token = 'ghp_" + "0123456789" * 3 + "abcdef'"),
    ],
    "personal_data": [
        Example(ASK, "", "mail('maria.k.svensson@telia.se')"),
        Example("Write to p.dubois1984@orange.fr in PHP.", "", "x"),
        Example("Send a mail with smtplib in Python.", "", "send('peter.jansen@gmail.com')"),
        Example("Send a mail with smtplib in Python.", "", "send('dan@siemens.com')"),
    ],
    "licence_header": [
        Example(ASK, "", "# Copyright (C) 2014 Some Company\nx = 1"),
        Example(ASK, "", "/* Licensed under the Apache License, Version 2.0 */\nint x;"),
    ],
    "unbalanced_fence": [
        Example(ASK, "", "```python\ndef add(a, b):\n    return sum([a,\n"),
        Example(ASK, "", "```js\nfunction add(a, b) {\n  return a +"),
        Example(ASK, "", "Here it is:\n\n~~~python\n"),
    ],
}


def find_reasons(example: Example, names=DEFAULT_FILTERS) -> list[str]:
    """Return the reasons of all filters that drop a row."""
    return [reason for f in load_filters(names) if (reason := f.find_reason(example))]


@pytest.mark.parametrize("example", KEEP, ids=lambda example: example.instruction[:30])
def test_default_filters_keep_good_rows(example):
    assert find_reasons(example) == []


@pytest.mark.parametrize("name", FILTERS)
def test_a_filter_drops_bad_rows_with_its_name_as_reason(name):
    assert DROP.get(name), f"add rows that the filter {name} drops to DROP"
    for example in DROP[name]:
        assert find_reasons(example, [name]) == [name]


@pytest.mark.parametrize(
    ("name", "findings"),
    [
        ("refusal", ["I'm sorry", "As an AI", "I cannot assist"]),
        ("cut_off", ["ends inside a bracket", "ends inside a string", "ends inside a bracket"]),
        ("secret", ["AWS Access Key in output", "Private Key in input",
                    "Hugging Face Token in output", "GitHub Token in output"]),
        ("personal_data", ["e-mail address in output", "e-mail address in instruction",
                           "e-mail address in output", "e-mail address in output"]),
        ("syntax_error", [""] * 6),
    ],
)  # fmt: skip
def test_the_evidence_is_what_a_filter_found_and_never_a_secret(name, findings):
    (found,) = load_filters([name])
    assert [found.find_evidence(example) for example in DROP[name]] == findings


def test_output_limits_come_before_filters_that_read_the_whole_text():
    names = list(FILTERS)
    assert max(names.index(n) for n in ("input_too_long", "output_too_long")) < min(
        names.index(n) for n in ("not_text", "refusal", "prompt_leak", "cut_off", "secret")
    )


@pytest.mark.parametrize(
    "text", ["a" * 300_000, "x = 1\n" * 200_000, "Ab3 " * 100_000], ids=["word", "code", "words"]
)
def test_long_text_needs_no_quadratic_time(text):
    """These took minutes with unbounded patterns."""
    assert not is_prose(text)
    assert detect_language(Example("Write a word.", "", text)) in ("", "python")


# -- Names ---------------------------------------------------------------------------------------


def test_the_default_set_is_every_filter_but_those_of_2023():
    assert resolve_names(["default"]) == list(DEFAULT_FILTERS)
    assert resolve_names(["alpaca_2023"]) == list(ALPACA_2023_FILTERS)
    assert {*DEFAULT_FILTERS, *ALPACA_2023_FILTERS} == set(FILTER_NAMES)
    assert "duplicate_output" in DEFAULT_FILTERS


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("instruction_length", ["instruction_too_short", "instruction_too_long"]),
        ("output_length", ["input_too_long", "output_too_long"]),
        ("language_sanity", ["wrong_language", "syntax_error"]),
        ("secrets", ["secret"]),
        ("legacy_2023", list(ALPACA_2023_FILTERS)),  # old name
    ],
)
def test_old_names_work_with_one_warning_line(capsys, old, new):
    assert resolve_names([old], warn=True) == new
    (line,) = capsys.readouterr().out.splitlines()
    assert f"filters: {old} is now called" in line
    assert resolve_names([old]) == new and capsys.readouterr().out == ""


def test_the_old_default_list_still_names_the_same_filters():
    """Ledgers and recipes of earlier versions contain this list."""
    old = ["empty", "instruction_length", "output_length", "not_text", "refusal", "prompt_leak",
           "unbalanced_fence", "cut_off", "language_sanity", "prose_for_code", "impossible",
           "secrets", "personal_data", "licence_header", "duplicate_output"]  # fmt: skip
    assert resolve_names(old) == [
        "empty", "instruction_too_short", "instruction_too_long", "input_too_long",
        "output_too_long", "not_text", "refusal", "prompt_leak", "reasoning_leak",
        "unbalanced_fence", "cut_off", "wrong_language", "syntax_error", "prose_for_code",
        "impossible", "secret", "personal_data", "licence_header", "duplicate_output",
    ]  # fmt: skip


def test_prompt_leak_includes_reasoning_leak_as_before():
    assert resolve_names(["prompt_leak", "empty"]) == ["prompt_leak", "reasoning_leak", "empty"]


@pytest.mark.parametrize(
    ("name", "hint"),
    [("emtpy", "did you mean 'empty'?"), ("xyz", "choose from default, alpaca_2023, empty, ")],
)
def test_an_unknown_name_is_refused_with_a_hint(name, hint):
    with pytest.raises(ValueError, match=f"no filter '{name}'.*{re.escape(hint)}"):
        resolve_names([name])


# -- A user's filters ----------------------------------------------------------------------------

MY_FILTERS = """
def no_todo(example):
    return "todo" if "TODO" in example.output else None

def short(example):
    return len(example.output) < 10

def datatrove(example):
    return True if "x" in example.output else (False, "no_x")

def fails(example):
    return 1 / 0

def wrong(example):
    return 7

def numpy_bool(example):
    import numpy
    return numpy.bool_("x" in example.output)

def numpy_pair(example):
    import numpy
    return numpy.bool_("x" in example.output), "no_x"

def two(example, row):
    return True

class Length:
    def __init__(self, example): ...

NOT_A_FUNCTION = 3
"""


@pytest.fixture
def my_filters(tmp_path) -> str:
    path = tmp_path / "my_filters.py"
    path.write_text(MY_FILTERS)
    return str(path)


@pytest.mark.parametrize(
    ("name", "output", "reasons"),
    [
        ("no_todo", "x = 1", []),
        ("no_todo", "x = 1  # TODO", ["todo"]),
        ("short", "x = 1", []),
        ("short", "x = 1234567890", ["short"]),
        ("datatrove", "x = 1", []),
        ("datatrove", "y = 1", ["no_x"]),
        ("numpy_bool", "x = 1", []),
        ("numpy_bool", "y = 1", ["numpy_bool"]),
        ("numpy_pair", "y = 1", ["no_x"]),
    ],
)
def test_a_filter_from_a_file_keeps_or_drops_with_a_reason(my_filters, name, output, reasons):
    assert find_reasons(Example(ASK, "", output), [f"{my_filters}:{name}"]) == reasons


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fails",
            r"my_filters\.py:fails failed on the row 'Write .*': ZeroDivisionError: "
            r"division by zero \(line 12\); correct the file",
        ),
        ("wrong", "wrong failed on the row 'Write .*': it returned 7; return None or True to keep"),
    ],
)
def test_a_failing_filter_is_named_with_the_place(my_filters, name, message):
    with pytest.raises(PluginError, match=message):
        find_reasons(Example(ASK, "", "x"), [f"{my_filters}:{name}"])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_tod", "did you mean 'no_todo'"),
        ("NOT_A_FUNCTION", r"is not a function; define it as `def NOT_A_FUNCTION\(example\)"),
        ("Length", r"is a class; define it as `def Length\(example\): ...`"),
        ("two", r"cannot be called with one argument; define it as `def two\(example\): ...`"),
    ],
)
def test_a_file_without_the_function_is_refused(my_filters, name, message):
    with pytest.raises(InputError, match=message):
        load_filters([f"{my_filters}:{name}"])


def test_names_are_a_list_or_one_text(my_filters):
    name = f"{my_filters}:no_todo"
    assert CurationRules(filters=name) == CurationRules(filters=[name])
    assert CurationRules(decontaminate="mini, mbpp").decontaminate == ["mini", "mbpp"]
    with pytest.raises(ValueError, match=r"py: no_todo is a mapping; remove the space: .*py:no_t"):
        CurationRules(filters=["default", {my_filters: "no_todo"}])


def test_the_hash_of_a_filter_file_identifies_the_run(my_filters):
    names = ["default", f"{my_filters}:no_todo", f"{my_filters}:short"]
    rules = CurationRules(filters=names, decontaminate=[])
    (before,) = rules.user_files()
    assert before.key == f"{my_filters}_sha256", "the key of old ledgers"
    with open(my_filters, "a") as file:
        file.write("# changed\n")
    (after,) = rules.user_files()
    assert after.key == before.key and after.version != before.version


# -- Duplicate outputs ---------------------------------------------------------------------------

TOTAL = (
    "def total(values):\n    result = 0\n    for value in values:\n        result += value\n"
    "    return result\n"
)


def test_a_repeated_output_is_a_duplicate_despite_white_space_comments_and_fences():
    outputs = DuplicateOutputs()
    outputs.add(Example(ASK, "", TOTAL, id="first"))
    outputs.add(Example(ASK, "", f"{TOTAL}# again", id="second"))
    outputs.add(Example(ASK, "", "42"))
    assert (
        outputs.find(Example("Sum.", "", TOTAL.replace("    ", "\t").replace("= 0", "= 0  # yet")))
        is not None
    )
    assert outputs.find(Example("Sum.", "", f"```python\n{TOTAL}```")) == "first"
    assert outputs.find(Example("Sum.", "", TOTAL.replace("result", "answer"))) is None
    assert outputs.find(Example("Sum.", "", "42")) is None, "short outputs answer many tasks"


def test_the_same_output_for_other_code_is_another_task():
    broken = TOTAL.replace("+=", "=")
    outputs = DuplicateOutputs()
    outputs.add(Example("Add up all numbers of a list.", "", TOTAL))
    outputs.add(Example("Add up these.", "values = [1, 2, 3]", TOTAL))
    assert outputs.find(Example("Repair this function.", broken, TOTAL)) is None
    assert outputs.find(Example(f"Repair this function:\n{broken}", "", TOTAL)) is None
    assert outputs.find(Example("Add up those.", "values = [4, 5, 6, 7]", TOTAL)) is not None, (
        "other data"
    )
    stub = 'def total(values):\n    """Return the sum of all numbers in a list."""\n    ...\n'
    assert outputs.find(Example("Complete this function.", stub, TOTAL)) is not None, (
        "a header, not a program"
    )
    outputs.add(Example("Repair this function.", broken, TOTAL))
    assert outputs.find(Example("Correct this function.", broken, TOTAL)) is not None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("#nav {\n  background: red;\n  padding: 10px 20px;\n  margin: 0 auto; width: 100%;\n}",
         "#foot {\n  background: red;\n  padding: 10px 20px;\n  margin: 0 auto; width: 100%;\n}"),
        ("nav {\n  color: #222222;\n  padding: 10px 20px; margin: 0 auto; width: 100%;\n}",
         "nav {\n  color: #ff0000;\n  padding: 10px 20px; margin: 0 auto; width: 100%;\n}"),
        (TOTAL.replace("+= value", "+= value // 60"), TOTAL.replace("+= value", "+= value // 12")),
        (TOTAL.replace("= 0", "= '#'"), TOTAL.replace("= 0", "= '##'")),
        ("const a = 'http://one.org/with/a/path';\nfetch(a).then((r) => console.log(r.status));",
         "const a = 'http://two.org/with/a/path';\nfetch(a).then((r) => console.log(r.status));"),
        ("let n = 10;\nwhile (n-- > 1) { console.log('counting down, now at number', n); }",
         "let n = 10;\nwhile (n-- > 5) { console.log('counting down, now at number', n); }"),
    ],
)  # fmt: skip
def test_outputs_that_differ_outside_comments_are_no_duplicates(one, other):
    outputs = DuplicateOutputs()
    outputs.add(Example("Do this.", "", one))
    assert outputs.find(Example("Do this.", "", one)) is not None
    assert outputs.find(Example("Do that.", "", other)) is None
