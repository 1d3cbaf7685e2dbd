"""A training run through the command: what it writes, and how it resumes."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from support.tiny_sft import interrupt_after_step, interrupt_before_end, read_metrics, tiny_sft

from code_alpaca.cli import main
from code_alpaca.core.records import RunRecord

EPOCHS = ["--num_train_epochs", "5", "--logging_steps", "1"]  # 20 steps, 5 checkpoints


def test_the_loss_falls_and_is_recorded(uninterrupted, rows):
    record = RunRecord.load(uninterrupted)
    assert record.last_loss < record.first_loss - 1
    assert record.rows == 60 and record.steps == 20
    assert record.dataset.revision == f"sha256 {hashlib.sha256(rows.read_bytes()).hexdigest()}"
    assert record.config["learning_rate"] == 2.0e-3


def test_only_the_last_checkpoint_is_kept(uninterrupted):
    assert [path.name for path in uninterrupted.glob("checkpoint-*")] == ["checkpoint-20"]


def test_the_folder_loads_and_contains_nothing_private(uninterrupted):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(uninterrupted)
    tokenizer = AutoTokenizer.from_pretrained(uninterrupted)
    assert model.config.vocab_size == len(tokenizer)
    eos = GenerationConfig.from_pretrained(uninterrupted).eos_token_id
    assert eos == tokenizer.eos_token_id
    assert not (uninterrupted / "training_args.bin").exists()
    assert not (uninterrupted / "README.md").exists()
    assert "hub_token" not in (uninterrupted / "run.json").read_text()


def test_a_finished_run_is_not_repeated_and_another_configuration_is_refused(
    uninterrupted, rows, capsys
):
    run_json = (uninterrupted / "run.json").read_bytes()
    words = tiny_sft(rows, uninterrupted, *EPOCHS)
    assert main(words) == 0
    assert "trained already" in capsys.readouterr().out
    assert main([*words, "--num_train_epochs", "9"]) == 2
    assert (
        "already contains a model trained with a different config (num_train_epochs: 5.0 -> 9.0)"
        in capsys.readouterr().err
    )
    assert (uninterrupted / "run.json").read_bytes() == run_json


def test_a_killed_run_resumes_from_the_last_complete_checkpoint(
    uninterrupted, rows, tmp_path, capsys
):
    """Interrupted before the second checkpoint is marked as complete."""
    words = tiny_sft(rows, tmp_path, *EPOCHS, "--save_total_limit", "5")
    assert main(words) == 0
    interrupt_after_step(8, tmp_path)
    (tmp_path / "checkpoint-8/complete.json").unlink()
    marker = tmp_path / "checkpoint-4/complete.json"
    assert json.loads(marker.read_text())["seconds"] > 0
    marker.write_text('{"seconds": 1000}')  # as if trained so far on a slower machine
    capsys.readouterr()
    assert main(words) == 0
    output = capsys.readouterr().out
    assert f"resuming from {tmp_path}/checkpoint-4" in output
    assert "checkpoint-8 is incomplete" in output
    complete = {path.parent.name for path in tmp_path.glob("*/complete.json")}
    assert complete == {f"checkpoint-{step}" for step in (4, 8, 12, 16, 20)}
    steps = [line["step"] for line in read_metrics(tmp_path)]
    assert steps == sorted(set(steps)) and steps[-1] == 20
    resumed, expected = RunRecord.load(tmp_path), RunRecord.load(uninterrupted)
    assert resumed.loss_curve == expected.loss_curve
    assert resumed.seconds > 1000  # of both starts, as the tokens are
    tokens = resumed.tokens * resumed.epochs
    assert resumed.tokens_per_second == pytest.approx(tokens / resumed.seconds, abs=0.1)


@pytest.mark.parametrize(
    "words",
    [
        ["--train_sampling_strategy", "group_by_length"],
        ["--train_sampling_strategy", "random"],
        ["--train_sampling_strategy", "batch_rebalance"],
        ["--packing", "true", "--train_sampling_strategy", "random", "--max_length", "128"],
    ],
)
def test_a_run_killed_within_the_second_epoch_trains_the_same_rows(words, rows, tmp_path, capsys):
    expected_dir, killed_dir = tmp_path / "expected", tmp_path / "killed"
    words = ["--save_strategy", "steps", "--save_steps", "1", "--save_total_limit", "99",
             "--num_train_epochs", "3", "--per_device_train_batch_size", "8", "--logging_steps",
             "1", *words]  # fmt: skip
    assert main(tiny_sft(rows, expected_dir, *words)) == 0
    expected = RunRecord.load(expected_dir)
    steps_per_epoch = expected.steps // 3
    step = steps_per_epoch + steps_per_epoch // 2
    shutil.copytree(expected_dir, killed_dir)
    interrupt_after_step(step, killed_dir)
    assert main(tiny_sft(rows, killed_dir, *words)) == 0
    assert f"resuming from {killed_dir}/checkpoint-{step}" in capsys.readouterr().out
    assert RunRecord.load(killed_dir).loss_curve == expected.loss_curve
    weights, expected_weights = (
        (folder / "model.safetensors").read_bytes() for folder in (killed_dir, expected_dir)
    )
    assert weights == expected_weights


@pytest.mark.parametrize("marker", ["", '{"seconds": 3.5}'])
def test_a_checkpoint_of_version_0_1_resumes(marker, rows, tmp_path, capsys):
    """Its marker is the file `whole`, empty or with seconds, and the mask is spelled `seed`."""
    words = tiny_sft(rows, tmp_path, "--mask")
    assert main([*words, "alpaca_2023"]) == 0
    record = RunRecord.load(tmp_path)
    interrupt_before_end(tmp_path)
    (tmp_path / "checkpoint-8/complete.json").rename(tmp_path / "checkpoint-8/whole")
    (tmp_path / "checkpoint-8/whole").write_text(marker)
    started = tmp_path / "sft_config.json"
    config = json.loads(started.read_text())
    for key in ("dataset_split", "first_turn"):  # of a later version
        del config[key]
    started.write_text(json.dumps(config | {"mask": "seed"}))
    capsys.readouterr()
    assert main([*words, "seed"]) == 0
    output = capsys.readouterr().out
    assert f"resuming from {tmp_path}/checkpoint-8" in output
    assert output.count("mask: seed is now called alpaca_2023") == 1
    resumed = RunRecord.load(tmp_path)
    assert resumed.loss_curve == record.loss_curve and resumed.config["mask"] == "alpaca_2023"
    # Without its seconds, the throughput covers only this start, which trained no step.
    assert (resumed.tokens_per_second == 0) == (marker == "")


def test_checkpoints_of_another_configuration_are_not_resumed(
    uninterrupted, rows, tmp_path, capsys
):
    output_dir = tmp_path / "model"
    shutil.copytree(uninterrupted, output_dir)
    interrupt_before_end(output_dir)
    words = tiny_sft(rows, output_dir, *EPOCHS)
    assert main([*words, "--learning_rate", "0.5"]) == 2
    assert "(learning_rate: 0.002 -> 0.5)" in capsys.readouterr().err
    assert main([*words, "--logging_steps", "2"]) == 0
    assert "resuming from" in capsys.readouterr().out


def test_a_model_of_another_tool_is_not_overwritten(rows, tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    assert main(tiny_sft(rows, tmp_path)) == 2
    assert "did not write" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]
