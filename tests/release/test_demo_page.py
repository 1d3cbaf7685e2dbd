"""The served page of the demo: it streams, stops, refuses, and keeps visitors in line."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import httpx
import pytest
from gradio_client import Client
from gradio_client.exceptions import ValidationError
from gradio_client.utils import QueueError
from support.demo import LONG, TASK, ObservedStream, respond, serve, wait_for, with_settings


@pytest.fixture(scope="module")
def client(served):
    return Client(served, verbose=False)


def test_a_response_is_streamed(client):
    job = client.submit(TASK, "", 0, 300, api_name="/generate")
    text, markdown, status = job.result()
    lengths = [len(output[0]) for output in job.outputs()]
    assert len(set(lengths)) >= 3 and lengths == sorted(lengths)
    assert status.startswith("300 tokens in ") and "limit of 300" in status
    assert markdown.startswith("```python\n") and text.strip("\r\n") in markdown


def test_stop_ends_the_generation(served, streams):
    job = Client(served, verbose=False).submit(TASK, "", 0, LONG, api_name="/generate")
    assert len(list(islice(job, 2))) == 2
    job.cancel()
    wait_for(streams)
    assert len(streams) == 1 and len(streams[0].ids) < LONG


def test_a_visitor_who_leaves_ends_the_generation(served, streams):
    code = (
        "import sys; from gradio_client import Client;"
        "job = Client(sys.argv[1], verbose=False).submit("
        "'Add', '', 0, int(sys.argv[2]), api_name='/generate');"
        "next(iter(job)); print('streaming', flush=True); job.result()"
    )
    visitor = subprocess.Popen(
        [sys.executable, "-c", code, served, str(LONG)], stdout=subprocess.PIPE, text=True
    )
    assert visitor.stdout.readline() == "streaming\n"
    visitor.kill()
    visitor.wait()
    visitor.stdout.close()
    wait_for(streams)
    assert len(streams) == 1 and len(streams[0].ids) < LONG


@pytest.mark.parametrize(
    ("request_fields", "message"),
    [
        (("", "", 0, 10), "instruction is empty"),
        ((" \n\t", "x = 1", 0, 10), "instruction is empty"),
        ((None, None, 0, 10), "instruction is empty"),
        (("a" * 100_000, "", 0, 10), "100,000 characters together; the limit is 8,000"),
        ((TASK, "b" * 100_000, 0, 10), "the limit is 8,000"),
        (("ж" * 5000, "", 0, 10), "reads at most 5,000, its response included"),
        ((TASK, "", 2.5, 10), "temperature must be"),
        ((TASK, "", "hot", 10), "temperature must be"),
        ((TASK, "", 0, LONG + 1), f"between 1 and {LONG}"),
        ((TASK, "", 0, None), "length must be"),
    ],
)
def test_an_invalid_request_is_refused(client, streams, request_fields, message):
    with pytest.raises(ValidationError, match=message):
        client.predict(*request_fields, api_name="/generate")
    assert not streams


@pytest.mark.parametrize(
    "instruction",
    ["a\0b", "\x01\x1b[31m\x7f\x85\u2028", "Напиши функцию", "关于排序",
     "اكتب دالة", "</s><s>", "<script>alert(1)</script>", "{instruction} {0} %s {{"],
)  # fmt: skip
def test_any_text_is_answered(client, instruction):
    _, _, status = client.predict(instruction, instruction, 0.7, 5, api_name="/generate")
    assert " tokens in " in status


def test_lone_surrogates_over_http_are_answered(served):
    body = '{"data": ["\\ud800 x", "\\udfff", 0, 3], "session_hash": "s1", "fn_index": %d}'
    config = httpx.get(f"{served}config").json()
    fn = next(item["id"] for item in config["dependencies"] if item["api_name"] == "generate")
    response = httpx.post(
        f"{served}gradio_api/queue/join",
        content=body % fn,
        headers={"content-type": "application/json"},
    )
    assert response.status_code == 200
    url = f"{served}gradio_api/queue/data?session_hash=s1"
    with httpx.stream("GET", url, timeout=30) as events:
        last = [line for line in events.iter_lines() if "process_completed" in line][-1]
    assert '"success":true' in last and " tokens in " in last


def test_twenty_visitors_at_once_are_answered_or_asked_to_try_later(
    demo_folder, demo_model, streams
):
    small = with_settings(demo_model, demo_folder, queue_size=6, concurrency=2)
    page = serve(small)

    def visit(number: int) -> str:
        try:
            visitor = Client(page.local_url, verbose=False)
            return visitor.predict(f"Task {number}", "", 0.5, 100, api_name="/generate")[2]
        except QueueError as error:
            return str(error)

    with ThreadPoolExecutor(20) as visitors:
        statuses = list(visitors.map(visit, range(20)))
    page.close(verbose=False)
    wait_for(streams)
    answered = sum(" tokens in " in status for status in statuses)
    busy = sum("full" in status for status in statuses)
    assert answered + busy == 20 and answered >= 8
    assert ObservedStream.max_active <= 2
    assert respond(small, TASK, "", 0, 5).ids, "all slots are free again"
