"""TRL's own commands train on a dataset folder as it is, without code of this project."""

from __future__ import annotations

import importlib
import json

import pytest

from code_alpaca.cli import main

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """A dataset folder whose rows have tests that passed."""
    run_dir = tmp_path_factory.mktemp("run")
    generate = ["generate", "--run_dir", str(run_dir), "--teacher_base_url", "offline"]
    assert main([*generate, "--num_examples", "30"]) == 0
    return run_dir / "dataset"


def run_trl(command, dataset, output_dir, *words):
    """Run a command of the `trl` program in this process, for two steps."""
    script = importlib.import_module(f"trl.scripts.{command}")
    common = ["--dataset_name", str(dataset), "--output_dir", str(output_dir), "--max_steps", "2",
              "--per_device_train_batch_size", "4", "--logging_steps", "1", "--save_steps", "2",
              "--report_to", "none", "--use_cpu", "--bf16", "false",
              "--gradient_checkpointing", "false"]  # fmt: skip
    parsed = script.make_parser().parse_args_and_config([*common, *words])
    script.main(*parsed)
    state = json.loads((output_dir / "checkpoint-2/trainer_state.json").read_text())
    return state["log_history"]


def test_trl_sft_trains_on_the_config_messages(dataset, uninterrupted, tmp_path):
    template = tmp_path / "chatml.jinja"
    template.write_text(CHATML)
    words = ["--model_name_or_path", str(uninterrupted), "--dataset_config", "messages"]
    words += ["--chat_template_path", str(template)]
    history = run_trl("sft", dataset, tmp_path / "model", *words)
    losses = [entry["loss"] for entry in history if "loss" in entry]
    assert len(losses) == 2 and all(loss > 0 for loss in losses)


def test_trl_grpo_trains_on_the_config_rl_with_the_reward_of_the_tests(
    dataset, uninterrupted, tmp_path
):
    words = ["--model_name_or_path", str(uninterrupted), "--dataset_config", "rl"]
    words += ["--reward_funcs", "code_alpaca.rewards.tests_passed", "--num_generations", "4"]
    words += ["--max_completion_length", "16"]
    history = run_trl("grpo", dataset, tmp_path / "model", *words)
    rewards = [entry["rewards/tests_passed/mean"] for entry in history if "reward" in entry]
    assert len(rewards) == 2 and all(0 <= reward <= 1 for reward in rewards)
