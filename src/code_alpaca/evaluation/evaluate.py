"""Measure pass@k: answers of a model, an endpoint or a file, run against a benchmark's tests.

Answers are appended to `samples.jsonl` as they come, and the same command goes on after a
stop. Grading runs each program in a process of its own, never in the one that holds the model.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from code_alpaca import __version__, benchmarks, sandbox, whole
from code_alpaca.benchmarks import Problem
from code_alpaca.config import BaseUrl, StageConfig
from code_alpaca.curation.contamination import Contamination
from code_alpaca.dataset.load import load
from code_alpaca.errors import InputError
from code_alpaca.evaluation import completions, grading, metrics, samples
from code_alpaca.evaluation.compare import compare
from code_alpaca.evaluation.completions import Job, PromptFormat, Settings
from code_alpaca.evaluation.extract import extract_program
from code_alpaca.evaluation.samples import Samples
from code_alpaca.sandbox import interpreters
from code_alpaca.schema import Example
from code_alpaca.weights import weights_sha256

EVERY_S = 10.0  # between two lines of progress


class Config(StageConfig):
    """The keys of `code-alpaca eval`."""

    benchmark: str = Field(
        "mini", description=f"{', '.join(benchmarks.NAMES)}, or a .jsonl[.gz] file"
    )
    model: str | None = Field(None, description="model folder or Hub id; a name with base_url")
    base_url: BaseUrl | None = Field(
        None, description="OpenAI-compatible endpoint that serves model"
    )
    samples: str | None = Field(
        None, description="grade this JSONL of task_id and completion (or solution); or reference"
    )
    num_samples: PositiveInt = Field(1, description="answers for each problem")
    temperature: float = Field(0.0, ge=0, le=2, description="0 is greedy")
    k: list[PositiveInt] = Field([1], min_length=1, description="the k of pass@k")
    max_new_tokens: PositiveInt = Field(512, description="limit of one answer, in tokens")
    batch_size: PositiveInt = Field(16, description="answers made at once")
    prompt_format: PromptFormat | None = Field(
        None,
        description="alpaca or alpaca_nl for our students, completion (the problem's own prompt) "
        "for base models, chat; none: that of the model's training, and chat at an endpoint",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of a local model's weights; auto: bfloat16 on a GPU that has it"
    )
    sandbox: Literal["auto", "bwrap", "landlock", "rlimit"] = Field(
        "auto", description="where untrusted answers run; auto: the strongest that holds here"
    )
    allow_unsafe: bool = Field(
        False, description="accept sandbox rlimit, which hides neither files nor network"
    )
    probe: bool = Field(False, description="try to break out of each sandbox, print, and end")
    timeout: float = Field(10.0, gt=0, le=3600, description="seconds for one program")
    compare: Path | None = Field(
        None, description="output_dir of another run: is the difference more than luck?"
    )
    training_data: str | None = Field(
        None, description="what the model was trained on: also score the problems not in it"
    )
    seed: int = Field(0, ge=0, lt=2**32, description="seed of sampling")
    limit: PositiveInt | None = Field(None, description="only the first so many problems")
    output_dir: Path = Field(Path("runs/eval"), description="where results.json goes")

    @field_validator("k", mode="before")
    @classmethod
    def _one_k_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @model_validator(mode="after")
    def _one_source(self) -> Config:
        if self.model is not None and self.samples is not None:
            raise ValueError("give either model (with base_url or without) or samples, not both")
        if not (self.model or self.samples or self.probe or self.compare):
            raise ValueError("give either model (with base_url or without) or samples")
        if self.samples is None and max(self.k) > self.num_samples:
            raise ValueError(f"k = {max(self.k)} needs num_samples of at least {max(self.k)}")
        if self.num_samples > 1 and self.temperature == 0 and self.samples is None:
            raise ValueError("num_samples above 1 needs a temperature above 0")
        if 0 < self.temperature < 0.01:
            raise ValueError("temperature is 0 (greedy), or from 0.01 to 2")
        return self

    def settings(self) -> Settings:
        return Settings(
            self.prompt_format or self._usual_format(),
            self.temperature,
            self.max_new_tokens,
            self.seed,
        )

    def training(self) -> dict[str, Any]:
        """The run.json of a model folder of ours; nothing for any other model."""
        path = Path(str(self.model)) / "run.json"
        if self.model is None or self.base_url or not path.exists():
            return {}
        return json.loads(path.read_text(encoding="utf-8"))

    def _usual_format(self) -> PromptFormat:
        if self.base_url:
            return "chat"
        return self.training().get("config", {}).get("prompt_style", "alpaca")


def run(config: Config) -> dict[str, Any]:
    """Grade, write `results.json` and `samples.jsonl` to `output_dir`, and return the results.

    Raises:
        InputError: a bad benchmark, samples file or model.
        Stopped: the endpoint failed half-way.
    """
    if config.probe:
        _print_probes(sandbox.probe_all(cached=False))
        return {}
    if not (config.model or config.samples):
        return _compare(config)
    guard = sandbox.choose(config.sandbox, allow_unsafe=config.allow_unsafe)
    problems = benchmarks.load(config.benchmark)[: config.limit]
    for language in {problem.language for problem in problems} & set(interpreters.LANGUAGES):
        interpreters.check(language, guard.backend)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    store = Samples(config.output_dir, "" if config.samples else _run_hash(config, problems))
    if config.samples == "reference":
        rows = samples.of_references(problems)
    elif config.samples:
        rows = samples.of_file(Path(config.samples), problems, config.benchmark)
    else:
        answered = _answers(config, problems, store)
        if answered is None:  # another process of `accelerate launch`: the first one grades
            return {}
        rows = answered
    _grade(config, guard, problems, rows)
    results = _results(config, guard, problems, rows)
    store.write(rows)
    whole.write_json(config.output_dir / "results.json", results)
    whole.write_text(config.output_dir / "results.md", _markdown(results))
    _report(config, results)
    if config.compare:
        _compare(config)
    return results


def _compare(config: Config) -> dict[str, Any]:
    """Tell how this run differs from another, and write it beside the results."""
    found = compare(config.output_dir, Path(str(config.compare)))
    whole.write_json(config.output_dir / "comparison.json", found.as_dict())
    low, high = found.interval
    Console(highlight=False, soft_wrap=True).print(
        f"eval      against {config.compare}: pass@1 {found.ours:.1%} and {found.theirs:.1%}, "
        f"difference {found.difference:+.1%} (95% interval {low:+.1%} to {high:+.1%}); "
        f"{len(found.won)} problems won, {len(found.lost)} lost, p = {found.p_value:.3g} (McNemar)"
    )
    return found.as_dict()


def _answers(
    config: Config, problems: list[Problem], store: Samples
) -> list[dict[str, Any]] | None:
    jobs = [Job(p, sample) for p in problems for sample in range(config.num_samples)]
    Console(highlight=False, soft_wrap=True).print(
        f"eval      {len(jobs)} answers of {config.model}, {config.max_new_tokens} tokens at most"
    )

    def complete(missing: list[Job], save: completions.Save) -> None:
        model, settings = str(config.model), config.settings()
        size = config.batch_size
        if config.base_url:
            completions.complete_remotely(
                config.base_url, model, missing, save, settings, batch_size=size
            )
        else:
            completions.complete_locally(
                model, missing, save, settings, batch_size=size, dtype=config.dtype
            )

    with _progress("answers", len(jobs)) as done:
        return store.answer(jobs, complete, done)


def _run_hash(config: Config, problems: list[Problem]) -> str:
    """What an answer depends on: weights, problems, and every key that shapes the text."""
    facts: dict[str, Any] = asdict(config.settings())
    facts |= {"model": config.model, "base_url": config.base_url}
    if not config.base_url:
        facts["dtype"] = config.dtype
    # Of the whole benchmark, so that `limit` asks for fewer of the same answers.
    every = benchmarks.load(config.benchmark) if config.limit else problems
    facts["prompts"] = [(p.task_id, p.prompt, p.instruction) for p in every]
    facts["weights"] = weights_sha256(str(config.model)) if config.base_url is None else None
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _grade(
    config: Config, guard: sandbox.Probe, problems: list[Problem], rows: list[dict[str, Any]]
) -> None:
    """Give every row its `status`."""
    by_id = {problem.task_id: problem for problem in problems}
    asked = [by_id[row["task_id"]] for row in rows]
    programs = [
        row["solution"] if "solution" in row else _program(config, problem, row["completion"])
        for problem, row in zip(asked, rows, strict=True)
    ]
    with (
        _progress("graded", len(rows)) as done,
        sandbox.Pool(guard.backend, packages=True) as pool,
    ):
        grades = grading.Grader(pool, timeout=config.timeout).grade(asked, programs, done=done)
    for row, grade in zip(rows, grades, strict=True):
        row["status"] = grade.status
        if grade.shared:
            row["shared_process"] = True


def _program(config: Config, problem: Problem, completion: str) -> str:
    if config.samples or config.settings().prompt_format == "completion":
        if problem.language != "python":
            return extract_program(problem, completion)
        defines = f"def {problem.entry_point}(" in completion
        return completion if defines else problem.prompt + completion
    return extract_program(problem, completion)


def _results(
    config: Config, guard: sandbox.Probe, problems: list[Problem], rows: list[dict[str, Any]]
) -> dict[str, Any]:
    tried = Counter(row["task_id"] for row in rows)
    passed = Counter(row["task_id"] for row in rows if row["status"] == "passed")
    counts = [(tried[p.task_id], passed[p.task_id]) for p in problems]
    try:
        scores = metrics.summarize(counts, config.k)
    except ValueError as error:
        raise InputError(str(error)) from None
    local = config.model is not None and config.base_url is None
    return {
        "benchmark": config.benchmark,
        "source": benchmarks.source(config.benchmark),
        "problems": len(problems),
        "task_ids": [problem.task_id for problem in problems],
        "samples": len(rows),
        "problems_without_samples": sum(not n for n, _ in counts),
        **scores,
        **_uncontaminated(config, problems, counts),
        "statuses": dict(Counter(row["status"] for row in rows).most_common()),
        "sandbox": {
            "backend": guard.backend,
            "canary_escaped": list(guard.escaped),
            "samples_tested_in_one_process": sum("shared_process" in row for row in rows),
        },
        "model": {
            "name": config.model,
            "sha256": weights_sha256(config.model) if local else None,
            "base_url": config.base_url,
            "dataset": config.training().get("dataset"),
        },
        "prompt_format": None if config.samples else config.settings().prompt_format,
        "config": json.loads(config.model_dump_json()),
        "versions": {"code-alpaca": __version__, "transformers": version("transformers")},
    }


def _uncontaminated(
    config: Config, problems: list[Problem], counts: list[tuple[int, int]]
) -> dict[str, Any]:
    """The scores over problems of which the training data holds no match."""
    if config.training_data is None:
        return {}
    rows, revision = load(config.training_data)
    index = Contamination([config.benchmark])
    matched: set[str] = set()
    for row in rows:
        example = Example(row["instruction"], row["input"], row["output"])
        matched.update(hit.task_id for hit in index.hits(example))
    pairs = zip(problems, counts, strict=True)
    clean = [count for problem, count in pairs if problem.task_id not in matched]
    found: dict[str, Any] = {
        "training_data": config.training_data,
        "revision": revision,
        "matched": sorted(matched),
        "problems": len(clean),
    }
    return {"uncontaminated": {**found, **(metrics.summarize(clean, config.k) if clean else {})}}


def _markdown(results: dict[str, Any]) -> str:
    """The scores as a Markdown table."""
    rows = [("all", results)]
    if "uncontaminated" in results:
        rows.append(("without a match in the training data", results["uncontaminated"]))
    lines = ["| problems | n | k | pass@k | 95% interval |", "|---|---|---|---|---|"]
    for name, found in rows:
        for k in results["config"]["k"]:
            if f"pass@{k}" in found:
                low, high = found[f"pass@{k}_interval"]
                value = f"{found[f'pass@{k}']:.1%} | {low:.1%} to {high:.1%}"
                lines.append(f"| {name} | {found['problems']} | {k} | {value} |")
    return "\n".join(lines) + "\n"


def _report(config: Config, results: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    for k in config.k:
        low, high = results[f"pass@{k}_interval"]
        console.print(
            f"eval      {config.benchmark}: pass@{k} {results[f'pass@{k}']:.1%} "
            f"(95% interval {low:.1%} to {high:.1%}), {results['problems']} problems"
        )
    told = ", ".join(f"{status} {count}" for status, count in results["statuses"].items())
    console.print(f"eval      {results['samples']} samples: {told or 'none'}")
    if results["problems_without_samples"]:
        console.print(
            f"eval      {results['problems_without_samples']} problems had no sample and count as "
            "unsolved"
        )


def _print_probes(probes: list[sandbox.Probe]) -> None:
    """One column a backend: what the canary managed in it."""
    table = Table("canary", *(found.backend for found in probes))
    for escape in sandbox.ESCAPES:
        table.add_row(escape, *(_mark(found, escape) for found in probes))
    table.add_row("holds", *("yes" if found.safe else "no" for found in probes), style="bold")
    console = Console(highlight=False, soft_wrap=True)
    console.print(table)
    for found in probes:
        if found.problem:
            console.print(f"eval      {found.backend}: {found.problem}")


def _mark(found: sandbox.Probe, escape: str) -> str:
    return "-" if found.problem else "out" if escape in found.escaped else "held"


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere a line, every ten seconds at most."""
    console = Console(highlight=False, soft_wrap=True)
    told = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(what, total=total)

        def done(count: int) -> None:
            nonlocal told
            progress.update(bar, completed=count)
            if not console.is_terminal and time.monotonic() - told >= EVERY_S:
                told = time.monotonic()
                console.print(f"eval      {what}: {count} of {total}")

        yield done
