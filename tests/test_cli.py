"""The command line: help for every command, and one line with exit code 2 for bad input."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys

import pytest

from code_alpaca.cli import STAGES, main
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.records import Manifest


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name}" in shown for name in STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_help_of_a_command_lists_its_keys(stage, capsys):
    try:
        code = main([stage, "--help"])
    except SystemExit as done:
        code = done.code
    assert not code
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) > 5
    assert "--config" in shown or stage == "recipes"
    assert " object at 0x" not in shown
    assert not re.search(r"default:\s+None\b|\bnone: ", shown), "write unset"


@pytest.mark.parametrize(
    ("stage", "choices"),
    [("sft", "completion (tokenized separately"), ("generate", "one of code_aware, rouge_l")],
)
def test_help_names_the_choices_of_a_key(stage, choices, capsys):
    with contextlib.suppress(SystemExit):
        main([stage, "--help"])
    assert choices in " ".join(capsys.readouterr().out.split())


def test_columns_concern_datasets_and_not_models(capsys):
    for stage in ("publish", "release"):
        with contextlib.suppress(SystemExit):
            main([stage, "--help"])
        replace = capsys.readouterr().out.split("--replace [VALUE]")[-1].split("--dry_run")[0]
        has_columns = "columns were added or removed" in " ".join(replace.split())
        assert has_columns == (stage == "publish")


GENERATE = "generate --run_dir x"


def test_help_shows_a_default_as_one_would_give_it(capsys):
    main(["generate", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "(default: default)" in shown and "(default: false)" in shown
    assert "['" not in shown and "False" not in shown


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("nonsense", "no such command; choose one of quickstart, "),
        ("generat", "no such command; did you mean 'generate'?"),
        ("generate", "missing key 'run_dir'"),
        (f"{GENERATE} --num_exampels 5", "did you mean 'num_examples'?"),
        (f"{GENERATE} --num_examples -1", "give a number above 0, got '-1'"),
        (f"{GENERATE} --num_examples many", "give a whole number, got 'many'"),
        (f"{GENERATE} --verify perhaps", "give true or false, got 'perhaps'"),
        (f"{GENERATE} --novelty rouge", "give 'code_aware' or 'rouge_l', got 'rouge'"),
        (f"{GENERATE} --filters emtpy", "no filter 'emtpy'"),
        (f"{GENERATE} --filters emtpy", "did you mean 'empty'?\n"),
        ("eval --decontaminate mini", "(command line); it is a key of generate, curate\n"),
        (
            "eval --learning_rate 1",
            "(command line); it is a key of sft\n",
        ),
        ("release --model x", "a key of eval, demo, teacher; did you mean 'model_dir'?"),
        ("report --xyz 1", "unknown key 'xyz' (command line); see --help"),
        ("generate --run_dir=", "'run_dir' (command line): must not be empty; give a path"),
        ("report --run_dir=", "must not be empty"),
        (f"{GENERATE} stray", "unexpected word 'stray'"),
        (f"{GENERATE} --teacher_base_url foo", "not a URL like"),
        (f"{GENERATE} --teacher_base_url http://a:99999", "not a URL like"),
        (f"{GENERATE} --teacher_base_url offline?latency=abc", "bad value for 'latency'"),
        (f"{GENERATE} --teacher_base_url offline --teacher_api batch", "no Batch API"),
        (f"{GENERATE} --strategy oss_instruct --snippets {'a' * 300}", "File name too long"),
        ("generate --config /does/not/exist.yaml", "cannot read config"),
    ],
)
def test_bad_input_is_exit_2_and_one_line(command, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_overrides_the_file_and_unknown_keys_are_named(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("run_dir: a\nnum_examples: 7\ntemprature: 1.0\n")
    assert main(["generate", "--config", str(config)]) == 2
    assert "unknown key 'temprature'" in (error := capsys.readouterr().err)
    assert "did you mean 'temperature'?" in error and str(config) in error

    config.write_text("run_dir: a\nnum_examples: 7\nteacher_base_url: offline\n")
    assert main(["generate", "--config", str(config), "--dry_run", "--num_examples", "9"]) == 0
    shown = capsys.readouterr().out
    assert "plan      9 rows" in shown and "cost      none: the embedded teacher is free" in shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must contain `key: value` lines"),
        ("dataset_version: 2025-02-30\n", "not valid YAML: day is out of range"),
        ("[" * 100_000, "not valid YAML"),
        ("run_dir: a\nrun_dir: b\n", "line 2, column 1: the key 'run_dir' is given twice"),
        ("quotas:\n  language: {python: 1, python: 2}\n", "the key 'python' is given twice"),
        ("a: 1\nb: [1\nc: 2\n", "line 3, column 2: expected ',' or ']', but got ':'; correct it"),
        ("a: \x07\n", "not valid YAML: unacceptable character"),
        ('run_dir: "a\\0b"\n', "contains a NUL character"),
    ],
)
def test_a_file_that_is_not_a_config_is_refused(tmp_path, capsys, text, message):
    config = tmp_path / "c.yaml"
    config.write_text(text)
    assert main(["generate", "--config", str(config)]) == 2
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1
    assert "<unicode string>" not in error


@pytest.mark.parametrize(
    "command", ["recipes", "generate --dry_run --run_dir x --teacher_base_url offline"]
)
def test_output_that_nobody_reads_ends_a_command_quietly(command):
    """As in `code-alpaca report | head -1`; like other tools, it exits with 128 + SIGPIPE."""
    words = [sys.executable, "-m", "code_alpaca.cli", *command.split()]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_a_command_without_standard_streams_does_its_work(tmp_path, closed):
    """As a daemon may start it: what is printed must not end in the ledger."""
    words = "generate --run_dir run --teacher_base_url offline --num_examples 5 --verify false"
    command = f"exec {shlex.quote(sys.executable)} -m code_alpaca.cli {words} {closed}"
    assert subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False).returncode == 0
    assert Manifest.load(tmp_path / "run/dataset").counts["default"] == 5
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert len(list(ledger.accepted())) >= 5


@pytest.mark.parametrize(
    ("stage", "key", "value"),
    [
        ("generate", "novelty", "[1]"),
        ("generate", "novelty", "{a: 1}"),
        ("sft", "mask", "[seed]"),
        ("sft", "mask", "everything"),
        ("sft", "scratch_layers", "[2]"),
        ("sft", "packing_strategy", "bdf"),
        ("sft", "bf16", "maybe"),
        ("sft", "log_level", "[1]"),
    ],
)
def test_a_value_of_another_type_in_a_file_is_one_line(tmp_path, capsys, stage, key, value):
    config = tmp_path / "c.yaml"
    config.write_text(f"{key}: {value}\n")
    words = [
        "--use_cpu",
        "true",
        "--bf16",
        "false",
        "--dataset_name",
        "x",
        "--from_scratch",
        "true",
    ]
    if stage == "generate":
        words = ["--run_dir", str(tmp_path / "run")]
    assert main([stage, "--config", str(config), *words]) == 2
    error = capsys.readouterr().err
    assert key in error and error.count("\n") == 1
