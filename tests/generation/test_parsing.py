"""Replies: whole records are kept, broken ones leave with a reason, and nothing raises."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.generation.parsing import parse_json
from code_alpaca.teacher import apis

TASK = {
    "instruction": "Add two numbers.",
    "input": "",
    "output": "a + b",
    "language": "python",
    "tests": "",
}


def reply(content, finish_reason="stop"):
    return {"choices": [{"message": {"content": content}, "finish_reason": finish_reason}]}


def parsed(body):
    return parse_json(apis.read(body))


def outcome(body):
    return [(row.instruction, row.reason) for row in parsed(body)]


def test_whole_reply():
    assert outcome(reply(json.dumps({"tasks": [TASK, TASK]}))) == [("Add two numbers.", "")] * 2


def test_fenced_with_talk_around_it():
    text = f"Here you are:\n```json\n{json.dumps({'tasks': [TASK]}, indent=2)}\n```\nEnjoy!"
    assert outcome(reply(text)) == [("Add two numbers.", "")]


def test_cut_reply_keeps_its_whole_records():
    text = json.dumps({"tasks": [TASK, TASK, TASK]})[:-40]
    assert outcome(reply(text, "length")) == [("Add two numbers.", "")] * 2 + [("", "truncated")]


def test_broken_json_keeps_what_stands_before_it():
    text = '{"tasks": [' + json.dumps(TASK) + ', {"instruction": "x" "output"}]}'
    assert outcome(reply(text)) == [("Add two numbers.", ""), ("", "malformed")]


def test_trailing_comma():
    assert outcome(reply('{"tasks": [' + json.dumps(TASK) + ",]}")) == [("Add two numbers.", "")]


def test_what_holds_no_record_says_why():
    assert outcome(reply("I'm sorry, I can't help with that.")) == [("", "refusal")]
    assert outcome({"choices": [{"message": {"content": None, "refusal": "no"}}]}) == [
        ("", "refusal")
    ]
    assert outcome(reply("{}")) == [("", "malformed")]
    assert outcome(reply('{"tasks": []}')) == [("", "malformed")]
    assert outcome({"unreadable": "<html>"}) == [("", "no_reply")]


def test_wrong_types_and_lone_surrogates_are_dropped_alone():
    wrong = {**TASK, "output": ["a"]}
    surrogate = {**TASK, "output": "\ud800"}
    text = json.dumps({"tasks": [wrong, surrogate, TASK]})
    rows = parsed(reply(text))
    assert [row.reason for row in rows] == ["malformed", "not_text", ""]
    for row in rows:
        row.output.encode("utf-8")  # every kept trace can be written


def test_a_record_that_broken_json_closed_early_is_dropped():
    text = '{"tasks": [{"instruction": "Add.", "input": "", "output": "def f(a"}} oops'
    assert outcome(reply(text)) == [("", "malformed"), ("", "malformed")]


def test_code_with_marks_and_numbers_is_untouched():
    output = '### not a heading\nrate = 20.0\n"tasks": [\n20. Instruction:'
    (row,) = parsed(reply(json.dumps({"tasks": [{**TASK, "output": output}]})))
    assert row.output == output


FIELDS = st.fixed_dictionaries(
    {key: st.text(st.characters(codec="utf-8"), min_size=1) for key in TASK}
)


@settings(max_examples=200, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=5))
def test_every_rendered_record_comes_back(tasks):
    rows = parsed(reply(json.dumps({"tasks": tasks})))
    assert [(r.instruction, r.output) for r in rows] == [
        (task["instruction"].strip(), task["output"]) for task in tasks
    ]


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["choices", "message", "content", "tasks", "x"]), inner
            )
        ),
        max_leaves=12,
    )
)
def test_never_raises_and_never_invents(body):
    rows = parsed(body)
    assert rows and all(row.reason for row in rows)


@settings(max_examples=300, deadline=None)
@given(st.text(), st.integers(0, 200), st.sampled_from(["stop", "length"]))
def test_any_cut_of_any_text_is_survived(noise, at, finish):
    text = json.dumps({"tasks": [TASK, TASK]})
    rows = parsed(reply(text[:at] + noise + text[at:], finish))
    assert all(row.reason or row.instruction for row in rows)
