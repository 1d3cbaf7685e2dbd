"""Fragments of real code: short, readable, and without secrets."""

from __future__ import annotations

import json
import subprocess

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.generation.strategies.oss_instruct import load_snippets

SNIPPETS = ["\n".join(f"line_{n} = {n}" for n in range(60)), "a\nb\nc\nd\ne"]


def test_secrets_hidden_files_and_untracked_files_of_a_repository_are_left_out(tmp_path):
    code = "\n".join(f"x{n} = {n}" for n in range(8)) + "\n"
    (tmp_path / "src").mkdir()
    (tmp_path / "src/good.py").write_text(code + "# good\n")
    (tmp_path / "key.py").write_text(code + 'API_KEY = "sk-abcdefghijklmnop1234"\n')
    (tmp_path / "password.go").write_text(code + 'password := "correct-horse-9"\n')
    (tmp_path / ".hidden.py").write_text(code)
    (tmp_path / "short.py").write_text("x = 1\n")
    (tmp_path / "big.js").write_text("x;\n" * 100_000)
    (tmp_path / "binary.c").write_bytes(b"\xff\xfe\x00" * 50)
    (tmp_path / "notes.txt").write_text(code)
    assert load_snippets(str(tmp_path), "content") == [code + "# good"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "add", "src", "key.py"], check=True)
    (tmp_path / "src/untracked.py").write_text(code)
    assert load_snippets(str(tmp_path), "content") == [code + "# good"]


def test_without_git_every_file_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text(SNIPPETS[0])
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load_snippets(str(tmp_path), "content") == [SNIPPETS[0]]


def test_snippets_from_a_column_of_a_file(tmp_path):
    path = tmp_path / "code.jsonl"
    path.write_text("".join(json.dumps({"code": text}) + "\n" for text in [*SNIPPETS, "x"]))
    assert load_snippets(str(path), "code") == SNIPPETS
    with pytest.raises(InputError, match="no column 'content'"):
        load_snippets(str(path), "content")
    with pytest.raises(InputError, match="contains no usable code; a text needs at least 5 lines"):
        load_snippets(str(tmp_path), "content")


def test_blank_lines_are_joined_and_minified_code_is_left_out(tmp_path):
    blank = "\n\n   \n\n".join(f"    x{n} = {n}" for n in range(9))
    wide = "\n".join(f"y{n} = '{'y' * 280}'" for n in range(60))
    (tmp_path / "blank.py").write_text(blank)
    (tmp_path / "wide.py").write_text(wide)
    (tmp_path / "minified.js").write_text("a;\n" * 9 + "b" * 301)
    assert load_snippets(str(tmp_path), "content") == [blank.replace("\n\n   \n\n", "\n\n"), wide]
