"""Seed tasks are validated when they are read, and rows have the columns of the contract."""

from __future__ import annotations

import gzip
import json

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import (
    COLUMNS,
    OPTIONAL_COLUMNS,
    Example,
    content_id,
    features,
    load_seed_tasks,
)

ADD = f"seed_{content_id('Add two numbers.', '', 'a + b')}"
GOOD = json.dumps({"instruction": "Add two numbers.", "input": "", "output": "a + b"})


def test_rows_have_the_columns_of_the_contract_in_order():
    assert COLUMNS == (
        "instruction", "input", "output", "id", "language", "strategy", "teacher",
        "prompt_version", "seed_ids", "request_id", "nearest_id", "nearest_score", "tests",
        "verification", "contamination", "created_at",
    )  # fmt: skip
    assert tuple(features()) == COLUMNS == tuple(Example("i", "", "o").as_row())
    assert tuple(features("rejected")) == (*COLUMNS, "reason", "evidence")


def test_optional_columns_have_their_place_and_are_left_out_of_a_row_without_them():
    names = list(features(optional=OPTIONAL_COLUMNS))
    assert [name for name in names if name in COLUMNS] == list(COLUMNS)
    assert names.index("test_strength") == names.index("verification") + 1
    assert names[-1] == "reasoning"
    row = Example("i", "", "o", test_strength=0.0, reasoning="r").as_row()
    assert list(row) == names and row["test_strength"] == 0.0


def test_a_unicode_line_separator_in_a_string_does_not_end_the_line(tmp_path):
    path = tmp_path / "seeds.jsonl"
    path.write_text('{"instruction": "Split on \u2028 please", "output": "x"}\n', encoding="utf-8")
    assert load_seed_tasks(path)[0].instruction == "Split on \u2028 please"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{broken", "line 2: not JSON"),
        ('["a"]', "line 2: not a JSON object"),
        ('{"instruction": "x", "output": ""}', "line 2: 'output' must be text"),
        ('{"instruction": "x", "output": 3}', "line 2: 'output' is a number, not text"),
        ('{"instruction": "x", "output": "y", "inptu": ""}', "line 2: unknown key 'inptu'"),
        (f'{{"instruction": "x", "output": "y", "id": "{ADD}"}}', f"have the same id '{ADD}'"),
        ('{"instruction": "x", "output": "y", "tests": ["z"]}', "line 2: 'tests' must be text"),
        (
            '{"instruction": "x", "output": "y", "output": "z"}',
            "line 2: has the key 'output' twice",
        ),
        (
            '{"instruction": "x", "output": "<think>y</think>z"}',
            "line 2: 'output' contains a model",
        ),
        ('{"instruction": "x", "input": 5, "output": "y"}', "line 2: 'input' is a number, not"),
    ],
)
def test_an_invalid_seed_task_is_named_by_its_line(tmp_path, line, message):
    path = tmp_path / "seeds.jsonl"
    path.write_text(f"{GOOD}\n{line}\n")
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        load_seed_tasks(path)


RECORD = {"instruction": "Add two numbers.", "input": None, "output": "a + b", "tests": None}
LINE = json.dumps(RECORD)
SELF_INSTRUCT = {
    "id": "seed_task_0", "name": "add", "instruction": "Add two numbers.",
    "instances": [{"input": "", "output": "a + b"}], "is_classification": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "ids"),
    [
        ("seeds.jsonl", f"\n{LINE}\n{LINE}\n".encode("utf-8-sig"), [ADD, f"{ADD}_2"]),
        ("seeds.json", json.dumps([RECORD, RECORD]).encode("utf-16"), [ADD, f"{ADD}_2"]),
        ("seeds.jsonl.gz", gzip.compress(LINE.encode(), mtime=0), [ADD]),
        ("seeds.csv", b"instruction,output\r\nAdd two numbers.,a + b\r\n", [ADD]),
        ("seed_tasks.jsonl", json.dumps(SELF_INSTRUCT).encode(), ["seed_task_0"]),
        ("seeds.jsonl", b'{"problem": "Add two numbers.", "solution": "a + b"}', [ADD]),
    ],
)
def test_seed_tasks_in_other_formats_are_read(tmp_path, name, content, ids):
    path = tmp_path / name
    path.write_bytes(content)
    tasks = load_seed_tasks(path)
    assert [task.id for task in tasks] == ids
    for task in tasks:
        assert (task.instruction, task.input, task.output) == ("Add two numbers.", "", "a + b")
        assert task.tests == ""


def test_empty_and_missing_seed_files_are_refused(tmp_path):
    path = tmp_path / "seeds.jsonl"
    path.write_text("\n\n")
    with pytest.raises(InputError, match="contains no task"):
        load_seed_tasks(path)
    with pytest.raises(InputError, match="cannot read seed tasks"):
        load_seed_tasks(tmp_path / "none.jsonl")


def test_the_id_of_a_row_depends_on_each_field():
    assert content_id("a", "b", "c") == content_id("a", "b", "c")
    rows = [("ab", "", "c"), ("a", "b", "c"), ("a", "", "bc")]
    assert len({content_id(*row) for row in rows}) == 3
