"""Every command refuses a wrong path in one line that names it, before anything is computed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from code_alpaca.cli import main

GENERATE = "generate --teacher_base_url offline --run_dir out"
INPUTS = (
    f"{GENERATE} --config",
    f"{GENERATE} --seed_tasks",
    f"{GENERATE} --prompts",
    f"{GENERATE} --decontaminate",
    f"{GENERATE} --strategy oss_instruct --snippets",
    "curate --run_dir out --source",
    "curate --run_dir out --source rows.jsonl --seed_tasks",
    "publish --run_dir",
    "publish --run_dir out --source",
    "sft --config",
    "sft --output_dir out --model_name_or_path org/name --dataset_name d --accelerate_config",
    "sft --output_dir out --dataset_name d --dry_run --model_name_or_path",
    "eval --output_dir out --benchmark mini --model",
    "eval --output_dir out --benchmark mini --samples",
    "eval --output_dir out --samples reference --benchmark",
    "eval --output_dir out --samples reference --compare",
    "release --output_dir out --results r.json --model_dir",
    "recover --output_dir out --diff",
    "demo --model",
    "report --run_dir",
    "convert-llama --output_dir out --input_dir",
)
OUTPUTS = (
    "generate --teacher_base_url offline --run_dir",
    "curate --source rows.jsonl --run_dir",
    "eval --benchmark mini --samples reference --output_dir",
    "recipes copy smoke/sft/config_cpu",
)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with paths of the wrong kind, and a file of valid rows."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("hello\n")
    (tmp_path / "rows.jsonl").write_text('{"instruction": "Add.", "input": "", "output": "1"}\n')
    return tmp_path


@pytest.mark.parametrize("kind", ["missing", "folder", "file", "file/below"])
@pytest.mark.parametrize("command", INPUTS)
def test_a_wrong_input_is_named(folder, command, kind, capsys):
    path = str(folder / kind)
    assert main([*command.split(), path]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert path in line
    assert "Errno" not in line and "Repo id" not in line  # a path is no id of the Hub
    assert "; " in line or " must " in line  # what to do
    assert not (folder / "out").exists()


@pytest.mark.parametrize("kind", ["file", "file/below"])
@pytest.mark.parametrize("command", OUTPUTS)
def test_an_output_that_cannot_be_a_folder_is_named(folder, command, kind, capsys):
    path = str(folder / kind)
    assert main([*command.split(), path]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert path in line and "Errno" not in line
    assert (folder / "file").read_text() == "hello\n"


def run_without_home(folder, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose home and caches cannot be written."""
    caches = ("HF_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "MPLCONFIGDIR")
    environment = {key: value for key, value in os.environ.items() if key not in caches}
    return subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words], capture_output=True, text=True,
        check=False, env={**environment, "HOME": str(folder / "home")},
    )  # fmt: skip


def test_without_a_writable_home_a_command_works_or_names_the_variable_to_set(folder):
    (folder / "home").mkdir()
    for name in (".cache", ".config"):
        (folder / "home" / name).touch()  # not a folder, so nothing can be written below it
    words = ["--teacher_base_url", "offline", "--num_examples", "20", "--verify", "false"]
    done = run_without_home(folder, "generate", "--run_dir", "run", *words)
    assert (done.returncode, done.stderr) == (0, "")
    done = run_without_home(folder, "curate", "--source", "run/dataset", "--run_dir", "out")
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and str(folder / "home/.cache") in line
    assert "; set XDG_CACHE_HOME to a folder" in line
