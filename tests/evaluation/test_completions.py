"""Answers of a local model: the same alone, in a batch, and in several processes."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from code_alpaca.cli import main
from code_alpaca.evaluation import completions, local_model
from code_alpaca.evaluation.completions import (
    CompletionRequest,
    GenerationSettings,
    truncate_at_stop,
)
from code_alpaca.problems import load_problems
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

PROBLEMS = load_problems("mini")[:4]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    texts = [problem.prompt + problem.canonical_solution for problem in load_problems("mini")]
    for part in build_scratch_model(
        texts, ScratchShape(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2)
    ):
        part.save_pretrained(folder)
    return folder


def answers(model, batch_size, settings, samples=1):
    found = {}
    local_model.complete_with_model(
        str(model), [CompletionRequest(problem, n) for problem in PROBLEMS for n in range(samples)],
        lambda job, answer: found.__setitem__((job.problem.task_id, job.sample), answer.text),
        settings, batch_size=batch_size, dtype="auto",
    )  # fmt: skip
    return found


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_does_not_depend_on_its_batch(model, temperature):
    settings = GenerationSettings("completion", temperature, 12, seed=3)
    samples = 3 if temperature else 1
    alone = answers(model, 1, settings, samples)
    assert alone == answers(model, 5, settings, samples)
    if temperature:
        assert len(set(alone.values())) > 9, "each sample has a seed of its own"
        assert alone != answers(
            model, 5, GenerationSettings("completion", temperature, 12, seed=4), samples
        )


def test_the_sampler_draws_from_the_softmax():
    logits = torch.tensor([[1.0, 0.0, -1.0, 3.0]])
    sampler = local_model.GumbelSampler(
        [CompletionRequest(PROBLEMS[0], 0)], GenerationSettings("chat", 2.0, 1, 0), "cpu"
    )
    draws = torch.tensor([sampler(None, logits).argmax() for _ in range(4000)])
    seen = torch.bincount(draws, minlength=4) / 4000
    assert torch.allclose(seen, torch.softmax(logits[0] / 2, 0), atol=0.03)
    assert logits.tolist() == [[1.0, 0.0, -1.0, 3.0]]


def test_an_answer_ends_where_the_function_does():
    text = "    return 1\n\n\ndef other():\n    pass\nprint(1)"
    assert truncate_at_stop(text, completions.FUNCTION_STOPS) == "    return 1\n\n"
    assert truncate_at_stop("a\n### Instruction:\nb", completions.RESPONSE_STOPS) == "a"
    assert truncate_at_stop("a", completions.RESPONSE_STOPS) == "a"


def test_two_processes_answer_as_one(model, tmp_path):
    words = ["eval", "--model", str(model), "--limit", "6", "--max_new_tokens", "6",
             "--num_samples", "2", "--temperature", "1", "--batch_size", "2"]  # fmt: skip
    assert main([*words, "--output_dir", str(tmp_path / "one")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    two = [*torchrun, "-m", "code_alpaca.cli", *words, "--output_dir", str(tmp_path / "two")]
    done = subprocess.run(two, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("12 samples") == 1, "the first process alone reports"

    def rows(name):
        lines = (tmp_path / name / "samples.jsonl").read_text().splitlines()
        return [(r["task_id"], r["sample"], r["completion"]) for r in map(json.loads, lines)]

    assert rows("two") == rows("one") and len(rows("two")) == 12
    assert [path.name for path in (tmp_path / "two").glob("samples*")] == ["samples.jsonl"]


def test_problems_in_the_training_data_are_scored_apart(tmp_path):
    taken = load_problems("mini")[0]
    data = tmp_path / "train.jsonl"
    rows = [
        {"instruction": taken.instruction, "input": "", "output": "x"},
        {"instruction": "Something else.", "input": "", "output": "y"},
    ]
    data.write_text("\n".join(map(json.dumps, rows)))
    words = ["eval", "--samples", "reference", "--training_data", str(data)]
    assert main([*words, "--output_dir", str(tmp_path / "e")]) == 0
    found = json.loads((tmp_path / "e" / "results.json").read_text())["uncontaminated"]
    assert found["matched"] == [taken.task_id] and found["problems"] == 19
    table = (tmp_path / "e" / "results.md").read_text()
    assert "| all | 20 | 1 | 100.0%" in table
    assert "| without a match in the training data | 19 | 1 | 100.0%" in table
