"""JSON replies as models and servers write them: no paid record is lost to its form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.generation.candidates import catch_parse_errors
from code_alpaca.generation.json_parsing import parse_json
from code_alpaca.teacher.reply_parsing import ParsedReply, parse_reply

PIECES = [
    "#", "1. ", "1. Instruction:", '{"tasks": [', "[", "\\", '"', ",", "\n", " ", "\n ", "{\n",
]  # fmt: skip
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


def reasons(rows):
    return [row.reason for row in rows]


def test_complete_reply():
    assert outcome(reply(json.dumps({"tasks": [TASK, TASK]}))) == [("Add two numbers.", "")] * 2


def test_a_fence_and_prose_around_the_json():
    text = f"Here you are:\n```json\n{json.dumps({'tasks': [TASK]}, indent=2)}\n```\nEnjoy!"
    assert outcome(reply(text)) == [("Add two numbers.", "")]


def test_a_truncated_reply_keeps_its_complete_records():
    text = json.dumps({"tasks": [TASK, TASK, TASK]})[:-40]
    assert outcome(reply(text, "length")) == [("Add two numbers.", "")] * 2 + [("", "truncated")]


def test_broken_json_keeps_the_records_before_it():
    text = '{"tasks": [' + json.dumps(TASK) + ', {"instruction": "x" "output"}]}'
    assert outcome(reply(text)) == [("Add two numbers.", ""), ("", "malformed")]


def test_trailing_comma():
    assert outcome(reply('{"tasks": [' + json.dumps(TASK) + ",]}")) == [("Add two numbers.", "")]


def test_a_reply_without_a_record_has_a_reason():
    assert outcome(reply("I'm sorry, I can't help with that.")) == [("", "refusal")]
    assert outcome({"choices": [{"message": {"content": None, "refusal": "no"}}]}) == [
        ("", "refusal")
    ]
    assert outcome(reply("{}")) == [("", "malformed")]
    assert outcome(reply('{"tasks": []}')) == [("", "malformed")]
    assert outcome({"unreadable": "<html>"}) == [("", "no_reply")]


def test_wrong_types_and_lone_surrogates_cost_only_their_record():
    wrong = {**TASK, "output": ["a"]}
    surrogate = {**TASK, "output": "\ud800"}
    text = json.dumps({"tasks": [wrong, surrogate, TASK]})
    rows = parsed(reply(text))
    assert [row.reason for row in rows] == ["malformed", "not_text", ""]
    for row in rows:
        row.output.encode("utf-8")  # every stored text can be written to disk


def test_a_record_that_broken_json_closed_early_is_rejected():
    text = '{"tasks": [{"instruction": "Add.", "input": "", "output": "def f(a"}} oops'
    assert outcome(reply(text)) == [("", "malformed"), ("", "malformed")]


def test_a_byte_order_mark_is_ignored():
    (row,) = parsed(reply("\ufeff" + json.dumps({"tasks": [TASK]})))
    assert row.reason == ""


def test_code_with_headings_and_numbers_is_unchanged():
    output = '### not a heading\nrate = 20.0\n"tasks": [\n20. Instruction:'
    (row,) = parsed(reply(json.dumps({"tasks": [{**TASK, "output": output}]})))
    assert row.output == output


FIELDS = st.fixed_dictionaries(
    {key: st.text(st.characters(codec="utf-8"), min_size=1) for key in TASK}
)


@settings(max_examples=100, deadline=None)
@given(st.lists(FIELDS, min_size=1, max_size=5))
def test_every_rendered_record_is_parsed(tasks):
    rows = parsed(reply(json.dumps({"tasks": tasks})))
    assert [(r.instruction, r.output) for r in rows] == [
        (task["instruction"].strip(), task["output"]) for task in tasks
    ]


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=150, deadline=None)
@given(st.text(), st.integers(0, 200), st.sampled_from(["stop", "length"]))
def test_text_inserted_anywhere_never_raises(noise, at, finish):
    text = json.dumps({"tasks": [TASK, TASK]})
    rows = parsed(reply(text[:at] + noise + text[at:], finish))
    assert all(row.reason or row.instruction for row in rows)


@pytest.mark.parametrize("piece", PIECES)
def test_a_megabyte_of_garbage_is_rejected(piece):
    """Every pattern of the parser takes linear time, or this test would not end."""
    text = piece * (1_000_000 // len(piece))
    assert all(row.reason for row in parsed(reply(text)))


def test_a_parser_that_fails_rejects_the_reply():
    def parse(reply):
        raise IndexError(reply.text)

    (candidate,) = catch_parse_errors(parse)(ParsedReply("odd"))
    assert candidate.reason == "internal_error" and "IndexError: odd" in candidate.output


# -- deviations from the schema ------------------------------------------------------------------

SHORT = {
    "instruction": "Write a Python function that adds two numbers.",
    "output": "def add(a, b):\n    return a + b",
}


def from_json(tasks, before="", after="", **more):
    return parse_json(ParsedReply(before + json.dumps({"tasks": tasks}) + after, **more))


def test_only_instruction_and_output_are_required():
    (row,) = from_json([SHORT])
    assert (row.instruction, row.input, row.output) == (SHORT["instruction"], "", SHORT["output"])
    assert (row.language, row.tests, row.reason) == ("python", "", "")


@pytest.mark.parametrize("missing", ["instruction", "output"])
def test_a_record_without_instruction_or_output_is_malformed(missing):
    broken = {key: value for key, value in SHORT.items() if key != missing}
    assert reasons(from_json([broken, SHORT, {**SHORT, missing: None}])) == [
        "malformed", "", "malformed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value", "parsed_value"),
    [
        ("input", None, ""),
        ("input", 5, "5"),
        ("input", [3, "ä", None], '[3, "ä", null]'),
        ("input", {"a": 1}, '{"a": 1}'),
        ("tests", None, ""),
        ("tests", ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
         "assert add(1, 2) == 3\nassert add(0, 0) == 0"),
        ("tests", [1], ""),
        ("tests", {"assert": 1}, ""),
        ("language", None, "python"),
        ("language", ["python"], "python"),
        ("language", 3, "python"),
        ("language", "x" * 5000, "python"),
        ("language", "Rust ", "rust"),
        ("language", "", ""),
    ],
)  # fmt: skip
def test_null_and_other_types_of_optional_keys_cost_no_record(key, value, parsed_value):
    (row,) = from_json([{**SHORT, key: value}])
    assert row.reason == "" and getattr(row, key) == parsed_value


def test_other_values_between_records_are_malformed():
    rows = from_json([SHORT, None, "text", 5, SHORT])
    assert reasons(rows) == ["", "malformed", "malformed", "malformed", ""]


def test_keys_may_be_capitalised():
    (row,) = from_json([{"Instruction": "Add.", "Input": "1, 2", "Output": "3", "Language": "R"}])
    assert (row.instruction, row.input, row.output, row.language) == ("Add.", "1, 2", "3", "r")


@pytest.mark.parametrize(
    "text",
    [
        '{"exercises": [%s, %s]}',
        '{"Tasks": [%s, %s]}',
        "[%s, %s]",
        "%s\n%s",
        "%s,\n%s\nThat is all.",
        "Here you are:\n```json\n%s\n%s\n```",
    ],
)
def test_the_list_may_have_another_key_or_none(text):
    record = json.dumps({"language": "python", **SHORT})
    assert reasons(parse_json(ParsedReply(text % (record, record)))) == ["", ""]


@pytest.mark.parametrize(
    "text",
    [
        '{"tasks": [{"instruction": "Add.", "output": "x = {"} + "y"}]}',
        '{"instruction": "Add.", "output": "def f(a"} more code"}',
    ],
)
def test_a_short_record_that_broken_json_closed_early_is_malformed(text):
    assert set(reasons(parse_json(ParsedReply(text)))) == {"malformed"}


@pytest.mark.parametrize(
    "text",
    [
        '{"tasks": {"1": RECORD, "2": RECORD}}',
        '{"task_1": RECORD, "task_2": RECORD}',
        '{"tasks": [{"task": RECORD}, {"task": RECORD}]}',
        '{"items": [NUMBERED, NUMBERED]}',
        "NUMBERED\nNUMBERED",
        '{"tasks": [RECORD]}\n{"tasks": [RECORD]}',
    ],
)
@pytest.mark.parametrize("quoted", [False, True])
def test_records_are_found_anywhere_in_the_json(text, quoted):
    text = text.replace("RECORD", json.dumps(SHORT))
    text = text.replace("NUMBERED", json.dumps({"id": 1, **SHORT}))
    if quoted and "\n" not in text and 'tasks": [' in text:
        text = json.dumps({"response": text})
    rows = parse_json(ParsedReply(text))
    assert [(row.instruction, row.reason) for row in rows] == [(SHORT["instruction"], "")] * 2


@pytest.mark.parametrize(
    "text",
    [
        "Here is my thought process:\n{draft}\nHere is my response:\n{answer}",
        "{draft}\n\nThese are too easy. Final answer:\n\n{answer}",
        "```json\n{draft}\n```\nLet me revise:\n```json\n{answer}\n```",
        "<analysis>{draft}</analysis>\n{answer}",
        'I try {{"tasks": [{{"instruction": ...}}]}}\n{answer}',
    ],
)
def test_the_last_of_several_lists_is_the_result(text):
    draft = json.dumps({"tasks": [{**SHORT, "output": "draft"}]})
    rows = parse_json(
        ParsedReply(text.format(draft=draft, answer=json.dumps({"tasks": [SHORT] * 2})))
    )
    assert [row.output for row in rows] == [SHORT["output"]] * 2


def test_a_draft_before_a_truncated_list_is_ignored():
    draft, answer = (json.dumps({"tasks": [SHORT]}), json.dumps({"tasks": [SHORT, SHORT]}))
    for length, expected in ((30, []), (len(answer) - 20, [""])):
        rows = parse_json(ParsedReply(f"{draft}\nFinal answer:\n{answer[:length]}", truncated=True))
        assert reasons(rows) == [*expected, "truncated"]


def test_a_later_list_without_a_record_is_ignored():
    text = json.dumps({"tasks": [SHORT]}) + '\nI kept to the form {"tasks": [{"instruction": ...}]}'
    assert [row.output for row in parse_json(ParsedReply(text))] == [SHORT["output"]]


def test_more_records_than_requested_are_kept():
    assert reasons(from_json([SHORT] * 12)) == [""] * 12


def test_a_draft_in_the_reasoning_is_ignored():
    draft = json.dumps({"tasks": [{**SHORT, "output": "draft"}]})
    for before in (f"<think>\n{draft}\n</think>\n\n", f"{draft}\nToo easy.\n</think>\n"):
        (row,) = from_json([SHORT], before)
        assert row.output == SHORT["output"]


def test_a_reply_of_only_reasoning_is_no_reply_or_truncated():
    text = f"<think>{json.dumps({'tasks': [SHORT]})}"
    assert reasons(parse_json(ParsedReply(text + "</think>"))) == ["no_reply"]
    assert reasons(parse_json(ParsedReply(text, truncated=True))) == ["truncated"]


@pytest.mark.parametrize("value", ["[" * 900 + "]" * 900, "[" * 90_000, "9" * 5000, "1e999"])
def test_deep_and_huge_values_cost_at_most_their_record(value):
    text = '{"tasks": [%s, {"instruction": "Add.", "input": %s, "output": "x"}]}'
    rows = parse_json(ParsedReply(text % (json.dumps(SHORT), value)))
    assert rows[0].reason == "" and len(rows) == 2
