"""The ledger keeps what was paid for, decides all or nothing, and is one process's at a time."""

from __future__ import annotations

import json
import sqlite3

import pytest

from code_alpaca.errors import InputError
from code_alpaca.ledger import Decision, Ledger
from code_alpaca.schema import Example

REPLY = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5}}


def test_replies_and_decisions_survive_reopening(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        key = ledger.request(0, "/chat/completions", {"model": "m"}, seed_ids=["seed_001"])
        ledger.save_reply(key, REPLY, usage=(3, 5))
        ledger.decide(
            0,
            [
                Decision(Example("a", "", "b", seed_ids=["s"]), ""),
                Decision(Example("c", "", ""), "empty"),
            ],
        )
    with Ledger(path, write=False) as ledger:
        assert ledger.reply(key) == REPLY
        assert [(e.instruction, e.seed_ids) for e in ledger.accepted()] == [("a", ["s"])]
        assert [(d.example.instruction, d.reason) for d in ledger.rejected()] == [("c", "empty")]
        assert ledger.next_undecided() == 1
        assert ledger.usage() == {
            "requests": 1, "replies": 1, "prompt_tokens": 3, "completion_tokens": 5,
        }  # fmt: skip


def test_the_same_question_twice_is_two_requests(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = ledger.request(0, "/chat", {"q": 1})
        assert ledger.request(1, "/chat", {"q": 1}) != first
        assert ledger.request(0, "/chat", {"q": 1}) == first  # asked again after a restart


@pytest.mark.parametrize("change", [{"model": "n"}, {"model": "m", "temperature": 0.5}])
def test_another_payload_under_a_used_number_is_refused(tmp_path, change):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.request(0, "/chat", {"model": "m"})
        with pytest.raises(InputError, match="another prompt"):
            ledger.request(0, "/chat", change)


def test_decisions_on_a_reply_come_together_or_not_at_all(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        ledger.request(0, "/chat", {})
        broken = Example("a", "", "b", seed_ids=[object()])  # json cannot write it
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


def test_a_newer_format_is_refused(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        ledger.set_meta("format", "99")
    with pytest.raises(InputError, match="newer code-alpaca"):
        Ledger(path)


def test_the_reply_is_on_disk_when_save_returns(tmp_path):
    path = tmp_path / "l.sqlite"
    with Ledger(path) as ledger:
        key = ledger.request(0, "/chat", {})
        ledger.save_reply(key, REPLY)
        other = sqlite3.connect(path)
        assert json.loads(other.execute("SELECT body FROM replies").fetchone()[0]) == REPLY


def test_the_pace_is_in_equal_slices_of_the_order_of_decisions(tmp_path):
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.pace() == []
        for number in range(10):
            ledger.request(number, "/x", {"number": number})
            reason = "" if number < 4 else "too_similar"
            ledger.decide(number, [Decision(Example("a", "", "b"), reason)] * 7)
        assert ledger.pace(5) == [[14, 14], [14, 14], [14, 0], [14, 0], [14, 0]]
        uneven = ledger.pace(4)
        assert [sum(each) for each in zip(*uneven, strict=True)] == [70, 28]
        assert {seen for seen, _ in uneven} == {17, 18}
        assert ledger.pace(1_000) == [[1, 1]] * 28 + [[1, 0]] * 42
