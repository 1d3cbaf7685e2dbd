"""The ledger loses no paid reply, commits decisions atomically, and has one writer at a time."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys

import pytest
from support.needs import need

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.schema import Example, content_id

REPLY = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


def test_replies_and_decisions_survive_reopening(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        key = ledger.request(0, "/chat/completions", {"model": "m"}, seed_ids=["seed_001"])
        ledger.save_reply(key, REPLY, usage=(3, 5))
        accepted, rejected = Example("a", "", "b", seed_ids=["s"]), Example("c", "", "")
        ledger.decide(0, [Decision(accepted, ""), Decision(rejected, "empty")])
    with Ledger(path, write=False) as ledger:
        assert ledger.reply(key) == REPLY
        assert [(e.instruction, e.seed_ids) for e in ledger.accepted()] == [("a", ["s"])]
        assert [(d.example.instruction, d.reason) for d in ledger.rejected()] == [("c", "empty")]
        assert ledger.next_undecided() == 1
        assert ledger.usage() == {
            "requests": 1, "replies": 1, "prompt_tokens": 3, "completion_tokens": 5,
        }  # fmt: skip


def test_the_same_question_under_two_numbers_is_two_requests(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = ledger.request(0, "/chat", {"q": 1})
        assert ledger.request(1, "/chat", {"q": 1}) != first
        assert ledger.request(0, "/chat", {"q": 1}) == first  # repeated after a restart


@pytest.mark.parametrize("change", [{"model": "n"}, {"model": "m", "temperature": 0.5}])
def test_another_payload_under_an_answered_number_is_refused(tmp_path, change):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.save_reply(ledger.request(0, "/chat", {"model": "m"}), REPLY)
        with pytest.raises(InputError, match="another prompt"):
            ledger.request(0, "/chat", change)


def test_an_unanswered_request_is_replaced_with_its_seeds_and_quotas(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.request(0, "/chat", {"long": 1}, seed_ids=["a"], asked={"count": 5})
        key = ledger.request(0, "/chat", {"short": 1}, seed_ids=["b"], asked={"count": 2})
        assert ledger.answered(0) is None and ledger.first_unanswered() == 0
        ledger.save_reply(key, REPLY)
        assert ledger.answered(0) == ({"short": 1}, {"count": 2}, ["b"])
        assert ledger.request(1, "/chat", {"short": 1}) != key
        assert ledger.first_unanswered() == 1


def test_the_decisions_on_a_reply_are_committed_atomically(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.request(0, "/chat", {})
        broken = Example("a", "", "b", seed_ids=[object()])  # not JSON serializable
        with pytest.raises(TypeError):
            ledger.decide(0, [Decision(Example("fine", "", "b"), ""), Decision(broken, "")])
        assert ledger.accepted_count() == 0
        assert ledger.next_undecided() == 0


def test_a_second_writer_is_refused_and_a_reader_is_not(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path):
        with pytest.raises(InputError, match="in use by another process"):
            Ledger(path)
        Ledger(path, write=False).close()
    Ledger(path).close()


def test_a_ledger_of_a_newer_version_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.set_meta("format", "99")
    with pytest.raises(InputError, match="newer code-alpaca"):
        Ledger(path)


def test_a_reply_is_on_disk_when_save_returns(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        key = ledger.request(0, "/chat", {})
        ledger.save_reply(key, REPLY)
        with Ledger(path, write=False) as other:
            assert other.reply(key) == REPLY


def test_the_pace_counts_equal_slices_in_the_order_of_decisions(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.pace() == []
        for number in range(10):
            ledger.request(number, "/x", {"number": number})
            reason = "" if number < 4 else "too_similar"
            ledger.decide(number, [Decision(Example("a", "", "b"), reason)] * 7)
        assert ledger.pace(5) == [[14, 14], [14, 14], [14, 0], [14, 0], [14, 0]]
        uneven = ledger.pace(4)
        assert [sum(counts) for counts in zip(*uneven, strict=True)] == [70, 28]
        assert {candidates for candidates, _ in uneven} == {17, 18}
        assert ledger.pace(1_000) == [[1, 1]] * 28 + [[1, 0]] * 42


# -- files that cannot be used or are damaged --------------------------------------------------


def fill_ledger(path, rows=40):
    with Ledger(path) as ledger:
        for number in range(rows):
            key = ledger.request(number, "/chat", {"n": number})
            ledger.save_reply(key, {"choices": [{"message": {"content": f"text {number} " * 60}}]})
            text = f"Task {number}", "", f"answer {number}"
            example = Example(*text, id=content_id(*text))
            ledger.decide(number, [Decision(example, "")])
    return path


@pytest.mark.parametrize("fraction", [0.3, 0.99])
def test_a_truncated_ledger_is_refused_in_one_line(tmp_path, fraction):
    path = fill_ledger(tmp_path / "l.sqlite")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * fraction)])
    for write in (True, False):
        with pytest.raises(InputError, match=r"is damaged.*keep the file") as refused:
            Ledger(path, write=write)
        assert str(path) in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content", [b"not a database " * 100, b"SQLite format 3\0" + b"\xff" * 900]
)
def test_a_file_that_is_not_a_database_is_refused_and_not_changed(tmp_path, content):
    path = tmp_path / "l.sqlite"
    path.write_bytes(content)
    for write in (True, False):
        with pytest.raises(InputError, match=r"l\.sqlite"):
            Ledger(path, write=write)
    assert path.read_bytes() == content


def test_a_row_with_a_flipped_byte_is_rejected_with_the_reason(tmp_path):
    path = fill_ledger(tmp_path / "l.sqlite")
    for old, new in [
        (b'answer 3"', b'answfr 3"'),
        (b'Task 5"', b'Tas\xff 5"'),
        (b'"output": "answer 7"', b'"output": #answer 7"'),
    ]:
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))
    intact = [f"Task {number}" for number in range(40) if number not in (3, 5, 7)]
    with Ledger(path, write=False) as ledger:
        assert [row.instruction for row in ledger.accepted()] == intact
        assert [row.instruction for row in ledger.accepted(4)] == intact[:4]
        damaged = [decision for _, _, decision in ledger.accepted_decisions() if decision.reason]
        assert [decision.reason for decision in damaged] == ["damaged_row"] * 3
        assert "request 3" in damaged[0].evidence
    with Ledger(path) as ledger:
        assert ledger.reject_damaged() == 3 and ledger.reject_damaged() == 0
        assert ledger.accepted_count() == 37 and ledger.reasons() == {"damaged_row": 3}


def test_a_damaged_fact_about_the_run_is_named(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.record("config", {}) == {}
        ledger.set_meta("config", '{"seed": ')
        with pytest.raises(InputError, match="config cannot be read"):
            ledger.record("config")


def test_a_ledger_that_another_program_locked_is_not_reported_as_damaged(tmp_path):
    path = fill_ledger(tmp_path / "l.sqlite", rows=1)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(InputError, match="locked by another program"):
        Ledger(path)
    other.close()


def test_replies_and_evidence_that_cannot_be_stored_are_replaced(tmp_path):
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with Ledger(tmp_path / "l.sqlite") as ledger:
        key = ledger.request(0, "/chat", {})
        ledger.save_reply(key, {"choices": deep})
        assert ledger.reply(key) == {"unreadable": "nested too deep to be stored"}
        ledger.decide(0, [Decision(Example("a\ud800", "", "\0"), "not_text", "contains \ud800")])
        (decision,) = ledger.rejected()
        assert decision.example.instruction == "a\ud800" and decision.evidence == "contains ?"


READ_ONLY = """
import sys; from pathlib import Path
from code_alpaca.core.errors import InputError; from code_alpaca.core.ledger import Ledger
try:
    Ledger(Path(sys.argv[1]))
except InputError as error:
    print(error)
"""


@pytest.mark.parametrize("bound", ["ledger.sqlite", "."])
def test_a_read_only_ledger_is_refused_and_not_changed(tmp_path, bound):
    need(shutil.which("bwrap"), "bwrap, to bind a folder read-only")
    path = fill_ledger(tmp_path / "ledger.sqlite", rows=1)
    place = str((tmp_path / bound).resolve())
    done = subprocess.run(
        ["bwrap", "--dev-bind", "/", "/", "--ro-bind", place, place,
         sys.executable, "-c", READ_ONLY, str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.count("\n") == 1 and "writable" in done.stdout
    assert str(tmp_path) in done.stdout and "not the ledger" not in done.stdout
    with Ledger(path) as ledger:
        assert ledger.accepted_count() == 1
