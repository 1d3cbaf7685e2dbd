"""A record's conversation keeps every turn that can be trained on, whatever its form."""

from __future__ import annotations

import pytest

from code_alpaca.core.json_records import UnreadableRecord
from code_alpaca.core.row_formats import detect_format

SYSTEM = {"role": "system", "content": "Be brief."}
QUESTION, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}
LATER = [{"role": "user", "content": "q2"}, {"role": "assistant", "content": "a2"}]


def converse(record):
    form = detect_format([record], None, "rows")
    return form.conversation(record)


@pytest.mark.parametrize(
    ("record", "turns"),
    [
        ({"messages": [QUESTION, ANSWER]}, [QUESTION, ANSWER]),
        ({"messages": [SYSTEM, QUESTION, ANSWER, *LATER]}, [SYSTEM, QUESTION, ANSWER, *LATER]),
        ({"messages": [QUESTION, ANSWER, LATER[0]]}, [QUESTION, ANSWER]),
        ({"instruction": "q", "input": "", "output": "a"}, [QUESTION, ANSWER]),
        (
            {"instruction": "q", "input": "x", "output": "a", "system": "Be brief."},
            [SYSTEM, {"role": "user", "content": "q\n\nx"}, ANSWER],
        ),
        (
            {"instruction": "q2", "input": "x", "output": "a2", "history": [["q", "a"]]},
            [QUESTION, ANSWER, {"role": "user", "content": "q2\n\nx"}, LATER[1]],
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            [QUESTION, ANSWER],
        ),
    ],
)
def test_every_form_becomes_messages(record, turns):
    assert converse(record) == turns


def test_a_conversation_ends_before_a_later_answer_without_text():
    null = {"role": "assistant", "content": None}
    assert converse({"messages": [QUESTION, ANSWER, LATER[0], null]}) == [QUESTION, ANSWER]
    blank = {"role": "assistant", "content": " "}
    turns = [QUESTION, ANSWER, LATER[0], blank, *LATER]
    assert converse({"messages": turns}) == [QUESTION, ANSWER]


def test_a_first_answer_without_text_is_left_to_the_check_of_blank_rows():
    null = {"role": "assistant", "content": None}
    assert converse({"messages": [QUESTION, null]})[1] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([QUESTION, ANSWER, ANSWER], "must alternate"),
        ([QUESTION, QUESTION, ANSWER], "a row begins with a question"),
        ([QUESTION, ANSWER, LATER[0], {"role": "assistant", "content": 3}], "content is not text"),
    ],
)
def test_turns_that_cannot_be_trained_on_are_named(turns, message):
    found = converse({"messages": turns})
    assert isinstance(found, UnreadableRecord) and message in found.problem
