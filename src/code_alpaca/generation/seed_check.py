"""Run the seed tasks' own tests before money is spent: every prompt shows seeds as examples."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.pipeline import Curator


def check_seeds(seed_tasks: Sequence[SeedTask], curator: Curator, *, refuse: bool) -> None:
    """Run each seed task that has tests, and name those that fail.

    A test that needs what no sandbox has (a module, a file, a network) proves nothing and passes.

    Args:
        refuse: stop here; a run that already holds replies only prints a warning, because its
            seed tasks cannot be changed any more.

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
    only_slow = all(name.endswith("(timeout)") for name in failed)  # a busy machine, perhaps
    if refuse and not only_slow:
        raise InputError(f"{message}, or set verify: false")
    print(f"warning   {message} in the next run")


def _as_decision(task: SeedTask) -> Decision:
    example = Example(
        task.instruction, task.input, task.output, language=task.language, tests=task.tests
    )
    return Decision(example, "")
