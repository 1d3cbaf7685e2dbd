"""A random tiny model, a benchmark file of two problems, and the `eval` command."""

from __future__ import annotations

import json

import pytest

from code_alpaca import sandbox
from code_alpaca.cli import main
from code_alpaca.core.records import EvalResults
from code_alpaca.problems import load_problems
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

RECORD = {
    "task_id": "own/0",
    "prompt": 'def add(a, b):\n    """Add."""\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n",
}


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of an untrained LLaMA."""
    folder = tmp_path_factory.mktemp("tiny") / "model"
    texts = [problem.prompt + problem.canonical_solution for problem in load_problems("mini")]
    shape = ScratchShape(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2, max_length=512)
    for part in build_scratch_model(texts, shape, seed=0):
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def package_pool():
    """The strongest sandbox of this machine, with installed packages visible."""
    with sandbox.WorkerPool(sandbox.choose_backend().backend, packages=True) as workers:
        yield workers


@pytest.fixture
def benchmark_file(tmp_path):
    """A benchmark file of two problems, own/0 and own/1."""
    path = tmp_path / "own.jsonl"
    records = [RECORD, {**RECORD, "task_id": "own/1"}]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


@pytest.fixture
def benchmark_function(tmp_path, benchmark_file):
    """A user's Python file whose function `load` returns the problems of `benchmark_file`."""
    path = tmp_path / "my_bench.py"
    path.write_text(
        "import json\n\ndef load():\n"
        f"    return [json.loads(line) for line in open({str(benchmark_file)!r})]\n"
    )
    return path


class EvalCommand:
    """Run `code-alpaca eval` into one output folder, and read what it wrote."""

    def __init__(self, output_dir):
        self.output_dir = output_dir

    def __call__(self, *words):
        """Return the exit code."""
        return main(["eval", *map(str, words), "--output_dir", str(self.output_dir)])

    @property
    def results(self):
        return EvalResults.load(self.output_dir)

    @property
    def samples_file(self):
        return self.output_dir / "samples.jsonl"

    @property
    def rows(self):
        return [json.loads(line) for line in self.samples_file.read_text().splitlines() if line]


@pytest.fixture
def run_eval(tmp_path):
    return EvalCommand(tmp_path / "eval")


@pytest.fixture
def grade_samples(tmp_path, benchmark_file, run_eval):
    """Grade lines (dicts or text) as a file of samples of `benchmark_file`."""

    def grade(lines, *words):
        path = tmp_path / "lines.jsonl"
        text = (line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        path.write_text("".join(text))
        return run_eval("--benchmark", benchmark_file, "--samples", path, *words)

    return grade
