"""Measure pass@k of a model, an endpoint or a file of samples on a benchmark.

Completions are appended to `samples.jsonl` as they arrive; rerun the same command to resume.
Programs run in sandboxed processes, never in the process of the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from code_alpaca import sandbox
from code_alpaca.core import fs
from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.records import EvalResults, RecordFormatError
from code_alpaca.evaluation import grading, reporting
from code_alpaca.evaluation.compare import compare_runs, read_run
from code_alpaca.evaluation.completions import CompletionRequest
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.extract import extract_program
from code_alpaca.evaluation.identity import identify_run
from code_alpaca.evaluation.results import EvalContext, build_results
from code_alpaca.evaluation.samples import SampleStore, read_samples, reference_samples
from code_alpaca.evaluation.target import find_prompt_mismatch, make_backend, resolve_target
from code_alpaca.problems import Problem, describe_benchmark, load_problems

__all__ = ["EvalConfig", "evaluate"]


def evaluate(config: EvalConfig) -> EvalResults | None:
    """Complete and grade a benchmark; write results.json, results.md and samples.jsonl.

    Returns:
        None if nothing was graded: for `probe`, `compare` alone, and in every process of
        `accelerate launch` but the first.

    Raises:
        InputError: a bad benchmark, samples file or model.
        Stopped: the endpoint failed half-way; the same command resumes.
    """
    if config.probe:
        reporting.print_probes(sandbox.probe_backends(cached=False))
        return None
    if not (config.model or config.samples):
        _compare(config)
        return None
    if config.compare:
        read_run(config.compare)  # refuse a wrong folder now, not after hours of evaluation
    target = resolve_target(config)
    probe = sandbox.choose_backend(config.sandbox, allow_unsafe=config.allow_unsafe)
    benchmark = load_problems(config.benchmark)
    source = describe_benchmark(config.benchmark)
    problems = _select_problems(config, benchmark)
    context = EvalContext(config, target, probe, problems, source)
    grading.check_languages(problems, probe.backend)

    _refuse_results_of_another_benchmark(context)
    samples = _load_samples(context, benchmark) if config.samples else None
    config.output_dir.mkdir(parents=True, exist_ok=True)
    store = SampleStore(config.output_dir, identify_run(target, config, benchmark, source))
    rows = _complete(context, store) if samples is None else samples
    if rows is None:
        return None

    failing_references = _grade(context, rows)
    results = build_results(context, rows, failing_references)
    store.write(rows)
    path = config.output_dir / EvalResults.FILE
    results.save(path)
    fs.write_text(config.output_dir / "results.md", reporting.render_markdown(results))
    reporting.print_report(results, path)
    if config.compare:
        _compare(config)
    return results


def _compare(config: EvalConfig) -> None:
    """Compare the results in the output folder with another run's."""
    other = Path(str(config.compare))
    comparison = compare_runs(config.output_dir, other)
    fs.write_json(config.output_dir / "comparison.json", comparison.as_dict())
    reporting.print_comparison(comparison, other)


def _select_problems(config: EvalConfig, benchmark: Sequence[Problem]) -> Sequence[Problem]:
    """Return the problems to grade: the first `limit`; of references those that have one."""
    problems = benchmark[: config.limit]
    if config.samples != "reference":
        return problems
    with_reference = [problem for problem in problems if problem.canonical_solution.strip()]
    if not with_reference:
        raise InputError(
            f"no problem to grade of benchmark {config.benchmark} has a reference solution "
            "(canonical_solution); set samples to a file, or set a model"
        )
    if without := len(problems) - len(with_reference):
        counted = plural(without, "problem has", "problems have")
        reporting.out.print(f"{counted} no reference solution; left out of the score")
    return with_reference


def _refuse_results_of_another_benchmark(context: EvalContext) -> None:
    """Refuse to replace results of another benchmark; those of an edited file are replaced.

    Nothing is lost then: completions are kept or refused by `SampleStore`, and samples of a file
    are only graded again.
    """
    config = context.config
    path = config.output_dir / EvalResults.FILE
    if not path.exists():
        return
    try:
        results = EvalResults.load(path)
    except RecordFormatError:
        return
    if results.benchmark != config.benchmark:
        raise InputError(
            f"{config.output_dir} contains results of benchmark {results.benchmark!r}, not "
            f"{config.benchmark!r}; set another output_dir"
        )
    previous = results.source.sha256 if results.source else None
    if previous and previous != context.source.get("sha256"):
        reporting.out.print(f"{config.benchmark} changed since {path} was written")


def _load_samples(context: EvalContext, benchmark: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return the samples that the config names, of the first `limit` problems."""
    config = context.config
    if config.samples == "reference":
        return reference_samples(context.problems)
    task_ids = {problem.task_id for problem in context.problems}
    rows = read_samples(Path(str(config.samples)), benchmark, config.benchmark)
    rows = [row for row in rows if row["task_id"] in task_ids]
    if not rows:
        raise InputError(
            f"samples {config.samples} contains no sample of the first "
            f"{plural(len(context.problems), 'problem')}"
        )
    return rows


def _complete(context: EvalContext, store: SampleStore) -> list[dict[str, Any]] | None:
    """Complete what the output folder lacks; None in every process but the first."""
    config = context.config
    if warning := find_prompt_mismatch(context.target):
        reporting.out.warning(warning)
    samples = range(config.num_samples)
    requests = [CompletionRequest(p, sample) for p in context.problems for sample in samples]
    reporting.out.print(
        f"{plural(len(requests), 'completion')} of {config.model}, at most "
        f"{plural(config.max_new_tokens, 'token')} each"
    )
    target = context.target
    reporting.out.print(f"prompt format: {target.prompt_format} ({target.format_reason})")
    backend = make_backend(context.target, config, has_responded=bool(store.load()))
    with reporting.out.progress(len(requests), "completions") as on_progress:
        return store.complete(requests, backend, on_progress)


def _grade(context: EvalContext, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Add `status` to every row; return the problems whose own reference fails, with the reason."""
    by_task_id = {problem.task_id: problem for problem in context.problems}
    problems = [by_task_id[row["task_id"]] for row in rows]
    # human-eval grades prompt + completion unchanged (https://github.com/openai/human-eval).
    continues = context.config.samples is not None or context.target.prompt_format == "completion"
    pairs = zip(problems, rows, strict=True)
    programs = [_build_program(problem, row, continues_prompt=continues) for problem, row in pairs]
    with (
        reporting.out.progress(len(rows), "graded") as on_progress,
        sandbox.WorkerPool(context.sandbox.backend, packages=True) as pool,
    ):
        grader = grading.Grader(pool, timeout=context.config.timeout)
        grades = grader.grade(problems, programs, on_progress)
        failing_references = grader.failing_references(problems, grades)
    for row, grade in zip(rows, grades, strict=True):
        row["status"] = grade.status
        if grade.in_process:
            row["shared_process"] = True
        if grade.refused:
            row |= {"refused": grade.refused, "detail": grade.detail}
    return failing_references


def _build_program(problem: Problem, row: dict[str, Any], *, continues_prompt: bool) -> str:
    """Return the program of a sample: a completion of the prompt, or a response to extract from."""
    if "solution" in row:
        return row["solution"]
    if continues_prompt:
        return problem.prompt + row["completion"]
    try:
        return extract_program(problem, row["completion"])
    except Exception as error:  # one response must not end the run: its text is graded
        row["extraction_error"] = f"{type(error).__name__}: {error_message(error)}"
        return row["completion"]
