"""A user's file gives one object and its SHA-256, or one line that names what is wrong."""

from __future__ import annotations

import hashlib
import sys

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.core.plugins import call_plugin, is_plugin, load_plugin


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file into the working directory and return its name."""
    monkeypatch.chdir(tmp_path)

    def write_file(source: str, name: str = "mine.py") -> str:
        (tmp_path / name).write_text(source)
        return name

    return write_file


def test_the_object_and_the_hash_of_its_file(write, tmp_path):
    write("VALUE = 3\n\ndef double(x):\n    return VALUE * x\n")
    function, sha256, files = load_plugin("mine.py:double", kind="filter")
    assert function(2) == 6 and files == "mine.py"
    assert sha256 == hashlib.sha256((tmp_path / "mine.py").read_bytes()).hexdigest()
    assert load_plugin(f"{tmp_path}/mine.py:double", kind="filter").value is function


def test_an_edited_file_is_loaded_again(write):
    write("def size():\n    return 1\n")
    before = load_plugin("mine.py:size", kind="benchmark")
    write("def size():\n    return 2\n")
    after = load_plugin("mine.py:size", kind="benchmark")
    assert (before.value(), after.value()) == (1, 2) and before.sha256 != after.sha256


def test_dataclasses_and_postponed_annotations_work(write):
    write(
        "from __future__ import annotations\nfrom dataclasses import dataclass, field\n"
        "@dataclass\nclass Row:\n    names: list[str] = field(default_factory=list)\n"
    )
    assert load_plugin("mine.py:Row", kind="benchmark").value().names == []


@pytest.mark.parametrize(
    ("source", "reference", "message"),
    [
        ("x = 1", "gone.py:x", "cannot read filter file gone.py: No such file"),
        ("_x = 1", "mine.py:check", "does not define 'check'; it defines no names"),
        ("x = 1\ndef check(row): pass", "mine.py:chek", "does not define 'chek'; did you mean"),
        ("x = 1", "mine.py:other", "does not define 'other'; it defines x"),
        ("x = 1\ny = z", "mine.py:x", "NameError: name 'z' is not defined (line 2)"),
        ("x = 1\ndef f(:", "mine.py:x", "SyntaxError: invalid syntax (line 2)"),
        ("raise SystemExit(3)", "mine.py:x", "SystemExit: 3 (line 1)"),
        ("import not_installed", "mine.py:x", "No module named 'not_installed'"),
        ("x = 1", "other", "is not of the form FILE.py:NAME"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_line(write, source, reference, message):
    write(source)
    with pytest.raises(InputError) as caught:
        load_plugin(reference, kind="filter")
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_reference_names_a_file_and_an_object():
    assert is_plugin("a/b.py:f")
    assert not any(map(is_plugin, ["default", "b.jsonl", "humaneval@main"]))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("mine.py", "mine.py names no function; write mine.py:NAME (it defines load, Rows)"),
        ("mine.py:", "mine.py names no function; write mine.py:NAME (it defines load, Rows)"),
        ("gone.py", "gone.py names no function; write gone.py:NAME"),
        ("mine:load", "mine:load is not of the form FILE.py:NAME; write mine.py:load"),
    ],
)
def test_a_reference_that_lacks_a_part_is_refused_with_the_right_one(write, reference, message):
    write("import os\ndef load(): ...\ndef _helper(): ...\nclass Rows: ...\nX = 1\n")
    with pytest.raises(InputError) as caught:
        is_plugin(reference)
    assert str(caught.value) == message


def test_a_file_imports_its_neighbors_and_their_content_is_in_the_hash(write, tmp_path):
    write("WORD = 'one'\n", "words.py")
    write("import json, words\ndef word():\n    return words.WORD\n")
    before = load_plugin("mine.py:word", kind="filter")
    assert before.value() == "one" and before.files == "mine.py (with words.py)"
    assert load_plugin("mine.py:word", kind="filter") == before, "loaded once"
    write("WORD = 'two'\n", "words.py")
    after = load_plugin("mine.py:word", kind="filter")
    assert after.value() == "two" and after.sha256 != before.sha256
    assert str(tmp_path) not in sys.path and not (tmp_path / "__pycache__").exists()


def test_two_folders_may_have_neighbors_of_the_same_name(write, tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(f"WORD = '{folder}'\n", f"{folder}/words.py")
        write("import words\nWORD = words.WORD\n", f"{folder}/mine.py")
    loaded = [load_plugin(f"{folder}/mine.py:WORD", kind="filter").value for folder in ("a", "b")]
    assert loaded == ["a", "b"]


@pytest.mark.parametrize(
    ("helper", "message"),
    [
        ("def divide():\n    return 1 / 0\n", "by zero (helpers.py, line 2); correct the file"),
        ("x = 1\ny = z\ndef divide(): ...\n", "'z' is not defined (helpers.py, line 2)"),
        ("x = 1\ny = (\ndef divide(): ...\n", "'(' was never closed (helpers.py, line 2)"),
    ],
)
def test_an_exception_in_a_neighbor_names_its_file_and_line(write, helper, message):
    write(helper, "helpers.py")
    write("import helpers\n\ndef divide():\n    return helpers.divide()\n")
    with pytest.raises(InputError) as caught:
        call_plugin("mine.py:divide", "it failed", load_plugin("mine.py:divide", "filter").value)
    assert message in str(caught.value)


def test_a_missing_neighbor_is_named(write):
    write("import not_there\n")
    with pytest.raises(InputError, match=r"install it, or put not_there\.py next to mine\.py"):
        load_plugin("mine.py:x", kind="filter")
