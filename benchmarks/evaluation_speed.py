"""Measure the speed of grading, compared with `evaluate`'s code_eval and with EvalPlus.

    python benchmarks/evaluation_speed.py                         # the mini benchmark
    python benchmarks/evaluation_speed.py HumanEval.jsonl.gz      # 164 problems
    ... --code_eval FOLDER      the metric of `evaluate`, loaded from a local folder
    ... --evalplus PYTHON       EvalPlus, run by an interpreter that has it

Grades ten copies of each reference solution with one worker per core; every verdict must be
"passed". EvalPlus compares outputs instead of running tests, so it gets the calls that the tests
make.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

from code_alpaca import sandbox
from code_alpaca.evaluation.grading import Grader
from code_alpaca.problems import Problem, load_problems

SAMPLES, REPEATS = 10, 3
CORES = len(os.sched_getaffinity(0))
EVALPLUS = """
import pickle, sys, time
from concurrent.futures import ProcessPoolExecutor
from evalplus.eval import untrusted_check
cases, workers = pickle.load(open(sys.argv[1], "rb")), int(sys.argv[2])
if __name__ == "__main__":
    started = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        futures = [
            pool.submit(untrusted_check, "humaneval", *case, fast_check=True) for case in cases
        ]
        passed = sum(future.result()[0] == "pass" for future in futures)
    assert passed > 0.95 * len(cases), passed  # floats are compared differently
    print(time.monotonic() - started)
"""


# Grades programs for problems and returns the seconds.
TimeGrading = Callable[[list[Problem], list[str]], float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="?", default="mini", help="a name or a file")
    parser.add_argument("--code_eval", metavar="FOLDER", help="evaluate's metric on disk")
    parser.add_argument("--evalplus", metavar="PYTHON", help="an interpreter that has EvalPlus")
    args = parser.parse_args()
    problems = [p for p in load_problems(args.benchmark) for _ in range(SAMPLES)]
    programs = [problem.prompt + problem.canonical_solution for problem in problems]
    graders = {b: code_alpaca_grader(b) for b in sandbox.SAFE if sandbox.probe_backend(b).safe}
    if args.evalplus:
        graders["evalplus"] = evalplus_grader(args.evalplus)
    if args.code_eval:
        graders["code_eval"] = code_eval_grader(args.code_eval)
    print(f"{len(problems)} programs, {CORES} cores")
    timings: dict[str, list[float]] = {name: [] for name in graders}
    for _ in range(REPEATS):
        for name, time_grading in graders.items():
            timings[name].append(time_grading(problems, programs))
    medians = {name: statistics.median(seconds) for name, seconds in timings.items()}
    fastest = min(medians.values())
    for name, seconds in medians.items():
        per_program = seconds / len(problems) * 1e3
        print(
            f"{name:<10} {seconds:6.2f} s  {per_program:6.2f} ms a program  "
            f"{seconds / fastest:.2f} x"
        )


def code_alpaca_grader(backend: sandbox.Backend) -> TimeGrading:
    def time_grading(problems: list[Problem], programs: list[str]) -> float:
        started = time.monotonic()
        with sandbox.WorkerPool(backend, packages=True) as pool:
            grades = Grader(pool, timeout=10).grade(problems, programs)
        assert all(grade.status == "passed" for grade in grades)
        return time.monotonic() - started

    return time_grading


def code_eval_grader(folder: str) -> TimeGrading:
    import evaluate

    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    metric = evaluate.load(folder)

    def time_grading(problems: list[Problem], programs: list[str]) -> float:
        tests = [f"{problem.test}\ncheck({problem.entry_point})" for problem in problems]
        started = time.monotonic()
        _, results = metric.compute(
            predictions=[[program] for program in programs],
            references=tests, k=[1], num_workers=CORES, timeout=10.0,
        )  # fmt: skip
        assert all(result["passed"] for group in results.values() for _, result in group)
        return time.monotonic() - started

    return time_grading


def evalplus_grader(python: str) -> TimeGrading:
    calls: dict[str, tuple[list[Any], list[Any]]] = {}

    def time_grading(problems: list[Problem], programs: list[str]) -> float:
        cases = []
        for problem, program in zip(problems, programs, strict=True):
            if problem.task_id not in calls:
                calls[problem.task_id] = record_calls(problem)
            inputs, outputs = calls[problem.task_id]
            times = [0.1] * len(inputs)
            cases.append((program, inputs, problem.entry_point, outputs, 1e-6, times))
        with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
            pickle.dump(cases, file)
            file.flush()
            command = [python, "-c", EVALPLUS, file.name, str(CORES)]
            return float(subprocess.run(command, capture_output=True, check=True, text=True).stdout)

    return time_grading


def record_calls(problem: Problem) -> tuple[list[Any], list[Any]]:
    """Return the inputs that a problem's tests use, and the outputs of its reference solution."""
    namespace: dict[str, Any] = {}
    source = f"{problem.prompt}{problem.canonical_solution}\n{problem.test}"
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
    main()
