"""The embedded teacher's server speaks the OpenAI API and simulates server faults."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import aiohttp
import openai
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from support.simulated_teacher import build_prompt

from code_alpaca.core.errors import InputError
from code_alpaca.teacher import offline
from code_alpaca.teacher.offline.server import OfflineTeacher, TeacherConfig

BODY = {**build_prompt(1), "model": "offline-teacher"}


def talk_to(scenario, **options):
    """Run a scenario with an HTTP client of an embedded teacher in this process."""

    async def run():
        app = web.Application()
        app.router.add_routes(OfflineTeacher(TeacherConfig(**options)).list_routes())
        async with TestClient(TestServer(app)) as client:
            return await scenario(client)

    return asyncio.run(run())


async def post(client):
    return await client.post("/v1/chat/completions", json=BODY)


def test_the_openai_client_accepts_its_responses():
    async def use_openai(client):
        url = str(client.make_url("/v1"))
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as api:
            models = await api.models.list()
            chat = await api.chat.completions.create(**BODY)
            text = await api.completions.create(
                model="offline-teacher",
                prompt="Come up with a list of 20 tasks:\n4. Instruction:",
                max_tokens=3000,
            )
        return models, chat, text

    models, chat, text = talk_to(use_openai)
    assert models.data[0].id == "offline-teacher"
    assert chat.choices[0].finish_reason == "stop"
    assert chat.usage.completion_tokens == -(-len(chat.choices[0].message.content.encode()) // 4)
    assert "4. Output:" in text.choices[0].text and "5. Instruction:" in text.choices[0].text


@pytest.mark.parametrize(
    ("fault", "status", "retry_after"),
    [("rate_429", 429, "3"), ("rate_500", 500, None), ("rate_503", 503, "3")],
)
def test_server_faults(fault, status, retry_after):
    response = talk_to(post, retry_after=3, **{fault: 1})
    assert response.status == status and response.headers.get("Retry-After") == retry_after


def test_requests_beyond_the_rate_limit_are_rejected_with_a_retry_after():
    async def exceed_the_limit(client):
        accepted = [await post(client) for _ in range(3)]  # the requests of one second may burst
        return accepted, await post(client)

    accepted, rejected = talk_to(exceed_the_limit, rpm=180)
    assert {response.status for response in accepted} == {200}
    assert accepted[0].headers["x-ratelimit-limit-requests"] == "180"
    assert rejected.status == 429
    assert 0 < float(rejected.headers["Retry-After"]) <= 1 / 3


def test_a_dropped_connection():
    with pytest.raises(aiohttp.ClientConnectionError):
        talk_to(post, drop=1)


def test_a_request_that_is_never_answered():
    async def post_with_timeout(client):
        timeout = aiohttp.ClientTimeout(total=0.2)
        return await client.post("/v1/chat/completions", json=BODY, timeout=timeout)

    with pytest.raises(TimeoutError):
        talk_to(post_with_timeout, hang=1)


def test_a_retry_can_succeed():
    async def retry(client):
        return [(await post(client)).status for _ in range(30)]

    assert set(talk_to(retry, rate_500=0.5)) == {200, 500}


def test_options_are_part_of_the_url():
    with offline.start_server("offline?rate_503=1&retry_after=3") as url:
        request = urllib.request.Request(f"{url}/chat/completions", json.dumps(BODY).encode())
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=60)
        assert caught.value.code == 503 and caught.value.headers["Retry-After"] == "3"


def test_an_unknown_option_is_named():
    with pytest.raises(InputError, match="did you mean 'latency'"):
        offline.parse_options("offline?latncy=1")


def test_it_ends_when_its_parent_is_killed():
    code = (
        "import sys; from code_alpaca.teacher import offline\n"
        "with offline.start_server() as url: print(url, flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=pipe, stdout=pipe, text=True)
    host, port = urlsplit(parent.stdout.readline().strip()).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert connection.recv(1) == b"", "the server has closed the connection"
