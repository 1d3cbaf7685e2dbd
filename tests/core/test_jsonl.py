"""JSONL files: reading with line numbers, broken and incomplete lines, appending."""

from __future__ import annotations

import gzip
import json

import pytest

from code_alpaca.core import jsonl
from code_alpaca.core.errors import InputError


def records(path, **options):
    return [line.record for line in jsonl.read(path, **options)]


def test_lines_are_numbered_and_blank_ones_skipped(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n\n  \r\n{"a": 2}\r\n{"a": 3}')
    assert list(jsonl.read(path)) == [(1, {"a": 1}), (4, {"a": 2}), (5, {"a": 3})]


def test_unicode_line_breaks_do_not_split_a_record(tmp_path):
    path = tmp_path / "rows.jsonl"
    record = {"a": "one\u2028two\u2029three\u0085four\x0bfive\x0c"}
    path.write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert records(path) == [record]


def test_a_byte_order_mark_is_not_part_of_the_first_record(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-8-sig")
    assert records(path) == [{"a": 1}]


def test_gzip_is_recognized_by_content_not_by_name(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b'{"a": 1}\n', mtime=0))
    assert records(path) == [{"a": 1}]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"{broken", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_line_is_named_in_one_line_or_skipped(tmp_path, line, problem):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 2}\n')
    with pytest.raises(InputError) as refused:
        records(path, kind="samples")
    message = str(refused.value)
    assert message.startswith(f"samples {path}, line 2: {problem}") and "\n" not in message
    assert records(path, skip_broken=True) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize("content", [None, gzip.compress(b'{"a": 1}\n' * 1000, mtime=0)[:-20]])
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "rows.jsonl.gz"
    if content:
        path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        records(path, kind="benchmark")
    assert str(refused.value).startswith(f"cannot read benchmark {path}: ")


def test_written_records_are_read_back(tmp_path):
    path = tmp_path / "rows.jsonl"
    jsonl.write(path, [{"a": "é\u2028"}, {"b": None}])
    assert records(path) == [{"a": "é\u2028"}, {"b": None}]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "rows.jsonl"
    jsonl.write(path, [{"a": 1}])
    with pytest.raises(TypeError):
        jsonl.write(path, [{"a": object()}])
    assert records(path) == [{"a": 1}] and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("before", ["", '{"a": 0}\n', '{"a": 0}\n{"a": "torn'])
def test_appended_records_are_on_disk_at_once_and_on_lines_of_their_own(tmp_path, before):
    path = tmp_path / "rows.jsonl"
    path.write_text(before)
    with jsonl.appending(path) as writer:
        writer.write({"a": 1})
        assert records(path, skip_broken=True)[-1] == {"a": 1}
        writer.write({"a": 2})
    assert records(path, skip_broken=True)[-2:] == [{"a": 1}, {"a": 2}]
    assert path.read_text().startswith(before)
