"""The size of a teacher, read in its name, decides how many tasks a request asks for by default."""

from __future__ import annotations

import pytest

from code_alpaca.generation.config import GenerateConfig


@pytest.mark.parametrize(
    ("model", "tasks"),
    [
        ("Qwen/Qwen2.5-Coder-1.5B-Instruct", 1),
        ("smollm2-135m-instruct-q8_0", 1),
        ("qwen2.5-coder:1.5b", 1),
        ("llama-3.2-3b-instruct", 1),
        ("gemma-3-4b-it", 5),
        ("mixtral-8x7b", 5),
        ("Qwen3-30B-A3B", 5),
        ("gpt-4.1-mini", 5),
        ("gemini-pro-1m", 5),
    ],
)
def test_a_small_teacher_is_asked_for_one_task_at_a_time(model, tasks):
    assert GenerateConfig(run_dir="r", teacher_model=model).tasks_per_request == tasks
    chosen = GenerateConfig(run_dir="r", teacher_model=model, tasks_per_request=3)
    assert chosen.tasks_per_request == 3


def test_a_small_teacher_that_is_served_here_is_asked_for_one_task_at_a_time():
    url = "llama-server:models/qwen2.5-coder-0.5b-instruct-q8_0.gguf"
    assert GenerateConfig(run_dir="r", teacher_base_url=url).tasks_per_request == 1
