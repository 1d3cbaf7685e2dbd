"""Replies: whole records are kept, broken ones leave with a reason, and nothing raises."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.generation.json_parsing import parse_json
from code_alpaca.generation.numbered_parsing import parse_numbered
from code_alpaca.teacher.reply_parsing import parse_reply

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
    return parse_json(parse_reply(body))


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


# -- numbered text ---------------------------------------------------------------------------


def numbered(records, numbers, newline="\n"):
    """Text as a base model writes it; what a strategy asks for and `parse_numbered` reads."""
    blocks = [
        f"{number}. Instruction: {task['instruction']}\n{number}. Input:\n{task['input']}\n"
        f"{number}. Output:\n{task['output']}\n"
        for number, task in zip(numbers, records, strict=True)
    ]
    return "###\n".join(blocks).replace("\n", newline)


def read_numbered(text, finish_reason="stop", prefix=""):
    body = {"choices": [{"text": text, "finish_reason": finish_reason}]}
    return parse_numbered(parse_reply(body), prefix)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1)
LINES = st.lists(
    st.sampled_from(
        ["def f():", "    return 20.", "###", "### Heading", "20. Input is a list", "1.", "", "- x"]
    )
    | TEXT.filter(lambda text: "\n" not in text),
    min_size=1,
    max_size=6,
).map("\n".join)


def plain(text):
    """What a record can hold: it has no heading and does not end in blanks or a separator."""
    return text == text.strip() and text.rstrip("#") == text and text and "Instruction:" not in text


RECORDS = st.fixed_dictionaries(
    {
        "instruction": TEXT.filter(lambda t: plain(t) and "\n" not in t),
        "input": st.just("<noinput>") | LINES.filter(plain),
        "output": LINES.filter(plain),
    }
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(RECORDS, min_size=1, max_size=5),
    st.lists(st.integers(1, 5), min_size=5, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_numbered_record_comes_back_though_numbers_are_skipped(records, steps, newline):
    numbers = [sum(steps[: place + 1]) for place in range(len(records))]
    rows = read_numbered(numbered(records, numbers, newline))
    assert [(row.instruction, row.input, row.output, row.reason) for row in rows] == [
        (r["instruction"], "" if r["input"] == "<noinput>" else r["input"], r["output"], "")
        for r in records
    ]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["1. Instruction:", "2. Instruction:", "1. Input:", "2. Input:", "1. Output:",
             "2. Output:", "###", "\r\n", "\n", "20.", "\ufeff", "x", " "]
        ) | st.text(max_size=5),
        max_size=30,
    ).map("".join),
    st.sampled_from(["stop", "length"]),
)  # fmt: skip
def test_numbered_text_never_raises_and_never_invents(text, finish_reason):
    rows = read_numbered(text, finish_reason)
    assert rows
    for row in rows:
        for value in (row.instruction, row.input, row.output):
            assert value in text or value in text.replace("\r\n", "\n"), "as it stands there"
    if finish_reason == "length":
        assert rows[-1].reason, "the last record of a cut reply is never whole"


def test_numbered_marks_inside_code_stay():
    code = "x = 20.\n20. is a float\n### a comment\nprint('3. Input:')\n### the end"
    text = (
        f"1. Instruction: One.\n1. Input:\n<noinput>\n1. Output:\n{code}\n###\n"
        "4. Instruction: Four.\n4. Input:\ndata\n4. Output:\nfour\n"
    )
    assert [(row.instruction, row.input, row.output) for row in read_numbered(text)] == [
        ("One.", "", code),
        ("Four.", "data", "four"),
    ]


def test_a_byte_order_mark_and_a_prefix_lose_no_record():
    record = "\n1. Input:\n<noinput>\n1. Output:\nfour\n"
    (row,) = read_numbered("\ufeff1. Instruction: Add." + record)
    assert (row.instruction, row.output, row.reason) == ("Add.", "four", "")
    (row,) = read_numbered(" Add." + record, prefix="1. Instruction:")
    assert (row.instruction, row.output, row.reason) == ("Add.", "four", "")
    (row,) = parsed(reply("\ufeff" + json.dumps({"tasks": [TASK]})))
    assert row.reason == ""


@pytest.mark.parametrize(
    "piece",
    ["#", "1. ", "1. Instruction:", '{"tasks": [', "[", "\\", '"', ",", "\n", " ", "\n ", "{\n"],
)
def test_a_megabyte_of_garbage_is_read_soon(piece):
    text = piece * (1_000_000 // len(piece))
    for read in (read_numbered, lambda text: parsed(reply(text))):
        began = time.monotonic()
        rows = read(text)
        assert time.monotonic() - began < 5
        assert all(row.reason for row in rows)
