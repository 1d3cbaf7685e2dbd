"""How long does it take to judge reference solutions, ten of each?

    python benchmarks/evaluation_speed.py                         # our own mini benchmark
    python benchmarks/evaluation_speed.py HumanEval.jsonl.gz      # 164 problems
    ... --code_eval FOLDER      the metric of `evaluate`, loaded from a local folder
    ... --evalplus PYTHON       EvalPlus, by an interpreter that has it

All on as many workers as there are cores, every verdict must be "passed". EvalPlus compares
inputs and outputs instead of running tests: it gets the calls that the tests make.
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
    began = time.monotonic()
    with ProcessPoolExecutor(workers) as pool:
        ends = [pool.submit(untrusted_check, "humaneval", *case, fast_check=True) for case in cases]
        passed = sum(end.result()[0] == "pass" for end in ends)
    assert passed > 0.95 * len(cases), passed  # its own rules for floats and some problems differ
    print(time.monotonic() - began)
"""


def ours(backend: sandbox.Backend) -> Callable[[list[Problem], list[str]], float]:
    def run(problems: list[Problem], programs: list[str]) -> float:
        began = time.monotonic()
        with sandbox.WorkerPool(backend, packages=True) as pool:
            grades = Grader(pool, timeout=10).grade(problems, programs)
        assert all(grade.status == "passed" for grade in grades)
        return time.monotonic() - began

    return run


def code_eval(folder: str) -> Callable[[list[Problem], list[str]], float]:
    import evaluate

    os.environ["HF_ALLOW_CODE_EVAL"] = "1"
    metric = evaluate.load(folder)

    def run(problems: list[Problem], programs: list[str]) -> float:
        tests = [f"{problem.test}\ncheck({problem.entry_point})" for problem in problems]
        began = time.monotonic()
        _, results = metric.compute(
            predictions=[[program] for program in programs],
            references=tests, k=[1], num_workers=CORES, timeout=10.0,
        )  # fmt: skip
        assert all(result["passed"] for group in results.values() for _, result in group)
        return time.monotonic() - began

    return run


def evalplus(python: str) -> Callable[[list[Problem], list[str]], float]:
    calls: dict[str, tuple[list[Any], list[Any]]] = {}

    def run(problems: list[Problem], programs: list[str]) -> float:
        cases = []
        for problem, program in zip(problems, programs, strict=True):
            if problem.task_id not in calls:
                calls[problem.task_id] = _calls(problem)
            inputs, outputs = calls[problem.task_id]
            times = [0.1] * len(inputs)
            cases.append((program, inputs, problem.entry_point, outputs, 1e-6, times))
        with tempfile.NamedTemporaryFile(suffix=".pickle") as file:
            pickle.dump(cases, file)
            file.flush()
            words = [python, "-c", EVALPLUS, file.name, str(CORES)]
            return float(subprocess.run(words, capture_output=True, check=True, text=True).stdout)

    return run


def _calls(problem: Problem) -> tuple[list[Any], list[Any]]:
    """The inputs that a problem's tests use, and what its reference answers."""
    names: dict[str, Any] = {}
    source = f"{problem.prompt}{problem.canonical_solution}\n{problem.test}"
    exec(compile(source, problem.task_id, "exec"), names)
    inputs, outputs = [], []
    solve = names[problem.entry_point]

    def watched(*args: Any) -> Any:
        inputs.append(pickle.loads(pickle.dumps(args)))
        outputs.append(solve(*args))
        return outputs[-1]

    names["check"](watched)
    return inputs, outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("benchmark", nargs="?", default="mini", help="a name or a file")
    parser.add_argument("--code_eval", metavar="FOLDER", help="evaluate's metric on disk")
    parser.add_argument("--evalplus", metavar="PYTHON", help="an interpreter that has EvalPlus")
    args = parser.parse_args()
    problems = [p for p in load_problems(args.benchmark) for _ in range(SAMPLES)]
    programs = [problem.prompt + problem.canonical_solution for problem in problems]
    runs = {b: ours(b) for b in sandbox.SAFE if sandbox.probe_backend(b).safe}
    if args.evalplus:
        runs["evalplus"] = evalplus(args.evalplus)
    if args.code_eval:
        runs["code_eval"] = code_eval(args.code_eval)
    print(f"{len(problems)} programs, {CORES} cores")
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(REPEATS):
        for name, run in runs.items():
            took[name].append(run(problems, programs))
    fastest = min(statistics.median(took[name]) for name in took)
    for name, seconds in took.items():
        median = statistics.median(seconds)
        each = median / len(problems) * 1e3
        print(f"{name:<10} {median:6.2f} s  {each:6.2f} ms a program  {median / fastest:.2f} x")


if __name__ == "__main__":
    main()
