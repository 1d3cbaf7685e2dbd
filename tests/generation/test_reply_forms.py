"""Replies as real models and servers write them: no paid record is lost to its form."""

from __future__ import annotations

import json

import pytest

from code_alpaca.generation.json_parsing import parse_json
from code_alpaca.generation.numbered_parsing import parse_numbered
from code_alpaca.teacher.reply_parsing import ParsedReply

TASK = {
    "instruction": "Write a Python function that adds two numbers.",
    "output": "def add(a, b):\n    return a + b",
}


def from_json(tasks, before="", after="", **more):
    return parse_json(ParsedReply(before + json.dumps({"tasks": tasks}) + after, **more))


def reasons(rows):
    return [row.reason for row in rows]


# -- JSON --------------------------------------------------------------------------------------


def test_only_instruction_and_output_are_needed():
    (row,) = from_json([TASK])
    assert (row.instruction, row.input, row.output) == (TASK["instruction"], "", TASK["output"])
    assert (row.language, row.tests, row.reason) == ("python", "", "")


@pytest.mark.parametrize("missing", ["instruction", "output"])
def test_a_record_without_instruction_or_output_is_malformed_alone(missing):
    broken = {key: value for key, value in TASK.items() if key != missing}
    assert reasons(from_json([broken, TASK, {**TASK, missing: None}])) == [
        "malformed", "", "malformed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "given", "kept"),
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
def test_null_and_other_types_of_optional_keys_lose_no_record(key, given, kept):
    (row,) = from_json([{**TASK, key: given}])
    assert row.reason == "" and getattr(row, key) == kept


def test_other_values_among_the_records_are_malformed_alone():
    rows = from_json([TASK, None, "text", 5, TASK])
    assert reasons(rows) == ["", "malformed", "malformed", "malformed", ""]


def test_names_of_keys_may_be_capitalised():
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
def test_the_list_may_have_another_name_or_none(text):
    record = json.dumps({"language": "python", **TASK})
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
def test_records_are_found_wherever_they_stand_in_the_json(text, quoted):
    text = text.replace("RECORD", json.dumps(TASK))
    text = text.replace("NUMBERED", json.dumps({"id": 1, **TASK}))
    if quoted and "\n" not in text and 'tasks": [' in text:
        text = json.dumps({"response": text})
    rows = parse_json(ParsedReply(text))
    assert [(row.instruction, row.reason) for row in rows] == [(TASK["instruction"], "")] * 2


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
def test_the_last_of_several_lists_is_the_answer(text):
    draft = json.dumps({"tasks": [{**TASK, "output": "draft"}]})
    rows = parse_json(
        ParsedReply(text.format(draft=draft, answer=json.dumps({"tasks": [TASK] * 2})))
    )
    assert [row.output for row in rows] == [TASK["output"]] * 2


def test_a_draft_before_a_truncated_answer_is_no_row():
    draft, answer = json.dumps({"tasks": [TASK]}), json.dumps({"tasks": [TASK, TASK]})
    for length, kept in ((30, []), (len(answer) - 20, [""])):
        rows = parse_json(ParsedReply(f"{draft}\nFinal answer:\n{answer[:length]}", truncated=True))
        assert reasons(rows) == [*kept, "truncated"]


def test_a_later_list_without_a_record_is_no_answer():
    text = json.dumps({"tasks": [TASK]}) + '\nI kept to the form {"tasks": [{"instruction": ...}]}'
    assert [row.output for row in parse_json(ParsedReply(text))] == [TASK["output"]]


def test_records_beyond_the_number_asked_for_are_kept():
    assert reasons(from_json([TASK] * 12)) == [""] * 12


def test_a_draft_in_the_reasoning_is_no_row():
    draft = json.dumps({"tasks": [{**TASK, "output": "draft"}]})
    for before in (f"<think>\n{draft}\n</think>\n\n", f"{draft}\nToo easy.\n</think>\n"):
        (row,) = from_json([TASK], before)
        assert row.output == TASK["output"]


def test_nothing_but_reasoning_is_no_reply_or_truncated():
    text = f"<think>{json.dumps({'tasks': [TASK]})}"
    assert reasons(parse_json(ParsedReply(text + "</think>"))) == ["no_reply"]
    assert reasons(parse_json(ParsedReply(text, truncated=True))) == ["truncated"]


@pytest.mark.parametrize("value", ["[" * 900 + "]" * 900, "[" * 90_000, "9" * 5000, "1e999"])
def test_deep_and_huge_values_cost_their_record_at_most(value):
    text = '{"tasks": [%s, {"instruction": "Add.", "input": %s, "output": "x"}]}'
    rows = parse_json(ParsedReply(text % (json.dumps(TASK), value)))
    assert rows[0].reason == "" and len(rows) == 2


# -- numbered text -----------------------------------------------------------------------------

NUMBERED = ("{0}. Instruction:", "{0}. Input:", "{0}. Output:")
COUNTED = ("{1}. Instruction:", "{2}. Input:", "{3}. Output:")
PAIRS = [("Add two numbers in Python.", "1 2", "print(1 + 2)"), ("Say hi.", "", "print('hi')")]


def heads(instruction, given, output, between="###\n"):
    """A writer of two records: the three headings as templates of the record's place."""

    def write(place, pair):
        task, data, answer = pair
        text = f"{instruction.format(*numbers(place))} {task}\n"
        if given:
            text += f"{given.format(*numbers(place))}\n{data or '<noinput>'}\n"
        return text + f"{output.format(*numbers(place))}\n{answer}\n"

    return between.join(write(place, pair) for place, pair in enumerate(PAIRS))


def numbers(place):
    """4, 5; 5 6 7, 8 9 10; 1 2 3 again and again."""
    return 4 + place, 5 + 3 * place, 6 + 3 * place, 7 + 3 * place


@pytest.mark.parametrize(
    "text",
    [
        heads(*NUMBERED),
        heads(*COUNTED),
        heads(*COUNTED, between="\n"),
        heads("1. Instruction:", "2. Input:", "3. Output:", between="\n"),
        heads("**{0}. Instruction:**", "**{0}. Input:**", "**{0}. Output:**", between="\n---\n"),
        heads("{0}. **Instruction**:", "{0}. **Input**:", "{0}. **Output**:"),
        heads("## {0}. Instruction:", "## {0}. Input:", "## {0}. Output:", between="\n"),
        heads("### Instruction {0}:", "### Input {0}:", "### Output {0}:", between="\n"),
        heads("{0}) INSTRUCTION:", "{0}) INPUT:", "{0}) OUTPUT:"),
        heads("{0}. instruction:", "{0}. input:", "{0}. output:"),
        heads("{0}. Instructions:", "{0}. Inputs:", "{0}. Output (Python):"),
        heads("Instruction:", "Input:", "Output:", between="\n"),
        heads("**Instruction:**", "**Input:**", "**Output:**", between="\n"),
        heads("# Instruction:", "# Input:", "# Output:", between="\n### Task 5\n"),
        "Sure! Here they are:\n\n" + heads(*NUMBERED),
        "```\n" + heads(*COUNTED) + "```",
        "<think>\n1. Instruction: no\n</think>\n" + heads(*NUMBERED),
    ],
)  # fmt: skip
def test_records_are_instruction_input_output_whatever_their_headings(text):
    rows = parse_numbered(ParsedReply(text))
    assert [(row.instruction, row.input, row.output, row.reason) for row in rows] == [
        (*pair, "") for pair in PAIRS
    ]


def test_input_may_be_missing_and_the_language_is_inferred():
    rows = parse_numbered(ParsedReply(heads("{1}. Instruction:", "", "{2}. Output:")))
    assert [(row.instruction, row.input, row.output, row.language) for row in rows] == [
        (PAIRS[0][0], "", PAIRS[0][2], "python"),
        (PAIRS[1][0], "", PAIRS[1][2], "python"),
    ]


def test_an_answer_may_continue_the_prompt_or_head_its_first_record_again():
    rest = "\n5. Input:\n<noinput>\n6. Output:\nprint(1)\n"
    for text in (" Print one." + rest, "4. Instruction: Print one." + rest):
        (row,) = parse_numbered(ParsedReply(text), prefix="4. Instruction:")
        assert (row.instruction, row.output) == ("Print one.", "print(1)")
    (row,) = parse_numbered(
        ParsedReply(" Print one.\nInput:\n<noinput>\nOutput:\nprint(1)"), prefix="4. Instruction:"
    )
    assert (row.instruction, row.output) == ("Print one.", "print(1)")
    text = "Of course!\n\n4. Instruction: Print one." + rest
    talk, row = parse_numbered(ParsedReply(text), prefix="4. Instruction:")
    assert talk.reason == "malformed" and row.instruction == "Print one."


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    # Input: 3\n    # Output: 9\n    return x * x",
        "Input: a number\nOutput: its square",
        "# Output: 9\nprint(9)\n2. Input: is not read\n20. Instruction is a word",
        "### Instruction:\n{instruction}\n\n### Response:",
        "**Input**\nthe list, **Output**: its sum",
    ],
)
def test_headings_that_an_answer_quotes_stay_in_it(code):
    text = (
        f"4. Instruction: One.\n4. Input:\nx\n4. Output:\n{code}\n###\n"
        "7. Instruction: Two.\n8. Output:\ny"
    )
    rows = parse_numbered(ParsedReply(text))
    assert [(row.instruction, row.output, row.reason) for row in rows] == [
        ("One.", code, ""), ("Two.", "y", ""),
    ]  # fmt: skip


def test_a_record_without_output_is_malformed_alone_and_the_last_of_a_cut_reply_is_dropped():
    text = heads(*NUMBERED)
    broken = "###\n9. Instruction: Nothing follows.\n# Output: a comment\n"
    assert reasons(parse_numbered(ParsedReply(text + broken))) == ["", "", "malformed"]
    assert reasons(parse_numbered(ParsedReply(text, truncated=True))) == ["", "truncated"]


@pytest.mark.parametrize(
    "piece",
    ["1. Instruction:\n", "# Output:\n", "**Input**\n", "x", "1. Instruction:\n1. Output:\n"],
)
def test_a_megabyte_of_headings_is_read_in_linear_time(piece):
    rows = parse_numbered(ParsedReply("```\n" + piece * (1_000_000 // len(piece)), truncated=True))
    assert rows[-1].reason == "truncated"
