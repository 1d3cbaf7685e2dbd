"""Bytes that are no HTTP, bodies without end, and keys that come back: no traceback, no loss."""

from __future__ import annotations

import gzip
import json
import resource
import zlib

import brotli
import pytest
from support.chat_double import Script, ask, http, number_of, raw_server, refuse, reply_to, words
from werkzeug import Response

from code_alpaca.cli import main
from code_alpaca.core.errors import TeacherRefused
from code_alpaca.teacher.reply_parsing import (
    parse_reply,
)

MALFORMED = {
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "no such status": b"HTTP/1.1 9999 X\r\n\r\n",
    "a huge header": http("{}", "x-big: " + "a" * 20_000),
    "very many headers": http("{}", *[f"x-{n}: {'a' * 100}" for n in range(400)]),
    "two lengths": http("{}", "content-length: 7"),
    "a length that is no number": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n{}",
    "bad chunks": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n{}\r\n",
    "chunks cut off": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\n{\"a\":\r\n",
    "no content, with a body": b"HTTP/1.1 204 X\r\ncontent-length: 2\r\n\r\n{}",
    "a body cut off": b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{\"choices\"",
    "no gzip": http(b"\x1f\x8b\x08\x00garbage", "content-encoding: gzip"),
    "an encoding not asked for": http(brotli.compress(b"{}"), "content-encoding: br"),
    "nothing": b"\r\n",
    "an error for a success": http('{"error": {"message": "overloaded"}}'),
    "a bare string": http('"service unavailable"'),
    "no choices": http('{"choices": null, "usage": {}}'),
    "an error for a choice": http('{"choices": [{"error": {"code": 502, "message": "upstream"}}]}'),
    "a page": http("<html>Sign in</html>"),
}  # fmt: skip


def is_answer(reply) -> bool:
    return isinstance(reply, dict) and parse_reply(reply).text != ""


def test_malformed_replies_are_tried_again(tmp_path):
    """All kinds in one run: each costs one try of one request, and no request is lost."""
    faults = list(MALFORMED.values())

    def answer(body, number):
        kind, healthy = divmod(number, 3)  # two good replies between two faults
        return None if healthy or kind >= len(faults) else faults[kind]

    with raw_server(answer) as url:
        assert all(is_answer(reply) for reply in ask(tmp_path, url, range(36)))


@pytest.mark.parametrize("kind", ["no such status", "bad chunks", "a page", "no choices"])
def test_a_server_that_only_sends_malformed_replies_stops_the_run(tmp_path, kind):
    with raw_server(lambda *_: MALFORMED[kind]) as url:
        (refused,) = ask(tmp_path, url, [0])
    assert isinstance(refused, TeacherRefused) and "does not answer" in str(refused)


def test_malformed_replies_end_a_command_in_one_line(tmp_path, capsys):
    with raw_server(lambda *_: MALFORMED["no such status"]) as url:
        assert main(words(tmp_path, url, "--max_concurrency", "1")) == 3
    error = capsys.readouterr().err
    assert "malformed HTTP" in error and error.count("\n") == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_replies_are_read(tmp_path, encoding):
    def answer(body, number):
        text = json.dumps(reply_to(body)).encode()
        packed = gzip.compress(text) if encoding == "gzip" else zlib.compress(text)
        return http(packed, f"content-encoding: {encoding}")

    with raw_server(answer) as url:
        assert all(is_answer(reply) for reply in ask(tmp_path, url))


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request"])
def test_a_reply_without_end_is_not_read_to_its_end(tmp_path, status):
    """0.3 MB of gzip that would become 300 MB, and 20 MB of plain bytes."""
    packed = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = b"".join(packed.compress(b"[" * (1 << 20)) for _ in range(300)) + packed.flush()
    bodies = [http(bomb, "content-encoding: gzip"), http(b"[" * (20 << 20))]
    bodies = [body.replace(b"200 OK", status.encode()) for body in bodies]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with raw_server(lambda b, _: bodies[n - 1] if (n := number_of(b)) in (1, 2) else None) as url:
        replies = ask(tmp_path, url)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150 << 10  # in KiB
    assert [is_answer(reply) for reply in replies] == [n not in (1, 2) for n in range(12)]


SECRET = "sk-a-secret-of-this-test"


def everything_in(folder) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("status", [400, 401, 403, 500])
def test_a_key_that_a_refusal_repeats_is_masked(httpserver, tmp_path, capsys, monkeypatch, status):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    script = Script(httpserver, lambda *_: refuse(status, f"Incorrect API key: Bearer {SECRET}"))
    (refused,) = ask(tmp_path, script.url, [0])
    assert isinstance(refused, TeacherRefused)
    assert "***" in str(refused) and SECRET not in str(refused)
    assert SECRET.encode() not in everything_in(tmp_path)


def test_a_key_that_an_answer_repeats_is_masked(httpserver, tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)

    def answer(body, number):
        return Response(json.dumps({**reply_to(body), "request": f"Bearer {SECRET}"}))

    assert all(is_answer(reply) for reply in ask(tmp_path, Script(httpserver, answer).url))
    assert SECRET.encode() not in everything_in(tmp_path)
