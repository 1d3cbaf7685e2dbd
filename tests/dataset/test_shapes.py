"""Datasets in the forms of other projects are read row by row, and their form is printed."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.row_formats import COLUMN_PAIRS
from code_alpaca.dataset.load import load_rows

pytestmark = pytest.mark.usefixtures("without_plots")
KEYS = ("instruction", "input", "output")
TASKS = [
    ("Write a function that doubles a number.", "", "def double(x):\n    return 2 * x"),
    ("Fix this loop, please: it never ends.", "while True: pass", "for _ in range(3): pass"),
]
SYSTEM = "You are an expert programmer."


def to_jsonl(records):
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def to_json(records):
    return json.dumps(records, indent=2).encode()


def to_csv(records, delimiter=","):
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, list(records[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(records)
    return sink.getvalue().encode()


def to_parquet(records):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), sink)
    return sink.getvalue()


def to_zstd(content):
    return pa.compress(content, codec="zstd", asbytes=True)


def chat(*texts, system="", names=("role", "content"), speakers=("user", "assistant")):
    turns = [{names[0]: "system", names[1]: system}] if system else []
    return turns + [
        {names[0]: speakers[index % 2], names[1]: text} for index, text in enumerate(texts)
    ]


def sharegpt(*texts, system=""):
    return chat(*texts, system=system, names=("from", "value"), speakers=("human", "gpt"))


(ASK, _, ANSWER), (ASK_2, INPUT_2, ANSWER_2) = TASKS
WITHOUT_INPUT = [(ASK, "", ANSWER), (ASK_2, "", ANSWER_2)]
# File name: its content, its rows, and the line that names its form.
FILES = {
    "code_alpaca.json": (
        to_json([
            {"instruction": ASK, "input": None, "output": ANSWER},
            {"instruction": ASK_2, "input": INPUT_2, "output": ANSWER_2},
        ]),
        TASKS,
        "2 rows in Alpaca form",
    ),
    "sharegpt.json": (
        to_json([
            {"id": "a_0", "conversations": sharegpt(ASK, ANSWER)},
            {"id": "a_1", "conversations": sharegpt(ASK_2, ANSWER_2, system=SYSTEM)},
        ]),
        WITHOUT_INPUT,
        "2 rows in ShareGPT form (conversations); 1 with a system prompt, which is not read",
    ),
    "openai.jsonl": (
        to_jsonl([
            {"messages": chat(ASK, ANSWER, system=SYSTEM)},
            {"messages": chat(ASK_2, ANSWER_2, system=f"{SYSTEM} Be brief.")},
        ]),
        WITHOUT_INPUT,
        "2 rows in chat form (messages); 2 with a system prompt (2 different), which is not read",
    ),
    "trl.jsonl": (
        to_jsonl([
            {"prompt": chat(ASK, system=SYSTEM), "completion": chat("", ANSWER)[1:]},
            {"prompt": chat(ASK_2), "completion": ANSWER_2},
        ]),
        WITHOUT_INPUT,
        "2 rows in prompt/completion form (prompt is instruction, completion is output); 1 with a "
        "system prompt, which is not read",
    ),
    "code_alpaca_20k.parquet": (
        to_parquet([{"prompt": ASK, "completion": ANSWER}, {"prompt": ASK_2,
                                                            "completion": ANSWER_2}]),
        WITHOUT_INPUT,
        "2 rows in prompt/completion form (prompt is instruction, completion is output)",
    ),
    "evol_instruct.jsonl.gz": (
        gzip.compress(to_jsonl([{"instruction": ASK, "response": ANSWER},
                                {"instruction": ASK_2, "response": ANSWER_2}]), mtime=0),
        WITHOUT_INPUT,
        "2 rows in instruction/response form (response is output)",
    ),
    "magicoder.jsonl.zst": (
        to_zstd(to_jsonl([
            {"lang": "python", "raw_index": 7, "seed": "x", "problem": ASK, "solution": ANSWER},
            {"lang": "python", "raw_index": 9, "seed": "y", "problem": ASK_2,
             "solution": ANSWER_2},
        ])),
        WITHOUT_INPUT,
        "2 rows in problem/solution form (problem is instruction, solution is output)",
    ),
    "glaive.csv": (
        to_csv([{"question": ASK, "answer": ANSWER}, {"question": ASK_2, "answer": ANSWER_2}]),
        WITHOUT_INPUT,
        "2 rows in question/answer form (question is instruction, answer is output)",
    ),
    "codefeedback.tsv.gz": (
        gzip.compress(to_csv([
            {"query": ASK, "response": ANSWER, "resource": "a", "lang": "python"},
            {"query": ASK_2, "response": ANSWER_2, "resource": "b", "lang": ""},
        ], "\t"), mtime=0),
        WITHOUT_INPUT,
        "2 rows in query/response form (query is instruction, response is output)",
    ),
    "seed_tasks.jsonl": (
        to_jsonl([
            {"id": "seed_task_0", "name": "double", "instruction": ASK, "is_classification": False,
             "instances": [{"input": "", "output": ANSWER}]},
            {"id": "seed_task_1", "name": "loop", "instruction": ASK_2, "is_classification": False,
             "instances": [{"input": INPUT_2, "output": ANSWER_2}]},
        ]),
        TASKS,
        "2 rows in Self-Instruct form (instances)",
    ),
    "dolly.jsonl.bz2": (
        bz2.compress(to_jsonl([
            {"instruction": ASK, "context": "", "response": ANSWER, "category": "open_qa"},
            {"instruction": ASK_2, "context": INPUT_2, "response": ANSWER_2, "category": "closed"},
        ])),
        TASKS,
        "2 rows in instruction/response form (response is output, context is input)",
    ),
    "opencode.parquet": (
        to_parquet([{"id": "1", "input": ASK, "output": ANSWER, "domain": "generic"},
                    {"id": "2", "input": ASK_2, "output": ANSWER_2, "domain": "generic"}]),
        WITHOUT_INPUT,
        "2 rows in input/output form (input is instruction)",
    ),
    "llama_factory.json": (
        to_json([
            {"instruction": ASK, "input": "", "output": ANSWER, "system": SYSTEM, "history": []},
            {"instruction": ASK_2, "input": INPUT_2, "output": ANSWER_2, "system": "",
             "history": []},
        ]),
        TASKS,
        "2 rows in Alpaca form; 1 with a system prompt, which is not read",
    ),
    "chat.csv": (
        to_csv([{"source": "forum", "messages": json.dumps(chat(*pair))}
                for pair in ((ASK, ANSWER), (ASK_2, ANSWER_2))]),
        WITHOUT_INPUT,
        "2 rows in chat form (messages)",
    ),
}  # fmt: skip


def load(path, **options):
    """Return the rows of a dataset as tuples, and the lines logged while they were loaded."""
    lines = []
    rows, _ = load_rows(str(path), log=lines.append, **options)
    return [tuple(row[key] for key in KEYS) for row in rows], lines


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_another_project_is_imported_row_by_row(tmp_path, capsys, name):
    content, rows, form = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    loaded, lines = load(path)
    assert loaded == rows
    assert lines == ([] if form == "2 rows in Alpaca form" else [f"{path}: {form}"])
    words = ["--source", str(path), "--run_dir", str(tmp_path / "run"), "--verify", "false"]
    assert main(["curate", *words, "--filters", "none", "--novelty_threshold", "1"]) == 0
    assert f"curate    {path}: {form}\n" in capsys.readouterr().out
    curated = load_dataset(str(tmp_path / "run/dataset"), split="train")
    assert [tuple(row[key] for key in KEYS) for row in curated] == rows


def as_pair(task, response):
    return lambda row: {task: row[0], "input": row[1], response: row[2]}


SHAPES = {
    "Alpaca": as_pair("instruction", "output"),
    **{f"{task}/{response}": as_pair(task, response) for task, response in COLUMN_PAIRS},
    "messages": lambda row: {"messages": chat(row[0], row[2])},
    "ShareGPT": lambda row: {"conversations": sharegpt(row[0], row[2])},
    "turn columns": lambda row: {
        "conversations": {"from": ["human", "gpt"], "value": [row[0], row[2]]}
    },
    "lists of messages": lambda row: {
        "prompt": chat(row[0]), "completion": chat("", row[2])[1:],
    },
    "instances": lambda row: {
        "instruction": row[0], "instances": [{"input": row[1], "output": row[2]}],
    },
}  # fmt: skip
CONTAINERS = {"json": to_json, "jsonl": to_jsonl, "parquet": to_parquet, "csv": to_csv}
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
ROWS = st.lists(
    st.tuples(TEXT.filter(str.strip), TEXT, TEXT.filter(str.strip)), min_size=1, max_size=4
)


@pytest.mark.parametrize("shape", SHAPES)
@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=ROWS, container=st.sampled_from([*CONTAINERS]))
def test_rows_written_in_a_shape_are_read_back(tmp_path, shape, rows, container):
    records = [SHAPES[shape](row) for row in rows]
    has_input = "input" in records[0] or "instances" in records[0]
    if container == "csv":  # a cell is text: nested values are JSON, as in an export
        records = [
            {key: text if isinstance(text, str) else json.dumps(text) for key, text in row.items()}
            for row in records
        ]
        if shape in ("lists of messages", "instances"):
            return  # these are not recognized in text
    path = tmp_path / f"rows.{container}"
    path.write_bytes(CONTAINERS[container](records))
    expected = [(task, text if has_input else "", answer) for task, text, answer in rows]
    assert load(path)[0] == expected


LONG = chat(ASK, ANSWER, "And for a list?", "def double_all(xs): ...")
CONVERSATIONS = {
    "messages.jsonl": to_jsonl([{"messages": LONG}, {"messages": chat(ASK_2, ANSWER_2)}]),
    "sharegpt.json": to_json([
        {"conversations": sharegpt(*(turn["content"] for turn in LONG), system=SYSTEM)},
        {"conversations": sharegpt(ASK_2, ANSWER_2)},
    ]),
    "trl.parquet": to_parquet([
        {"prompt": LONG[:3], "completion": LONG[3:]},
        {"prompt": chat(ASK_2), "completion": chat("", ANSWER_2)[1:]},
    ]),
    "history.json": to_json([
        {"instruction": "And for a list?", "output": "...", "history": [[ASK, ANSWER]]},
        {"instruction": ASK_2, "output": ANSWER_2, "history": []},
    ]),
}  # fmt: skip


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_longer_conversations_are_refused_or_their_first_turn_is_read(tmp_path, name, capsys):
    path = tmp_path / name
    path.write_bytes(CONVERSATIONS[name])
    with pytest.raises(InputError) as refusal:
        load(path)
    assert "1 of 2 rows with several turns" in str(refusal.value)
    assert "set first_turn: true" in str(refusal.value) and "\n" not in str(refusal.value)
    rows, (line,) = load(path, first_turn=True)
    assert rows == WITHOUT_INPUT
    assert "1 of several turns, of which the first is read" in line

    words = ["--source", str(path), "--verify", "false", "--filters", "none"]
    assert main(["publish", *words[:2], "--run_dir", str(tmp_path / "published")]) == 2
    assert "set first_turn: true" in capsys.readouterr().err
    assert main(["publish", *words[:2], "--run_dir", str(tmp_path / "published"),
                 "--first_turn"]) == 0  # fmt: skip
    assert load(tmp_path / "published/dataset")[0] == WITHOUT_INPUT
    card = (tmp_path / "published/dataset/README.md").read_text()
    assert "1 of several turns, of which the first is read" in card
    capsys.readouterr()
    assert main(["curate", *words, "--run_dir", str(tmp_path / "rejecting")]) == 0
    output = capsys.readouterr().out
    assert "1 row with several turns is rejected as multi_turn" in output
    assert "--first_turn" in output
    assert load(tmp_path / "rejecting/dataset")[0] == WITHOUT_INPUT[1:]
    rejected = load_dataset(str(tmp_path / "rejecting/dataset"), "rejected", split="train")[0]
    assert (rejected["reason"], rejected["instruction"]) == ("multi_turn", ASK)
    assert rejected["evidence"].startswith("row 1: has 4 turns")
    assert main(["curate", *words, "--run_dir", str(tmp_path / "first"), "--first_turn"]) == 0
    assert load(tmp_path / "first/dataset")[0] == WITHOUT_INPUT
    assert "of which the first is read" in (tmp_path / "first/dataset/README.md").read_text()


@pytest.mark.parametrize(
    ("turns", "problem"),
    [
        ([], "has the turns none; a row begins with a question"),
        (chat("Hello.", "Hi.")[1:], "has the turns assistant;"),
        (sharegpt("a", "b", "c", "d", "e", "f", "g", "h")[1:], "user, ...;"),
        ([{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}], "user, tool;"),
        ("not a conversation", "has no list of turns"),
        ([{"text": "a"}], "has no list of turns"),
        (None, "has no list of turns"),
        ([{"role": "user", "content": "a"}, {"role": "assistant", "content": None}],
         "'output' is null"),
    ],
)  # fmt: skip
def test_a_conversation_that_is_no_question_with_its_answer_is_refused(tmp_path, turns, problem):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl([{"messages": chat(ASK, ANSWER)}, {"messages": turns}]))
    with pytest.raises(InputError, match="line 2: ") as refusal:
        load(path, blank="keep")
    assert problem in str(refusal.value)


@pytest.mark.parametrize(
    ("record", "advice"),
    [
        ({"task": "a", "code": "b"}, "{instruction: task, output: code}"),
        ({"id": "1", "problem_statement": "a", "canonical_solution": "b"},
         "{instruction: problem_statement, output: canonical_solution}"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "{instruction: prompt, output: chosen}"),
        ({"text": "a b c"}, "{instruction: text, output: COLUMN}"),
        ({"task_id": 1, "text": "a", "code": "b"}, "{instruction: text, output: code}"),
        ({"id": "1", "chat_rounds": chat("a", "b")}, "{messages: chat_rounds}"),
    ],
)  # fmt: skip
def test_an_unknown_shape_is_refused_with_its_columns_and_a_map_to_paste(tmp_path, record, advice):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl([record]))
    with pytest.raises(InputError) as refusal:
        load(path)
    message = str(refusal.value)
    assert f"{path} has the columns {', '.join(record)}" in message and "\n" not in message
    assert message.endswith(f"--column_map '{advice}'")


def test_the_proposed_map_reads_the_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(to_jsonl([{"id": "1", "chat_rounds": chat(ASK, ANSWER, system=SYSTEM)}]))
    rows, (line,) = load(path, column_map={"messages": "chat_rounds"})
    assert rows == WITHOUT_INPUT[:1]
    assert "1 row in chat form (chat_rounds); 1 with a system prompt" in line
    path.write_bytes(to_jsonl([{"text": ASK, "code": ANSWER, "test_list": ["assert True"]}]))
    column_map = {"instruction": "text", "output": "code", "tests": "test_list"}
    rows, (line,) = load(path, column_map=column_map)
    assert rows == WITHOUT_INPUT[:1]
    assert "1 row in mapped form (text is instruction, code is output, test_list is tests)" in line
    words = ["--source", str(path), "--column_map", json.dumps(column_map).replace('"', "")]
    assert main(["publish", *words, "--run_dir", str(tmp_path / "run")]) == 0
    published = load_dataset(str(tmp_path / "run/dataset"), split="train")[0]
    assert published["tests"] == "assert True", "a list of statements is joined"
    with pytest.raises(InputError, match="sets messages and output, which is a part of them"):
        load(path, column_map={"messages": "text", "output": "code"})


def test_an_instruction_is_preferred_to_the_prompt_that_the_teacher_was_sent(tmp_path):
    path = tmp_path / "self_oss_instruct.jsonl"
    record = {"prompt": "long", "seed": "x", "response": ANSWER, "instruction": ASK, "id": 3}
    path.write_bytes(to_jsonl([record]))
    assert load(path) == (
        WITHOUT_INPUT[:1],
        [f"{path}: 1 row in instruction/response form (response is output)"],
    )


def test_a_null_instruction_or_output_is_rejected_like_an_empty_one(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"instruction": ASK, "input": None, "output": ANSWER},
        {"instruction": None, "input": "", "output": ANSWER_2},
        {"instruction": ASK_2, "input": "", "output": None},
        {"instruction": "", "input": "", "output": "x"},
    ]
    path.write_bytes(to_jsonl(rows))
    words = ["curate", "--source", str(path), "--run_dir", str(tmp_path / "run")]
    assert main([*words, "--verify", "false"]) == 0
    assert load(tmp_path / "run/dataset")[0] == WITHOUT_INPUT[:1]
    rejected = load_dataset(str(tmp_path / "run/dataset"), "rejected", split="train")
    assert rejected["reason"][:] == ["empty"] * 3
    assert rejected["evidence"][:2] == [
        "row 2: 'instruction' is null", "row 3: 'output' is null",
    ]  # fmt: skip
    texts = [rejected[key][:] for key in KEYS]
    assert "None" not in {text for column in texts for text in column}
