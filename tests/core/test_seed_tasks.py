"""The built-in seed tasks are diverse and correct: outputs that can be run are run."""

from __future__ import annotations

import itertools
import sqlite3
import subprocess
from collections import Counter

import pytest
from rouge_score import rouge_scorer
from support.needs import need_program

from code_alpaca.core.schema import Example, SeedTask, load_seed_tasks
from code_alpaca.curation.filters import load_filters

TASKS = load_seed_tasks()
TYPES = {
    "generation", "completion", "editing", "debugging", "optimization", "translation",
    "explanation", "classification", "sql", "shell", "regex", "testing", "data_structures",
}  # fmt: skip
PYTHON = [task for task in TASKS if task.tests]


def in_language(name: str) -> list[SeedTask]:
    return [task for task in TASKS if task.language == name]


def test_the_seed_tasks_cover_types_languages_and_inputs():
    assert len(TASKS) >= 60
    types = Counter(task.task_type for task in TASKS)
    assert set(types) == TYPES and min(types.values()) >= 3
    assert len({task.language for task in TASKS}) >= 12
    assert 0.35 <= sum(bool(task.input) for task in TASKS) / len(TASKS) <= 0.5


@pytest.mark.parametrize("task", PYTHON, ids=lambda task: task.id)
def test_python_outputs_pass_their_tests(task, pool):
    result = pool.run_program(f"{task.output}\n\n{task.tests}\n")
    assert result.status == "passed", result.stderr


def test_every_runnable_python_output_has_tests():
    without = {task.id for task in TASKS if task.language == "python" and not task.tests}
    prose_or_script = {
        task.id for task in TASKS if task.task_type in ("explanation", "classification", "editing")
    }
    assert without <= prose_or_script


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.id)
def test_the_default_filters_accept_every_seed_task(task):
    example = Example(task.instruction, task.input, task.output)
    assert [f.name for f in load_filters(["default"]) if f.find_reason(example)] == []
    assert "```" not in task.output


def test_no_two_seed_tasks_are_near_duplicates():
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    for a, b in itertools.combinations(TASKS, 2):
        assert scorer.score(a.instruction, b.instruction)["rougeL"].fmeasure <= 0.7, (a.id, b.id)


def test_sql_outputs_run_on_their_schema():
    tasks = [task for task in in_language("sql") if task.input.startswith("CREATE")]
    assert len(tasks) >= 3
    for task in tasks:
        with sqlite3.connect(":memory:") as database:
            database.executescript(task.input)
            database.execute(task.output)


def test_javascript_outputs_parse(tmp_path):
    need_program("node", "nodejs")
    tasks = [t for t in in_language("javascript") if t.output.startswith(("function", "const"))]
    assert tasks
    for task in tasks:
        path = tmp_path / f"{task.id}.mjs"
        path.write_text(task.output.replace('require("node:assert")', "null"))
        done = subprocess.run(["node", "--check", path], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_shell_outputs_parse():
    need_program("bash", "bash")
    tasks = [task for task in in_language("bash") if task.task_type == "shell"]
    assert tasks
    for task in tasks:
        subprocess.run(["bash", "-n", "-c", task.output], check=True)


def test_c_outputs_compile(tmp_path):
    need_program("gcc", "gcc libc6-dev")
    tasks = [task for task in in_language("c") if "{" in task.output]
    assert tasks
    for task in tasks:
        path = tmp_path / f"{task.id}.c"
        path.write_text("#include <stddef.h>\n" + task.output)
        subprocess.run(["gcc", "-Wall", "-Werror", "-c", path, "-o", f"{path}.o"], check=True)
