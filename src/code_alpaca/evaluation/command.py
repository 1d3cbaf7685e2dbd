"""Measure pass@k: answers of a model, an endpoint or a file, run against a benchmark's tests.

Answers are appended to `samples.jsonl` as they come, and the same command resumes after a
stop. Grading runs each program in a process of its own, never in the one that holds the model.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from code_alpaca import __version__, sandbox
from code_alpaca.core import fs
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.evaluation import grading, identity, results, samples
from code_alpaca.evaluation.compare import compare_runs
from code_alpaca.evaluation.completions import (
    CompletionRequest,
    GenerationSettings,
    PromptFormat,
    SaveCompletion,
)
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.endpoint import complete_with_endpoint
from code_alpaca.evaluation.extract import extract_program
from code_alpaca.evaluation.local_model import complete_with_model, resolve_dtype
from code_alpaca.evaluation.overlap import score_uncontaminated
from code_alpaca.evaluation.samples import SampleStore
from code_alpaca.hub.model_source import Fingerprint, ModelSource, find_model, read_run_json
from code_alpaca.problems import Problem, describe_benchmark, load_problems
from code_alpaca.sandbox import interpreters

EVERY_S = 10.0  # between two lines of progress


@dataclass(frozen=True, slots=True)
class Subject:
    """What is measured: `source` is None for an endpoint, `settings` for a file of samples."""

    settings: GenerationSettings | None = None
    source: ModelSource | None = None
    files: Fingerprint = field(default_factory=dict)  # of the model
    dtype: str | None = None  # of its weights while it is measured
    training: dict[str, Any] = field(default_factory=dict)  # run.json of the model

    @property
    def prompt_format(self) -> PromptFormat | None:
        return self.settings.prompt_format if self.settings else None


def evaluate(config: EvalConfig) -> dict[str, Any]:
    """Grade, write `results.json` and `samples.jsonl` to `output_dir`, and return the results.

    Raises:
        InputError: a bad benchmark, samples file or model.
        Stopped: the endpoint failed half-way.
    """
    if config.probe:
        _print_probes(sandbox.probe_backends(cached=False))
        return {}
    if not (config.model or config.samples):
        return _compare(config)
    subject = _subject(config)
    guard = sandbox.choose_backend(config.sandbox, allow_unsafe=config.allow_unsafe)
    every = load_problems(config.benchmark)
    problems = every[: config.limit]
    for language in {problem.language for problem in problems} & set(grading.INTERPRETED):
        interpreters.check_interpreter(grading.INTERPRETED[language], guard.backend)
    _refuse_other_results(config)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    store = SampleStore(config.output_dir, _identity(config, subject, problems))
    if config.samples == "reference":
        rows = samples.reference_samples(problems)
    elif config.samples:
        rows = samples.read_samples(Path(config.samples), every, config.benchmark)
        wanted = {problem.task_id for problem in problems}
        rows = [row for row in rows if row["task_id"] in wanted]
        if not rows:
            raise InputError(
                f"samples {config.samples} holds no sample of the first {config.limit} problems"
            )
    else:
        answered = _answers(config, subject, problems, store)
        if answered is None:  # another process of `accelerate launch`: the first one grades
            return {}
        rows = answered
    references = _grade(config, subject, guard, problems, rows)
    found = _results(config, subject, guard, problems, rows, references)
    store.write(rows)
    fs.write_json(config.output_dir / "results.json", found)
    fs.write_text(config.output_dir / "results.md", results.as_markdown(found))
    results.report(found)
    Console(highlight=False, soft_wrap=True).print(
        f"eval      {config.output_dir / 'results.json'}", markup=False
    )
    if config.compare:
        _compare(config)
    return found


def _refuse_other_results(config: EvalConfig) -> None:
    """Keep the results of another benchmark, which graded samples would replace."""
    try:
        held = json.loads((config.output_dir / "results.json").read_text("utf-8"))["benchmark"]
    except (OSError, ValueError, LookupError, TypeError):
        return
    if held != config.benchmark:
        raise InputError(
            f"{config.output_dir} holds results of benchmark {held!r}, not {config.benchmark!r}; "
            "set another output_dir"
        )


def _subject(config: EvalConfig) -> Subject:
    """Find the model, before anything else takes time."""
    if config.model is None:
        return Subject()
    source, files, dtype, training = None, {}, None, {}
    if config.base_url is None:
        source = find_model(config.model, config.revision)
        files, training = source.fingerprint(), read_run_json(source.folder)
        dtype = resolve_dtype(config.dtype)
    usual = "chat" if config.base_url else _trained_format(training)
    settings = GenerationSettings(
        config.prompt_format or usual,
        config.temperature,
        config.max_new_tokens,
        config.seed,
        config.top_p,
    )
    return Subject(settings, source, files, dtype, training)


def _trained_format(training: dict[str, Any]) -> PromptFormat:
    """The prompt that a model was trained on, by its run.json; alpaca where there is none."""
    recorded = training.get("config")
    style = recorded.get("prompt_style") if isinstance(recorded, dict) else None
    if style is not None and style not in get_args(PromptFormat):
        raise InputError(
            f"run.json of the model names prompt_style {style!r}; set prompt_format to one of "
            f"{', '.join(get_args(PromptFormat))}"
        )
    return style or "alpaca"


def _identity(
    config: EvalConfig, subject: Subject, problems: list[Problem]
) -> identity.RunIdentity | None:
    if subject.settings is None:
        return None
    # Of the whole benchmark, so that `limit` asks for fewer of the same answers.
    every = load_problems(config.benchmark) if config.limit else problems
    if subject.source is None:
        return identity.identify_endpoint_run(
            subject.settings, str(config.model), str(config.base_url), every
        )
    return identity.identify_model_run(subject.settings, subject.files, str(subject.dtype), every)


def _compare(config: EvalConfig) -> dict[str, Any]:
    """Report how this run differs from another, and write it beside the results."""
    found = compare_runs(config.output_dir, Path(str(config.compare)))
    fs.write_json(config.output_dir / "comparison.json", found.as_dict())
    low, high = found.interval
    Console(highlight=False, soft_wrap=True).print(
        f"eval      against {config.compare}: pass@1 {found.ours:.1%} and {found.theirs:.1%}, "
        f"difference {found.difference:+.1%} (95% interval {low:+.1%} to {high:+.1%}); "
        f"{len(found.won)} problems won, {len(found.lost)} lost, p = {found.p_value:.3g} (McNemar)"
    )
    return found.as_dict()


def _answers(
    config: EvalConfig, subject: Subject, problems: list[Problem], store: SampleStore
) -> list[dict[str, Any]] | None:
    settings = subject.settings
    assert settings is not None
    jobs = [CompletionRequest(p, sample) for p in problems for sample in range(config.num_samples)]
    Console(highlight=False, soft_wrap=True).print(
        f"eval      {len(jobs)} answers of {config.model}, {config.max_new_tokens} tokens at most",
        markup=False,
    )
    before = bool(store.found())

    def complete(missing: list[CompletionRequest], save: SaveCompletion) -> None:
        size = config.batch_size
        if subject.source:
            complete_with_model(
                subject.source, missing, save, settings, batch_size=size, dtype=str(subject.dtype)
            )
        else:
            complete_with_endpoint(
                str(config.base_url), str(config.model), missing, save, settings,
                batch_size=size, answered=before,
            )  # fmt: skip

    with _progress("answers", len(jobs)) as done:
        return store.answer(jobs, complete, done)


def _grade(
    config: EvalConfig,
    subject: Subject,
    guard: sandbox.ProbeResult,
    problems: list[Problem],
    rows: list[dict[str, Any]],
) -> dict[str, str]:
    """Give every row its `status`; gives the problems whose own reference fails, and why."""
    by_id = {problem.task_id: problem for problem in problems}
    asked = [by_id[row["task_id"]] for row in rows]
    exact = config.samples is not None or subject.prompt_format == "completion"
    programs = [
        _program(problem, row, exact=exact) for problem, row in zip(asked, rows, strict=True)
    ]
    with (
        _progress("graded", len(rows)) as done,
        sandbox.WorkerPool(guard.backend, packages=True) as pool,
    ):
        grader = grading.Grader(pool, timeout=config.timeout)
        grades = grader.grade(asked, programs, done=done)
        references = grader.failing_references(asked, grades)
    for row, grade in zip(rows, grades, strict=True):
        row["status"] = grade.status
        if grade.in_process:
            row["shared_process"] = True
        if grade.refused:
            row |= {"refused": grade.refused, "detail": grade.detail}
    return references


def _program(problem: Problem, row: dict[str, Any], *, exact: bool) -> str:
    """The program of an answer.

    Args:
        exact: as human-eval has it (https://github.com/openai/human-eval): the prompt and the
            completion, whatever is in it. Else it is found in the answer to an instruction.
    """
    if "solution" in row:
        return row["solution"]
    if exact:
        return problem.prompt + row["completion"]
    try:
        return extract_program(problem, row["completion"])
    except Exception as error:  # one odd answer must not end the run: it is judged as it is
        row["extraction_error"] = f"{type(error).__name__}: {error_message(error)}"
        return row["completion"]


def _results(
    config: EvalConfig,
    subject: Subject,
    guard: sandbox.ProbeResult,
    problems: list[Problem],
    rows: list[dict[str, Any]],
    references: dict[str, str],
) -> dict[str, Any]:
    tried = Counter(row["task_id"] for row in rows)
    passed = Counter(row["task_id"] for row in rows if row["status"] == "passed")
    counts = [(tried[p.task_id], passed[p.task_id]) for p in problems]
    return {
        "benchmark": config.benchmark,
        "source": describe_benchmark(config.benchmark),
        "problems": len(problems),
        "task_ids": [problem.task_id for problem in problems],
        "samples": len(rows),
        "problems_without_samples": sum(not n for n, _ in counts),
        **results.scores(counts, config.k),
        **score_uncontaminated(
            config.benchmark, problems, counts, config.k, subject.training, config.training_data
        ),
        "statuses": dict(Counter(row["status"] for row in rows).most_common()),
        "answers": results.count_answers(rows),
        "failing_references": references,
        "sandbox": {
            "backend": guard.backend,
            "canary_escaped": list(guard.escaped),
        },
        "judges": results.count_judges(rows),
        "model": _model(config, subject),
        "prompt_format": subject.prompt_format,
        "sampling": _sampling(subject),
        "config": json.loads(config.model_dump_json()),
        "versions": {"code-alpaca": __version__, "transformers": version("transformers")},
    }


def _model(config: EvalConfig, subject: Subject) -> dict[str, Any]:
    """Which model was measured: of the Hub its commit, of a folder the hashes of its files."""
    return {
        "name": config.model,
        "revision": subject.files.get("commit"),
        "sha256": subject.files.get("weights"),
        "files": subject.files,
        "dtype": subject.dtype,
        "base_url": config.base_url,
        "dataset": subject.training.get("dataset"),
    }


def _sampling(subject: Subject) -> dict[str, Any] | None:
    """How tokens were chosen. Of an endpoint: what it was sent; the rest is the server's."""
    if subject.settings is None:
        return None
    settings = subject.settings
    sampling = {
        "do_sample": settings.temperature > 0,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_new_tokens": settings.max_new_tokens,
        "seed": settings.seed,
    }
    if subject.source is None:
        del sampling["do_sample"], sampling["seed"]
        return {**sampling, "others": "defaults of the server"}
    return {**sampling, "top_k": None, "repetition_penalty": None, "num_beams": 1}


def _print_probes(probes: list[sandbox.ProbeResult]) -> None:
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


def _mark(found: sandbox.ProbeResult, escape: str) -> str:
    return "-" if found.problem else "out" if escape in found.escaped else "held"


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal; elsewhere a line, every ten seconds at most."""
    console = Console(highlight=False, soft_wrap=True)
    printed_at = time.monotonic()
    with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(what, total=total)

        def done(count: int) -> None:
            nonlocal printed_at
            progress.update(bar, completed=count)
            if not console.is_terminal and time.monotonic() - printed_at >= EVERY_S:
                printed_at = time.monotonic()
                console.print(f"eval      {what}: {count} of {total}")

        yield done
