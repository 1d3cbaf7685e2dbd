"""Bad keys and values are refused in one line that names them."""

from __future__ import annotations

import pytest
from support.tiny_sft import RECIPE

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.training.parsing import parse_sft_arguments, requests_dry_run

DATASET = ["--dataset_name", "x"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max_seq_length", "512"], "unknown key 'max_seq_length' (command line)"),
        (["--learning_rat", "1"], "did you mean 'learning_rate'?"),
        (["--learning_rate", "fast"], "learning_rate"),
        (["--mask", "everything"], "mask"),
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
    ("words", "expected"),
    [
        (["--seed", "1"], False),
        (["--dry_run"], True),
        (["--dry_run", "--seed", "1"], True),
        (["--dry_run=true"], True),
        (["--dry_run", "false"], False),
        (["--dry_run=0"], False),
    ],
)
def test_a_dry_run_is_requested_with_or_without_a_value(words, expected):
    assert requests_dry_run(words) == expected


@pytest.mark.parametrize("words", [["--mask", "seed"], ["--mask=seed"], []])
def test_the_old_spelling_of_the_mask_is_accepted_with_one_warning(words, tmp_path, capsys):
    path = tmp_path / "old.yaml"
    path.write_text("mask: seed\n" + RECIPE.read_text())
    setup = parse_sft_arguments(["--config", str(path), *DATASET, *words])
    assert setup.args.mask == "alpaca_2023"
    assert capsys.readouterr().out.count("mask: seed is now called alpaca_2023") >= 1
    # The command line takes precedence over the file.
    setup = parse_sft_arguments(["--config", str(path), *DATASET, "--mask", "completion"])
    assert setup.args.mask == "completion"
