"""Run the seed tasks' own tests before money is spent: every prompt shows seed tasks."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.pipeline import Curator


def verify_seed_tasks(seed_tasks: Sequence[SeedTask], curator: Curator, *, refuse: bool) -> None:
    """Run each seed task that has tests, and name those that fail.

    A test that needs something no sandbox has (a module, a file, a network) counts as passed.

    Args:
        refuse: raise; a run that already contains replies only prints a warning, because its seed
            tasks can no longer be changed.

    Raises:
        InputError: a seed task fails its own tests, and `refuse` is set.
    """
    tested = [task for task in seed_tasks if task.tests.strip()]
    with ThreadPoolExecutor(curator.num_workers) as threads:
        verdicts = list(threads.map(lambda task: curator.verify(_as_decision(task)), tested))
    failed = [
        f"{task.id} ({verdict.reason.removeprefix('run_')})"
        for task, verdict in zip(tested, verdicts, strict=True)
        if verdict.reason.startswith("run_")
    ]
    if not failed:
        return
    message = (
        f"{len(failed)} seed tasks do not pass their own tests: {', '.join(failed)}; correct their "
        "output or tests"
    )
    only_timeouts = all(name.endswith("(timeout)") for name in failed)  # maybe a busy machine
    if refuse and not only_timeouts:
        raise InputError(f"{message}, or set verify: false")
    console.warning(f"{message} in the next run")


def _as_decision(task: SeedTask) -> Decision:
    example = Example(
        task.instruction, task.input, task.output, language=task.language, tests=task.tests
    )
    return Decision(example, "")
