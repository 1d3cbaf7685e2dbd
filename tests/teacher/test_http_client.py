"""Malformed HTTP, oversized bodies and echoed API keys: no traceback, no lost request, no leak."""

from __future__ import annotations

import functools
import gzip
import json
import zlib

import brotli
import httpx2
import pytest
from support.chat_double import complete_over_http, generate_args, http_bytes, raw_server
from support.memory import measure_peak
from support.simulated_teacher import (
    SimulatedServer,
    build_reply,
    complete_prompts,
    error,
    prompt_number,
)

from code_alpaca.cli import main
from code_alpaca.core.errors import TeacherRefused
from code_alpaca.teacher.reply_parsing import parse_reply

MALFORMED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "unknown status": b"HTTP/1.1 9999 X\r\n\r\n",
    "huge header": http_bytes("{}", "x-big: " + "a" * 20_000),
    "many headers": http_bytes("{}", *[f"x-{n}: {'a' * 100}" for n in range(400)]),
    "two lengths": http_bytes("{}", "content-length: 7"),
    "length is not a number": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",
    "bad chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
    "truncated chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
    "204 with a body": b"HTTP/1.1 204 X\r\ncontent-length: 2\r\n\r\n{}",
    "truncated body": b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"choices\"",
    "not gzip": http_bytes(b"\x1f\x8b\x08\x00garbage", "content-encoding: gzip"),
    "unexpected encoding": http_bytes(brotli.compress(b"{}"), "content-encoding: br"),
    "empty": b"\r\n",
    "error with status 200": http_bytes('{"error": {"message": "overloaded"}}'),
    "JSON string": http_bytes('"service unavailable"'),
    "no choices": http_bytes('{"choices": null, "usage": {}}'),
    "error as a choice": http_bytes('{"choices": [{"error": {"code": 502, "message": "up"}}]}'),
    "web page": http_bytes("<html>Sign in</html>"),
}  # fmt: skip


def has_text(result) -> bool:
    return isinstance(result, dict) and parse_reply(result).text != ""


def test_malformed_responses_are_retried(tmp_path):
    """All kinds in one run: each costs one attempt of one request, and no request is lost."""
    faults = list(MALFORMED.values())

    def respond(body, index):
        kind, healthy = divmod(index, 3)  # two valid replies between two faults
        return None if healthy or kind >= len(faults) else faults[kind]

    with raw_server(respond) as url:
        assert all(map(has_text, complete_over_http(tmp_path, url, range(36))))


@pytest.mark.parametrize("kind", ["unknown status", "bad chunks"])
def test_a_server_that_sends_only_malformed_responses_stops_the_run(tmp_path, capsys, kind):
    with raw_server(lambda *_: MALFORMED[kind]) as url:
        assert main(generate_args(tmp_path, url, "--max_concurrency", "1")) == 3
    message = capsys.readouterr().err
    assert "does not answer (malformed HTTP" in message and message.count("\n") == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_replies_are_read(tmp_path, encoding):
    def respond(body, index):
        text = json.dumps(build_reply(body)).encode()
        compressed = gzip.compress(text) if encoding == "gzip" else zlib.compress(text)
        return http_bytes(compressed, f"content-encoding: {encoding}")

    with raw_server(respond) as url:
        assert all(map(has_text, complete_over_http(tmp_path, url)))


@functools.cache
def compress_brackets() -> bytes:
    compressor = zlib.compressobj(1, zlib.DEFLATED, 31)
    return b"".join(compressor.compress(b"[" * (1 << 20)) for _ in range(300)) + compressor.flush()


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_an_oversized_body_is_not_read_completely(tmp_path, status):
    """1.3 MB of gzip that would expand to 300 MB, and 20 MB of plain bytes."""
    bodies = [
        http_bytes(compress_brackets(), "content-encoding: gzip"),
        http_bytes(b"[" * (20 << 20)),
    ]
    bodies = [body.replace(b"200 OK", status.encode()) for body in bodies]

    def respond(body, index):
        number = prompt_number(body)
        return bodies[number - 1] if number in (1, 2) else None

    with raw_server(respond) as url, measure_peak() as peak:
        results = complete_over_http(tmp_path, url)
    assert peak.num_bytes < 64 << 20
    assert [has_text(result) for result in results] == [n not in (1, 2) for n in range(12)]


SECRET = "sk-a-secret-of-this-test"


def read_all_files(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_an_api_key_repeated_in_an_error_is_masked(tmp_path, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    response = error(status, f"Incorrect API key: Bearer {SECRET}")
    (refused,) = complete_prompts(tmp_path, SimulatedServer(lambda *_: response), [0]).results
    assert isinstance(refused, TeacherRefused)
    assert "***" in str(refused) and SECRET not in str(refused)
    assert SECRET.encode() not in read_all_files(tmp_path)


def test_an_api_key_repeated_in_a_reply_is_masked(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    def respond(body, index):
        return httpx2.Response(200, json={**build_reply(body), "request": f"Bearer {SECRET}"})

    assert all(map(has_text, complete_prompts(tmp_path, SimulatedServer(respond)).results))
    assert SECRET.encode() not in read_all_files(tmp_path)
