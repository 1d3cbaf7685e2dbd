"""The embedded teacher: pure, correct, and bad exactly when told to be."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request

import openai
import pytest
from support.needs import need_program

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.generation.request_plan import RequestPlan
from code_alpaca.problems import load_problems
from code_alpaca.sandbox import ResourceLimits
from code_alpaca.teacher import offline
from code_alpaca.teacher.offline.faults import REFUSAL
from code_alpaca.teacher.offline.grammar import HELD_OUT
from code_alpaca.teacher.offline.replies import write_chat_reply
from code_alpaca.teacher.offline.server import TeacherConfig
from code_alpaca.teacher.offline.tasks import compose_task

TASKS = [compose_task(random.Random(f"test/{number}")) for number in range(1500)]


def question(number=0, count=5, api="chat"):
    config = GenerateConfig(
        run_dir="unused",
        teacher_api=api,
        tasks_per_request=count,
        seeds_per_request=3,
        pool_per_request=0,
    )
    return RequestPlan.from_config(config).build_request(number, [], {})


def body(number=0, count=5):
    return question(number, count).payload


def reply(config, number=0, count=5):
    asked = body(number, count)
    return write_chat_reply(asked, asked["messages"][0]["content"], config)


def tasks(config, number=0, count=5):
    return json.loads(reply(config, number, count)[0])["tasks"]


def test_a_reply_is_a_function_of_request_and_seed():
    assert reply(TeacherConfig()) == reply(TeacherConfig())
    assert (
        reply(TeacherConfig()) != reply(TeacherConfig(seed=1)) != reply(TeacherConfig(), number=1)
    )
    assert len(tasks(TeacherConfig(), count=7)) == 7


def test_the_reply_is_the_same_in_another_process():
    code = (
        "import random; from code_alpaca.teacher.offline.tasks import compose_task;"
        "print([compose_task(random.Random(f'test/{n}')) for n in range(300)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONHASHSEED": "7"})  # fmt: skip
    assert done.stdout.strip() == str(TASKS[:300])


def test_every_python_answer_passes_its_tests(pool):
    tested = [task for task in TASKS if task.tests]
    assert len(tested) > 700
    program = "\n".join(
        f"exec(compile({task.output + chr(10) + task.tests!r}, 'task', 'exec'), {{}})"
        for task in tested
    )
    result = pool.run_program(program, ResourceLimits(wall_s=60))
    assert result.status == "passed", result.stderr


def test_the_mix():
    assert 0.25 < sum(bool(task.input) for task in TASKS) / len(TASKS) < 0.5
    assert len({task.language for task in TASKS}) >= 12
    assert len({task.task_type for task in TASKS}) >= 12


def test_most_tasks_are_new_by_the_products_own_rule():
    tasks = [
        Example(task.instruction, task.input, task.output, id=str(n), language=task.language)
        for n, task in enumerate(TASKS)
    ]
    for measure in ("rouge_l", "code_aware"):
        assert sum(verdict.is_novel for verdict in NoveltyPool(measure).check(tasks)) > 800


def test_javascript_answers_run():
    need_program("node", "nodejs")
    answers = [
        task.output for task in TASKS if task.language == "javascript" and "(values)" in task.output
    ]
    answers = [code for code in answers if code.startswith("function ")]
    assert len(answers) > 5
    calls = "\n".join(f"({code})([3, -4, 0, 12]);" for code in answers)
    done = subprocess.run(["node", "-e", calls], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_c_answers_compile(tmp_path):
    need_program("gcc", "gcc libc6-dev")
    answers = {t.output for t in TASKS if t.language == "c" and t.output.startswith("long ")}
    assert answers
    for number, code in enumerate(sorted(answers)[:10]):
        source = tmp_path / f"{number}.c"
        source.write_text(code)
        subprocess.run(["gcc", "-Wall", "-Werror", "-c", source, "-o", f"{source}.o"], check=True)


def test_mini_benchmark_is_sound_and_held_out(pool):
    problems = load_problems("mini")
    assert len(problems) == 20
    assert {problem.entry_point for problem in problems} == HELD_OUT
    for problem in problems:
        tail = f"\n{problem.test}\ncheck({problem.entry_point})\n"
        good = problem.prompt + problem.canonical_solution
        assert pool.run_program(good + tail).status == "passed"
        bad = problem.prompt + problem.canonical_solution.replace("return ", "return None and ")
        assert pool.run_program(bad + tail).status == "failed"
    drawn = "\n".join(task.output + task.input for task in TASKS)
    for problem in problems:
        assert f"{problem.entry_point}(" not in drawn


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        ("refusal", lambda task: task["output"] == REFUSAL),
        ("empty_output", lambda task: task["output"] == ""),
        ("near_duplicate", lambda task: task["instruction"].startswith("Please ")),
        ("benchmark_copy", lambda task: any(name in task["output"] for name in HELD_OUT)),
    ],
)
def test_content_faults(fault, shows):
    assert all(shows(task) for task in tasks(TeacherConfig(**{fault: 1.0})))
    assert not any(shows(task) for task in tasks(TeacherConfig()))


def test_wrong_answers_fail_their_tests(pool):
    spoiled = [
        task
        for n in range(4)
        for task in tasks(TeacherConfig(wrong_answer=1.0), n)
        if task["tests"]
    ]
    assert spoiled
    for task in spoiled:
        assert pool.run_program(task["output"] + "\n" + task["tests"]).status != "passed"


def test_faults_of_the_whole_reply():
    text, cut = reply(TeacherConfig(truncated=1.0))
    assert cut and len(text) < len(reply(TeacherConfig())[0])
    text, cut = reply(TeacherConfig(malformed=1.0))
    assert not cut
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    asked = {**body(), "max_completion_tokens": 20}
    text, cut = write_chat_reply(asked, asked["messages"][0]["content"], TeacherConfig())
    assert cut and len(text.encode()) == 80


def test_the_openai_client_talks_to_it():
    async def talk(url):
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            models = await client.models.list()
            chat = await client.chat.completions.create(**body())
            plain = await client.completions.create(
                model="offline-teacher",
                prompt="Write 2 tasks\n###\n4. Instruction:",
                max_tokens=2000,
            )
            with pytest.raises(openai.NotFoundError):
                await client.chat.completions.create(model="x", messages=[])
            return models, chat, plain

    with offline.start_server() as url:
        models, chat, plain = asyncio.run(talk(url))
    assert models.data[0].id == "offline-teacher"
    assert chat.choices[0].finish_reason == "stop"
    assert chat.usage.completion_tokens == -(-len(chat.choices[0].message.content.encode()) // 4)
    assert "4. Output:" in plain.choices[0].text and "5. Instruction:" in plain.choices[0].text


@pytest.mark.parametrize(
    ("fault", "status"), [("rate_429", 429), ("rate_500", 500), ("rate_503", 503)]
)
def test_server_faults(fault, status):
    with (
        offline.start_server(f"offline?{fault}=1&retry_after=3") as url,
        pytest.raises(urllib.error.HTTPError) as caught,
    ):
        _post(url)
    assert caught.value.code == status
    assert caught.value.headers.get("Retry-After") == (None if status == 500 else "3")


def test_an_allowance_is_enforced_and_told():
    with offline.start_server("offline?rpm=180") as url:
        for _ in range(3):  # a second's worth may come at once
            _post(url)
        with pytest.raises(urllib.error.HTTPError) as caught:
            _post(url)
        assert caught.value.code == 429
        wait = float(caught.value.headers["Retry-After"])
        assert 0 < wait <= 1 / 3
        time.sleep(wait)
        _post(url)


def test_dropped_connections_and_hangs():
    with offline.start_server("offline?drop=1") as url, pytest.raises(OSError):
        _post(url)
    with offline.start_server("offline?hang=1") as url, pytest.raises(TimeoutError):
        _post(url, timeout=0.5)


def test_trying_again_can_help():
    with offline.start_server("offline?rate_500=0.5") as url:
        for _ in range(30):
            with contextlib.suppress(urllib.error.HTTPError):
                assert _post(url)["choices"]
                return
    raise AssertionError("never answered")


def test_unknown_option_is_named():
    with (
        pytest.raises(InputError, match="did you mean 'latency'"),
        offline.start_server("offline?latncy=1"),
    ):
        pass


def test_it_ends_with_a_parent_that_is_killed():
    code = (
        "import time; from code_alpaca.teacher import offline\n"
        "with offline.start_server() as url: print(url, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    url = parent.stdout.readline().strip()
    _post(url)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/models", timeout=1).close()
            time.sleep(0.1)
        except OSError:
            return
    raise AssertionError("the teacher outlived its parent")


def _post(url, timeout=10):
    data = json.dumps(body()).encode()
    request = urllib.request.Request(f"{url}/chat/completions", data)
    with urllib.request.urlopen(request, timeout=timeout) as reply:
        return json.load(reply)
