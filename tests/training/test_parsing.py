"""Bad keys and values are refused in one line that names them."""

from __future__ import annotations

import pytest
from support.tiny_sft import RECIPE

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.training.parsing import parse_sft_arguments

DATASET = ["--dataset_name", "x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_seq_length", "512"], "unknown key 'max_seq_length' (command line)"),
        (["--learning_rat", "1"], "did you mean 'learning_rate'?"),
        (["--learning_rate", "fast"], "bad value for 'learning_rate': invalid float"),
        (["--mask", "everything"], "bad value for 'mask': invalid choice: 'everything'"),
        (["--use_peft", "true", *DATASET], "'use_peft' and from_scratch exclude"),
        (["--validation_fraction", "1", *DATASET], "bad value for 'validation_frac"),
        (["--push_to_hub", "true", *DATASET], "'push_to_hub' cannot be set here"),
        (["--eval_strategy", "epoch", *DATASET], "'eval_strategy' needs"),
        (["--scratch_heads", "5", *DATASET], "must divide scratch_hidden_size"),
        (["--max_length", "-5", *DATASET], "bad value for 'max_length'"),
        (["--learning_rate", "nan", *DATASET], "bad value for 'learning_rate'"),
        (["--seed", "-1", *DATASET], "bad value for 'seed'"),
        (["--resume_from_checkpoint", "x", *DATASET], "cannot be set here"),
        ([], "missing key 'dataset_name'"),
        (["--dataset_name", "./nowhere"], "no dataset at ./nowhere"),
        (["--from_scratch", "false", *DATASET], "missing key 'model_name_or_path'"),
    ],
)
def test_a_bad_key_or_value_is_refused(words, message, tmp_path, capsys):
    assert main(["sft", "--config", str(RECIPE), "--output_dir", str(tmp_path / "m"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_an_unknown_key_of_the_file_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("output_dir: x\nwarmup_ratio: 0.1\n")
    with pytest.raises(
        InputError, match=r"unknown key 'warmup_ratio' .*c.yaml.*did you mean 'warmup_"
    ):
        parse_sft_arguments(["--config", str(path)])


@pytest.mark.parametrize(
    ("word", "message"),
    [("--config=nothing", "cannot read config nothing: no such file"),
     ("--config", "--config needs a file or a shipped name")],
)  # fmt: skip
def test_a_missing_config_is_refused(word, message, capsys):
    assert main(["sft", word]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("in_file", "words", "planned"),
    [
        ("true", [], True),
        ("true", ["--dry_run", "false"], False),
        ("true", ["--dry_run=0"], False),
        ("false", ["--dry_run"], True),
        ("false", ["--dry-run=true"], True),
        ("false", ["--seed", "1"], False),
    ],
)
def test_the_command_line_or_else_the_file_decides_whether_a_launch_is_planned(
    in_file, words, planned, rows, tmp_path, capsys
):
    """An accelerate config for 8 GPUs is planned here, and cannot be launched."""
    path = tmp_path / "c.yaml"
    path.write_text(f"{RECIPE.read_text()}dry_run: {in_file}\n")
    words = ["--config", str(path), "--dataset_name", str(rows), *words]
    code = main(["sft", "--accelerate_config", "zero2", *words])
    captured = capsys.readouterr()
    if planned:
        assert code == 0 and "ZeRO-2 on 8 processes" in captured.out
        assert captured.out.endswith("dry run: nothing was trained or written\n")
    else:
        assert code == 2 and "starts 8 processes" in captured.err


def test_a_recipe_for_gpus_is_planned_without_them(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("model_name_or_path: huggyllama/llama-7b\ndataset_name: x\ndry_run: true\n")
    assert not parse_sft_arguments(["--config", str(path)]).layout.on_cpu


def test_a_key_may_be_spelled_with_dashes(tmp_path):
    words = ["--config", str(RECIPE), *DATASET, "--scratch-layers", "2", "--prompt-style=alpaca_nl"]
    setup = parse_sft_arguments(words)
    assert setup.args.scratch_layers == 2 and setup.args.prompt_style == "alpaca_nl"
    assert {"scratch_layers", "prompt_style"} <= setup.explicit_keys


@pytest.mark.parametrize("words", [["--mask", "seed"], ["--mask=seed"], []])
def test_the_old_spelling_of_the_mask_is_accepted_with_one_warning(words, tmp_path, capsys):
    path = tmp_path / "old.yaml"
    path.write_text("mask: seed\n" + RECIPE.read_text())
    setup = parse_sft_arguments(["--config", str(path), *DATASET, *words])
    assert setup.args.mask == "alpaca_2023"
    assert capsys.readouterr().out.count("mask: seed is now called alpaca_2023") == 1
    # The command line takes precedence over the file.
    setup = parse_sft_arguments(["--config", str(path), *DATASET, "--mask", "completion"])
    assert setup.args.mask == "completion"
