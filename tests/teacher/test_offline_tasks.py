"""The embedded teacher's tasks are deterministic and correct, and faulty only when configured."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys

import pytest
from support.needs import need_program

from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.generation.request_plan import RequestPlan
from code_alpaca.problems import load_problems
from code_alpaca.sandbox import ResourceLimits
from code_alpaca.teacher.offline.faults import REFUSAL
from code_alpaca.teacher.offline.grammar import HELD_OUT
from code_alpaca.teacher.offline.replies import write_chat_reply
from code_alpaca.teacher.offline.server import TeacherConfig
from code_alpaca.teacher.offline.tasks import compose_task

TASKS = [compose_task(random.Random(f"test/{number}")) for number in range(1500)]


def build_body(number=0, count=5):
    """A request of `generate` for `count` tasks."""
    config = GenerateConfig(
        run_dir="unused", tasks_per_request=count, seeds_per_request=3, pool_per_request=0
    )
    return RequestPlan.from_config(config).build_request(number, [], {}).payload


def write_reply(config, number=0, count=5):
    body = build_body(number, count)
    return write_chat_reply(body, body["messages"][0]["content"], config)


def write_tasks(config, number=0, count=5):
    return json.loads(write_reply(config, number, count)[0])["tasks"]


# -- tasks ---------------------------------------------------------------------------------------


def test_a_reply_is_a_function_of_request_and_seed():
    config = TeacherConfig()
    assert write_reply(config) == write_reply(config)
    assert (
        write_reply(config) != write_reply(TeacherConfig(seed=1)) != write_reply(config, number=1)
    )
    assert len(write_tasks(config, count=7)) == 7


def test_tasks_are_the_same_in_another_process():
    code = (
        "import random; from code_alpaca.teacher.offline.tasks import compose_task;"
        "print([compose_task(random.Random(f'test/{n}')) for n in range(300)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONHASHSEED": "7"})  # fmt: skip
    assert done.stdout.strip() == str(TASKS[:300])


def test_every_python_output_passes_its_tests(pool):
    tested = [task for task in TASKS if task.tests]
    assert len(tested) > 700
    program = "\n".join(
        f"exec(compile({task.output + chr(10) + task.tests!r}, 'task', 'exec'), {{}})"
        for task in tested
    )
    result = pool.run_program(program, ResourceLimits(wall_s=60))
    assert result.status == "passed", result.stderr


def test_tasks_are_diverse():
    assert 0.25 < sum(bool(task.input) for task in TASKS) / len(TASKS) < 0.5
    assert len({task.language for task in TASKS}) >= 12
    assert len({task.task_type for task in TASKS}) >= 12


def test_most_tasks_are_not_near_duplicates():
    rows = [
        Example(task.instruction, task.input, task.output, id=str(n), language=task.language)
        for n, task in enumerate(TASKS)
    ]
    for measure in ("rouge_l", "code_aware"):
        assert sum(verdict.is_novel for verdict in NoveltyPool(measure).check(rows)) > 800


def test_javascript_outputs_run():
    need_program("node", "nodejs")
    outputs = [
        task.output
        for task in TASKS
        if task.language == "javascript"
        and task.output.startswith("function ")
        and "(values)" in task.output
    ]
    assert len(outputs) > 5
    calls = "\n".join(f"({code})([3, -4, 0, 12]);" for code in outputs)
    done = subprocess.run(["node", "-e", calls], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_c_outputs_compile(tmp_path):
    need_program("gcc", "gcc libc6-dev")
    outputs = {t.output for t in TASKS if t.language == "c" and t.output.startswith("long ")}
    assert outputs
    for number, code in enumerate(sorted(outputs)[:10]):
        source = tmp_path / f"{number}.c"
        source.write_text(code)
        subprocess.run(["gcc", "-Wall", "-Werror", "-c", source, "-o", f"{source}.o"], check=True)


def test_the_mini_benchmark_is_correct_and_held_out(pool):
    problems = load_problems("mini")
    assert len(problems) == 20
    assert {problem.entry_point for problem in problems} == HELD_OUT
    for problem in problems:
        tests = f"\n{problem.test}\ncheck({problem.entry_point})\n"
        correct = problem.prompt + problem.canonical_solution
        assert pool.run_program(correct + tests).status == "passed"
        wrong = problem.prompt + problem.canonical_solution.replace("return ", "return None and ")
        assert pool.run_program(wrong + tests).status == "failed"
    composed = "\n".join(task.output + task.input for task in TASKS)
    for problem in problems:
        assert f"{problem.entry_point}(" not in composed


# -- faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "has_fault"),
    [
        ("refusal", lambda task: task["output"] == REFUSAL),
        ("empty_output", lambda task: task["output"] == ""),
        ("near_duplicate", lambda task: task["instruction"].startswith("Please ")),
        ("benchmark_copy", lambda task: any(name in task["output"] for name in HELD_OUT)),
    ],
)
def test_faulty_tasks(fault, has_fault):
    assert all(map(has_fault, write_tasks(TeacherConfig(**{fault: 1.0}))))
    assert not any(map(has_fault, write_tasks(TeacherConfig())))


def test_wrong_answers_fail_their_tests(pool):
    config = TeacherConfig(wrong_answer=1.0)
    wrong = [task for number in range(4) for task in write_tasks(config, number) if task["tests"]]
    assert wrong
    for task in wrong:
        assert pool.run_program(task["output"] + "\n" + task["tests"]).status != "passed"


def test_a_truncated_reply():
    text, truncated = write_reply(TeacherConfig(truncated=1.0))
    assert truncated and len(text) < len(write_reply(TeacherConfig())[0])


def test_a_malformed_reply():
    text, truncated = write_reply(TeacherConfig(malformed=1.0))
    assert not truncated
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)


def test_the_token_limit_truncates_a_reply():
    body = {**build_body(), "max_completion_tokens": 20}
    text, truncated = write_chat_reply(body, body["messages"][0]["content"], TeacherConfig())
    assert truncated and len(text.encode()) == 80
