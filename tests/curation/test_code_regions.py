"""Code is found in all kinds of markup, and no text raises."""

from __future__ import annotations

import ast
import html
import json
import textwrap

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.curation.code_regions import find_code_regions, find_fenced_code
from code_alpaca.curation.python_parsing import find_python_trees, parse_prefix, parse_python

CODE = "def twice(x):\n    if x < 0:\n        return 0\n    return 2 * x\n"


def quoted(text: str) -> str:
    return "".join(f"> {line}\n" for line in text.splitlines())


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        (f"Here:\n```python\n{CODE}```\nDone.", "python"),
        (f"```py title='a.py'\n{CODE}```", "py"),
        (f"``` {{.python .numberLines}}\n{CODE}```", "python"),
        (f"~~~Python3\n{CODE}~~~", "python3"),
        (f"````\n{CODE}````", ""),
        (f"Here it is: ```python\n{CODE}```", "python"),
        (f"```python\n{CODE.rstrip()}```", "python"),
        (f"```python\n{CODE}", "python"),
        (f"```python\r\n{CODE}```\r\n".replace("\n", "\r\n"), "python"),
        ("1. Do\n\n" + textwrap.indent(f"```python\n{CODE}```", "   "), "python"),
        ("- ```python\n" + textwrap.indent(CODE, "  ") + "  ```\n", "python"),
        (quoted(f"```python\n{CODE}```"), "python"),
        (f'<pre><code class="language-python">{html.escape(CODE)}</code></pre>', "python"),
        (f"[PYTHON]\n{CODE}[/PYTHON]", ""),
        (f"\\begin{{lstlisting}}\n{CODE}\\end{{lstlisting}}", ""),
        ("The code:\n\n" + textwrap.indent(CODE, "    ") + "\nThat is all.", ""),
        (">>> def twice(x):\n...     if x < 0:\n...         return 0\n...     return 2 * x\n4\n",
         "python"),
    ],
)  # fmt: skip
def test_marked_code_is_a_region(text, tag):
    (region,) = find_code_regions(text)
    assert (region.tag, region.code.strip()) == (tag, CODE.strip())


def test_regions_are_in_order_and_an_opening_fence_ends_an_unclosed_one():
    text = (
        f"```sh\npip install x\n```\nthen ```x = 1``` and\n```python\n{CODE}\n```python\ny = 2\n```"
    )
    assert [(r.kind, r.tag) for r in find_code_regions(text)] == [
        ("fence", "sh"), ("line", ""), ("fence", "python"), ("fence", "python"),
    ]  # fmt: skip


def test_a_fence_inside_a_docstring_does_not_close_the_block():
    code = 'def f():\n    """Use it so:\n\n    ```\n    f()\n    ```\n    """\n    return 1\n'
    (region,) = find_code_regions(f"```python\n{code}```")
    assert region.code == code


@pytest.mark.parametrize(
    ("text", "tag", "code", "closed"),
    [
        (f"```python\n{CODE}```", "python", CODE, True),
        (f"```python\n{CODE}", "python", CODE, False),
        (f"```python\n{CODE}    ```\n", "python", CODE, True),
        (f"* ```js\n{CODE}```\n", "js", CODE, True),
        ("```python\n", "python", "\n", False),
        ("```python print(1)```", "python", "print(1)", True),
        ("```return x```", "", "return x", True),
        ("```c = 1```", "", "c = 1", True),
    ],
)
def test_fenced_code_is_read_with_its_language_and_end(text, tag, code, closed):
    (fence,) = find_fenced_code(text)
    assert (fence.tag, fence.code, fence.closed) == (tag, code, closed)


def test_fenced_code_leaves_other_regions_out():
    assert find_fenced_code(f"Call ```f()``` as in\n\n    f()\n\n<code>{CODE}</code>") == []


@pytest.mark.parametrize(
    ("tag", "language"), [("py", "python"), ("sh", "bash"), ("json", ""), ("text", ""), ("", "")]
)
def test_a_tag_names_a_programming_language_or_none(tag, language):
    (fence,) = find_fenced_code(f"```{tag}\nx\n```")
    assert fence.language == language


@pytest.mark.parametrize("text", ["", "Plain prose.", "Use `x` here.", CODE])
def test_unmarked_text_has_no_region(text):
    assert find_code_regions(text) == []


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        f"Sure! It's easy:\n\n{CODE}\nIt doubles x.",
        f"```\n{CODE}\n```\nIt's O(n).",
        f"Don't:\n{quoted(CODE)}",
        f"It's\n```diff\n{''.join('+' + line for line in CODE.splitlines(True))}```",
        'Answer: {"code": ' + json.dumps(CODE) + "}",
        f"program = '''\n{CODE}'''\n",
        f"{CODE}\n\ndef broken(:\n    pass\n",
        "class A:\n" + textwrap.indent(CODE, "    ") + "\nIt's a class.",
        CODE.replace("    ", "\u00a0\u00a0\u00a0\u00a0") + "\nIt's copied from a page.",
        "def twice(x):\n    print 'Python 2'\n    if x < 0:\n        return 0\n    return 2 * x\n",
    ],
)
def test_every_function_in_a_text_is_parsed(text):
    functions = [
        node
        for tree in find_python_trees(text)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "twice"
    ]
    assert functions
    assert isinstance(functions[0].body[-1], ast.Return)


@pytest.mark.parametrize(
    "code",
    [
        "\x00",
        "\ud800",
        "(" * 5000,
        "x = " + "-" * 50_000 + "1",
        "[" * 300,
        "def f(:",
        "1+" * 30_000,
    ],
    ids=range(7),
)
@pytest.mark.filterwarnings("error")
def test_code_that_does_not_parse_returns_none(code):
    assert parse_python(code) is None
    trees = find_python_trees(f"def f(x):\n    return {code}")
    assert all(isinstance(tree, ast.Module) for tree in trees)


@pytest.mark.filterwarnings("error")
def test_a_warning_of_the_parser_is_ignored():
    assert parse_python("x = '\\d' is 1") is not None


def test_the_longest_prefix_that_parses_is_returned():
    _, text = parse_prefix(f"{CODE}\nThis doesn't parse.\nNor does this: (")
    assert text.strip() == CODE.strip()
    assert parse_prefix("no code at all") is None


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["```", "~~~", "```python", " ", "\n", "\t", "def f(x):", "return x", ">>> ", "> ",
             '"""', "'", "(",
             "<code>", "</code>", "\\n", "1. ", "- ", "\r", "\ufeff", "é", "[PYTHON]"]
        ),
        max_size=40,
    ).map("".join)
)  # fmt: skip
def test_no_text_raises(text):
    assert isinstance(find_code_regions(text), list)
    assert isinstance(find_python_trees(text), list)
