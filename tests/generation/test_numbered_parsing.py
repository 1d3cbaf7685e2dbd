"""Numbered text as models write it: Instruction, Input and Output under any headings."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.generation.numbered_parsing import parse_numbered
from code_alpaca.teacher.reply_parsing import ParsedReply, parse_reply

PIECES = [
    "#", "1. ", "1. Instruction:", '{"tasks": [', "[", "\\", '"', ",", "\n", " ", "\n ", "{\n",
]  # fmt: skip


def reasons(rows):
    return [row.reason for row in rows]


def numbered(records, numbers, newline="\n"):
    """Return text as a base model writes it."""
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


def fits_in_a_record(text):
    """Return whether a text has no heading and no blanks or separator at its end."""
    return text == text.strip() and text.rstrip("#") == text and text and "Instruction:" not in text


RECORDS = st.fixed_dictionaries(
    {
        "instruction": TEXT.filter(lambda t: fits_in_a_record(t) and "\n" not in t),
        "input": st.just("<noinput>") | LINES.filter(fits_in_a_record),
        "output": LINES.filter(fits_in_a_record),
    }
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(RECORDS, min_size=1, max_size=5),
    st.lists(st.integers(1, 5), min_size=5, max_size=5),
    st.sampled_from(["\n", "\r\n"]),
)
def test_every_numbered_record_is_parsed_also_where_numbers_are_skipped(records, steps, newline):
    numbers = [sum(steps[: place + 1]) for place in range(len(records))]
    rows = read_numbered(numbered(records, numbers, newline))
    assert [(row.instruction, row.input, row.output, row.reason) for row in rows] == [
        (r["instruction"], "" if r["input"] == "<noinput>" else r["input"], r["output"], "")
        for r in records
    ]


@settings(max_examples=250, deadline=None)
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
            assert value in text or value in text.replace("\r\n", "\n"), "parts of the text"
    if finish_reason == "length":
        assert rows[-1].reason, "the last record of a truncated reply is incomplete"


def test_headings_inside_code_remain_content():
    code = "x = 20.\n20. is a float\n### a comment\nprint('3. Input:')\n### the end"
    text = (
        f"1. Instruction: One.\n1. Input:\n<noinput>\n1. Output:\n{code}\n###\n"
        "4. Instruction: Four.\n4. Input:\ndata\n4. Output:\nfour\n"
    )
    assert [(row.instruction, row.input, row.output) for row in read_numbered(text)] == [
        ("One.", "", code),
        ("Four.", "data", "four"),
    ]


def test_a_byte_order_mark_and_a_prefix_cost_no_record():
    record = "\n1. Input:\n<noinput>\n1. Output:\nfour\n"
    (row,) = read_numbered("\ufeff1. Instruction: Add." + record)
    assert (row.instruction, row.output, row.reason) == ("Add.", "four", "")
    (row,) = read_numbered(" Add." + record, prefix="1. Instruction:")
    assert (row.instruction, row.output, row.reason) == ("Add.", "four", "")


# -- headings ------------------------------------------------------------------------------------

NUMBERED = ("{0}. Instruction:", "{0}. Input:", "{0}. Output:")
COUNTED = ("{1}. Instruction:", "{2}. Input:", "{3}. Output:")
PAIRS = [("Add two numbers in Python.", "1 2", "print(1 + 2)"), ("Greet me.", "", "print('hi')")]


def render(instruction, task_input, output, between="###\n"):
    """Return two records; the headings are templates over the numbers of a record."""

    def write(place, pair):
        task, data, answer = pair
        text = f"{instruction.format(*numbers_of_record(place))} {task}\n"
        if task_input:
            text += f"{task_input.format(*numbers_of_record(place))}\n{data or '<noinput>'}\n"
        return text + f"{output.format(*numbers_of_record(place))}\n{answer}\n"

    return between.join(write(place, pair) for place, pair in enumerate(PAIRS))


def numbers_of_record(place):
    """4, 5; 5 6 7, 8 9 10; 1 2 3 again and again."""
    return 4 + place, 5 + 3 * place, 6 + 3 * place, 7 + 3 * place


@pytest.mark.parametrize(
    "text",
    [
        render(*NUMBERED),
        render(*COUNTED),
        render(*COUNTED, between="\n"),
        render("1. Instruction:", "2. Input:", "3. Output:", between="\n"),
        render("**{0}. Instruction:**", "**{0}. Input:**", "**{0}. Output:**", between="\n---\n"),
        render("{0}. **Instruction**:", "{0}. **Input**:", "{0}. **Output**:"),
        render("## {0}. Instruction:", "## {0}. Input:", "## {0}. Output:", between="\n"),
        render("### Instruction {0}:", "### Input {0}:", "### Output {0}:", between="\n"),
        render("{0}) INSTRUCTION:", "{0}) INPUT:", "{0}) OUTPUT:"),
        render("{0}. instruction:", "{0}. input:", "{0}. output:"),
        render("{0}. Instructions:", "{0}. Inputs:", "{0}. Output (Python):"),
        render("Instruction:", "Input:", "Output:", between="\n"),
        render("**Instruction:**", "**Input:**", "**Output:**", between="\n"),
        render("# Instruction:", "# Input:", "# Output:", between="\n### Task 5\n"),
        "Sure! Here they are:\n\n" + render(*NUMBERED),
        "```\n" + render(*COUNTED) + "```",
        "<think>\n1. Instruction: no\n</think>\n" + render(*NUMBERED),
    ],
)  # fmt: skip
def test_headings_may_be_written_in_many_ways(text):
    rows = parse_numbered(ParsedReply(text))
    assert [(row.instruction, row.input, row.output, row.reason) for row in rows] == [
        (*pair, "") for pair in PAIRS
    ]


def test_the_input_may_be_missing_and_the_language_is_detected():
    rows = parse_numbered(ParsedReply(render("{1}. Instruction:", "", "{2}. Output:")))
    assert [(row.instruction, row.input, row.output, row.language) for row in rows] == [
        (PAIRS[0][0], "", PAIRS[0][2], "python"),
        (PAIRS[1][0], "", PAIRS[1][2], "python"),
    ]


def test_a_reply_may_continue_the_prompt_or_repeat_its_heading():
    rest = "\n5. Input:\n<noinput>\n6. Output:\nprint(1)\n"
    for text in (" Print one." + rest, "4. Instruction: Print one." + rest):
        (row,) = parse_numbered(ParsedReply(text), prefix="4. Instruction:")
        assert (row.instruction, row.output) == ("Print one.", "print(1)")
    (row,) = parse_numbered(
        ParsedReply(" Print one.\nInput:\n<noinput>\nOutput:\nprint(1)"), prefix="4. Instruction:"
    )
    assert (row.instruction, row.output) == ("Print one.", "print(1)")
    text = "Of course!\n\n4. Instruction: Print one." + rest
    preamble, row = parse_numbered(ParsedReply(text), prefix="4. Instruction:")
    assert preamble.reason == "malformed" and row.instruction == "Print one."


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
def test_headings_that_an_output_quotes_remain_content(code):
    text = (
        f"4. Instruction: One.\n4. Input:\nx\n4. Output:\n{code}\n###\n"
        "7. Instruction: Two.\n8. Output:\ny"
    )
    rows = parse_numbered(ParsedReply(text))
    assert [(row.instruction, row.output, row.reason) for row in rows] == [
        ("One.", code, ""), ("Two.", "y", ""),
    ]  # fmt: skip


def test_a_record_without_output_is_malformed_and_the_last_of_a_truncated_reply_is_rejected():
    text = render(*NUMBERED)
    broken = "###\n9. Instruction: Nothing follows.\n# Output: a comment\n"
    assert reasons(parse_numbered(ParsedReply(text + broken))) == ["", "", "malformed"]
    assert reasons(parse_numbered(ParsedReply(text, truncated=True))) == ["", "truncated"]


@pytest.mark.parametrize(
    "piece",
    ["1. Instruction:\n", "# Output:\n", "**Input**\n", "x", "1. Instruction:\n1. Output:\n"],
)
def test_a_megabyte_of_headings_is_rejected(piece):
    rows = parse_numbered(ParsedReply("```\n" + piece * (1_000_000 // len(piece)), truncated=True))
    assert rows[-1].reason == "truncated"
