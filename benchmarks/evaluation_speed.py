"""Measure the speed of grading, compared with EvalPlus and with a plain process per program.

One, two and five copies of every reference solution are graded with one worker per core; every
verdict must be "passed". EvalPlus compares outputs instead of running tests, so it gets the calls
that the tests make. It judges each program once, in the candidate's process; code-alpaca judges
Python programs twice, with the tests in a process that the candidate cannot reach.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from common import Bench, Values, run
from environments import run_peer

from code_alpaca import sandbox
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem, load_problems

CORES = len(os.sched_getaffinity(0))


def measure(bench: Bench) -> None:
    benchmark = bench.find_file("HumanEval.jsonl.gz") or "mini"
    problems = list(load_problems(str(benchmark)))[: bench.choose(None, 3)]
    bench.facts = {"benchmark": "HumanEval" if benchmark != "mini" else "mini", "cores": CORES}
    backends = [backend for backend in sandbox.SAFE if sandbox.probe_backend(backend).safe]
    cases = record_cases(problems)
    for copies in bench.choose((1, 2, 5), (1,)):
        repeated = [problem for problem in problems for _ in range(copies)]
        contestants: dict[str, Callable[[], Values]] = {
            f"code-alpaca, {backend}": partial(time_grading, backend, repeated)
            for backend in backends
        }
        repeated_cases = [case for case in cases for _ in range(copies)]
        contestants["EvalPlus"] = partial(time_evalplus, bench, repeated_cases)
        contestants["a process per program, no sandbox"] = partial(time_processes, repeated)
        bench.compare(contestants, repeats=bench.choose(3, 1), size=len(repeated))


def program_of(problem: Problem) -> str:
    return problem.prompt + problem.canonical_solution


def time_grading(backend: sandbox.Backend, problems: list[Problem]) -> Values:
    started = time.monotonic()
    with sandbox.WorkerPool(backend, packages=True) as pool:
        grades = Grader(pool, timeout=10).grade(problems, list(map(program_of, problems)))
    seconds = time.monotonic() - started
    assert all(grade.status == "passed" for grade in grades)
    return {"seconds": seconds}


def time_processes(problems: list[Problem]) -> Values:
    """Run every program with its tests in a new interpreter, as if it could be trusted."""

    def passes(problem: Problem) -> bool:
        text = f"{program_of(problem)}\n{problem.test}\ncheck({problem.entry_point})\n"
        done = subprocess.run([sys.executable, "-"], input=text, text=True, capture_output=True)
        return done.returncode == 0

    started = time.monotonic()
    with ThreadPoolExecutor(CORES) as threads:
        assert all(threads.map(passes, problems))
    return {"seconds": time.monotonic() - started}


def time_evalplus(bench: Bench, cases: list[tuple[Any, ...]]) -> Values:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "cases.pickle")
        path.write_bytes(pickle.dumps(cases))
        reply = run_peer(bench, "evalplus", {"cases": str(path), "workers": CORES})
    assert reply["passed"] > 0.95 * len(cases), reply  # floats are compared differently
    return {"seconds": reply["seconds"]}


def record_cases(problems: list[Problem]) -> list[tuple[Any, ...]]:
    """Return the arguments of EvalPlus' `untrusted_check`, without the dataset."""
    cases = []
    for problem in problems:
        inputs, outputs = record_calls(problem)
        times = [0.1] * len(inputs)
        cases.append((program_of(problem), inputs, problem.entry_point, outputs, 1e-6, times))
    return cases


def record_calls(problem: Problem) -> tuple[list[Any], list[Any]]:
    """Return the inputs that a problem's tests use, and the outputs of its reference solution."""
    namespace: dict[str, Any] = {}
    source = f"{program_of(problem)}\n{problem.test}"
    exec(compile(source, problem.task_id, "exec"), namespace)
    inputs, outputs = [], []
    solve = namespace[problem.entry_point]

    def record(*args: Any) -> Any:
        inputs.append(pickle.loads(pickle.dumps(args)))
        outputs.append(solve(*args))
        return outputs[-1]

    namespace["check"](record)
    return inputs, outputs


if __name__ == "__main__":
    run(measure)
