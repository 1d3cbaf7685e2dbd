"""`code-alpaca recipes` lists the shipped recipes, prints one, and copies one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.documents import ROOT

from code_alpaca.cli import main

SMOKE = ROOT / "recipes/smoke/sft/config_cpu.yaml"


@pytest.fixture(autouse=True)
def outside_the_clone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_list_names_every_recipe_with_its_hardware_and_time(capsys):
    assert main(["recipes"]) == 0
    printed = capsys.readouterr().out
    for path in (ROOT / "recipes").glob("*/*/*.yaml"):
        name = path.relative_to(ROOT / "recipes").with_suffix("").as_posix()
        when, hardware, time = printed.partition(f"{name}\n")[2].splitlines()[:3]
        assert when.startswith("  when: ")
        assert hardware.startswith("  hardware: ")
        assert time.startswith("  time: ")
        assert all(line.endswith(".") for line in (when, hardware, time))


def test_show_prints_the_file(capsys):
    assert main(["recipes", "show", "smoke/sft/config_cpu"]) == 0
    assert capsys.readouterr().out == SMOKE.read_text()


def test_copy_writes_a_file_that_config_takes(capsys):
    assert main(["recipes", "copy", "smoke/sft/config_cpu", "mine/first"]) == 0
    assert Path("mine/first/config_cpu.yaml").read_bytes() == SMOKE.read_bytes()
    assert "--config mine/first/config_cpu.yaml" in capsys.readouterr().out
    assert main(["recipes", "copy", "smoke/sft/config_cpu", "my first"]) == 0
    assert "--config 'my first/config_cpu.yaml'" in capsys.readouterr().out  # can be pasted


def test_copy_replaces_nothing(capsys):
    Path("config_cpu.yaml").write_text("mine: true")
    assert main(["recipes", "copy", "smoke/sft/config_cpu"]) == 2
    assert "config_cpu.yaml exists" in capsys.readouterr().err
    assert Path("config_cpu.yaml").read_text() == "mine: true"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["show", "smoke/sft/config_cp"], "did you mean 'smoke/sft/config_cpu'?"),
        (["show"], "required: name"),
        (["remove"], "choose from"),
        (["copy", "smoke/sft/config_cpu", "a-file/folder"], "Not a directory"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    Path("a-file").touch()
    assert main(["recipes", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert os.listdir() == ["a-file"]
