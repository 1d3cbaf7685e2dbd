"""Datasets of any origin: every known encoding and shape is read, all others are refused."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hub_client import create_repo

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.dataset import load
from code_alpaca.dataset.importing import import_dataset
from code_alpaca.dataset.load import load_rows
from code_alpaca.dataset.source import DatasetSource

pytestmark = pytest.mark.usefixtures("without_plots")
ROWS = [
    {"instruction": "Écris une fonction.", "input": "", "output": "def f(x):\r\n\treturn 2*x"},
    {"instruction": "Print a \u2028 in a text.", "input": "x, y", "output": 'print("\u2028")'},
    {"instruction": "Quote \"it\", 'so' and \\.", "input": "a\nb", "output": "日本語 \U0001f999"},
]
KEYS = ("instruction", "input", "output")
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
GOOD = json.dumps({"instruction": "Add two numbers, please.", "input": "", "output": "a + b"})
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Add two numbers."},
    {"role": "assistant", "content": "a + b"},
]
SHAREGPT = [{"from": "human", "value": "Add two numbers."}, {"from": "gpt", "value": "a + b"}]


def csv_line(row, delimiter=","):
    return delimiter.join('"' + row[key].replace('"', '""') + '"' for key in KEYS)


def to_parquet(rows):
    sink = io.BytesIO()
    pq.write_table(rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def to_zstd(text):
    return pa.compress(text.encode(), codec="zstd", asbytes=True)


def read(path, content, **options):
    """Write a file, and return its rows and the lines logged while they were loaded."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    log = []
    rows, _ = load_rows(str(path), log=log.append, **options)
    return [{key: row[key] for key in KEYS} for row in rows], log


CSV = "instruction,input,output\r\n" + "\r\n".join(map(csv_line, ROWS)) + "\r\n"
TSV = "\n".join(["\t".join(KEYS), *(csv_line(row, "\t") for row in ROWS)])
FILES = {
    "rows.jsonl": LINES,
    "bom.jsonl": b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode(),
    "commas.jsonl": LINES.replace("}\n", "},\n\n"),
    "pretty.json": "\n".join(json.dumps(row, indent=1) for row in ROWS),
    "list.json": json.dumps(ROWS, indent=2),
    "trailing.json": "[\n" + LINES.replace("}\n", "},\n") + "]\n",
    "utf16.json": json.dumps(ROWS, ensure_ascii=False).encode("utf-16"),
    "utf16le.json": json.dumps(ROWS, ensure_ascii=False).encode("utf-16-le"),
    "wrapped.json": json.dumps({"version": 1, "data": ROWS}),
    "viewer.json": json.dumps({"rows": [{"row_idx": 0, "row": row} for row in ROWS]}),
    "columns.json": json.dumps({key: [row[key] for row in ROWS] for key in KEYS}),
    "pandas.json": json.dumps({key: {n: row[key] for n, row in enumerate(ROWS)} for key in KEYS}),
    "split.json": json.dumps({"columns": KEYS, "data": [[*row.values()] for row in ROWS]}),
    "rows.csv": CSV,
    "excel.csv": CSV.encode("utf-16"),
    "rows.tsv": TSV,
    "rows.parquet": to_parquet(ROWS),
    "joined.jsonl": "\ufeff" + LINES.replace("}\n", "}\n\ufeff").removesuffix("\ufeff"),
    "rows.jsonl.gz": gzip.compress(LINES.encode(), mtime=0),
    "rows.csv.bz2": bz2.compress(CSV.encode()),
    "rows.json.xz": lzma.compress(json.dumps(ROWS).encode()),
    "rows.tsv.zst": to_zstd(TSV),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_every_encoding_and_container_gives_the_same_rows(tmp_path, name):
    assert read(tmp_path / name, FILES[name]) == (ROWS, [])


@pytest.mark.parametrize(
    ("record", "note"),
    [
        ({"Instruction": "Add two numbers.", "Output": "a + b"}, "Instruction is instruction"),
        ({"problem": "Add two numbers.", "solution": "a + b", "lang": "python"}, "problem is"),
        ({"prompt": "Add two numbers.", "completion": "a + b"}, "prompt is instruction"),
        ({"question": "Add two numbers.", "answer": "a + b", "context": ""}, "context is input"),
        ({"messages": CHAT}, "1 row in chat form (messages)"),
        ({"messages": CHAT[1:]}, "1 row in chat form (messages)"),
        ({"id": "0", "conversations": SHAREGPT}, "ShareGPT form (conversations)"),
        ({"id": "seed_task_0", "instruction": "Add two numbers.", "is_classification": False,
          "instances": [{"input": "", "output": "a + b"}]}, "instances"),
    ],
)  # fmt: skip
def test_known_shapes_are_recognized_and_logged(tmp_path, record, note):
    rows, (line,) = read(tmp_path / "rows.jsonl", json.dumps(record))
    assert rows == [{"instruction": "Add two numbers.", "input": "", "output": "a + b"}]
    assert note in line


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[\"É\"]".encode("latin-1"), "byte 0xc9 is not UTF-8; convert"),
        ("a.json", f"[{GOOD}, {GOOD[:-9]}", "ends inside row 2; is the file complete"),
        ("a.json", f"[{GOOD}] {GOOD}", "text follows the end of the list"),
        ("a.json", "[{'instruction': 'a', 'output': 'b'}]", "neither a JSON list nor JSONL"),
        ("a.json", "instruction,output\na,b\n", "file must end in .csv or .tsv"),
        ("a.json", json.dumps({"train": ROWS, "test": ROWS}), "several lists of rows (train"),
        ("a.json", '{"instruction": ["a", "b"], "output": ["c"]}', "columns of different lengths"),
        ("a.csv", "instruction,output\n\"a,b\n", "not CSV"),
        ("a.csv", "instruction,output,output\na,b,c\n", "two columns named 'output'"),
        ("a.zip", b"PK\x03\x04rest", "is a zip archive; unpack it"),
        ("a.parquet", b"PAR1 and nothing more", "cannot read Parquet file"),
        ("a.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)[:40], "cannot read"),
        ("a.jsonl.zst", to_zstd(LINES)[:40], "cannot read"),
        ("a.jsonl", "version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        ("a.jsonl", '{"task": "x", "code": "y"}', "'{instruction: task, output: code}'"),
        ("a.jsonl", '{"prompt": "x", "completion": "y", "response": "z"}', "it is not clear which"),
        ("a.jsonl", json.dumps({"messages": [*CHAT, *CHAT[1:]]}), "1 of 1 row with several turns"),
        ("a.jsonl", '{"instruction": "a", "instances": []}', "has 0 instances"),
    ],
)  # fmt: skip
def test_an_unknown_format_is_refused_in_one_line(tmp_path, name, content, message):
    with pytest.raises(InputError) as refusal:
        read(tmp_path / name, content)
    assert message in str(refusal.value) and "\n" not in str(refusal.value)


BAD_ROWS = {
    '{"instruction": "a", "output": "b"': "is not JSON",
    '{"instruction": "a", "output": ' + "[" * 100_000 + "]" * 100_000 + "}": "nested too deeply",
    '{"instruction": "a", "output": ' + "9" * 5_000 + "}": "a number too long",
    '{"instruction": "old", "instruction": "new", "output": "b"}': "'instruction' twice",
    '{"instruction": "a", "output": "\\ud800"}': "'output' contains half a surrogate pair",
    '{"instruction": "a", "output": ["b"]}': "'output' is a list, not text",
    '{"instruction": "a", "input": {"n": 1}, "output": "b"}': "'input' is an object, not text",
    '{"instruction": "a", "input": 5, "output": "b"}': "'input' is a number, not text",
    '{"instruction": "a", "output": NaN}': "'output' is null",
    '{"instruction": null, "output": "b"}': "'instruction' is null",
    '{"instruction": "a"}': "'output' is missing",
    '["a", "b"]': "is not a JSON object",
}


@pytest.mark.parametrize("line", BAD_ROWS, ids=lambda line: BAD_ROWS[line])
def test_a_bad_row_is_refused_with_its_line_or_row_number(tmp_path, line):
    problem = BAD_ROWS[line]
    with pytest.raises(InputError) as refusal:
        read(tmp_path / "rows.jsonl", f"{GOOD}\n\n{line}\n{GOOD}\n", blank="keep")
    assert "line 3: " in str(refusal.value) and problem in str(refusal.value)
    if problem != "is not JSON":  # then the next row of a list cannot be found
        with pytest.raises(InputError) as refusal:
            read(tmp_path / "rows.json", f"[{GOOD}, {line}, {GOOD}]", blank="keep")
        assert "row 2: " in str(refusal.value) and problem in str(refusal.value)


def test_a_comma_separates_cells_though_the_header_quotes_semicolons(tmp_path):
    rows, _ = read(tmp_path / "a.csv", 'instruction,"a; b; c; d",output\nAdd.,note,a + b\n')
    assert rows == [{"instruction": "Add.", "input": "", "output": "a + b"}]


def test_a_parquet_value_that_python_cannot_represent_affects_only_its_row(tmp_path):
    text = {key: [row[key] for row in ROWS] for key in KEYS}
    far = pa.array([2**50] * 3, pa.timestamp("ms"))  # the year 37,648
    assert read(tmp_path / "a.parquet", to_parquet(pa.table({**text, "made": far})))[0] == ROWS
    broken = pa.array([b"a + b", b"\xff", b"b"]).view(pa.string())
    with pytest.raises(InputError, match="row 2: 'output' is bytes, not text"):
        read(tmp_path / "b.parquet", to_parquet(pa.table({**text, "output": broken})))


def test_curate_rejects_a_bad_row_and_keeps_the_others(tmp_path, capsys):
    source, run_dir = tmp_path / "rows.jsonl", tmp_path / "run"
    source.write_text("".join(f"{GOOD}\n{line}\n" for line in BAD_ROWS) + GOOD)
    words = ["--source", str(source), "--run_dir", str(run_dir), "--verify", "false"]
    assert main(["curate", *words, "--filters", "none", "--novelty_threshold", "1"]) == 0
    assert "curate    malformed_row: row 2: is not JSON" in capsys.readouterr().out
    rejected, _ = load_rows(str(run_dir / "dataset"), "rejected")
    expected = ["empty" if "null" in problem else "malformed_row" for problem in BAD_ROWS.values()]
    assert rejected["reason"][:] == expected
    evidences = zip(BAD_ROWS.values(), rejected["evidence"], strict=True)
    for number, (problem, evidence) in enumerate(evidences, 1):
        assert evidence.startswith(f"row {2 * number}: ") and problem in evidence
    capsys.readouterr()
    assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path / "other")]) == 2
    assert "line 2: is not JSON" in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_null_input_is_empty_and_rows_without_an_output_are_dropped_and_counted(tmp_path):
    rows = [
        {"instruction": "Add.", "input": None, "output": "a + b"},
        {"instruction": "Add.", "input": "", "output": None},
        {"instruction": " ", "input": "", "output": "x"},
        {"instruction": "Add.", "input": math.nan, "output": "b + a"},
    ]
    loaded, (line,) = read(tmp_path / "rows.json", json.dumps(rows))
    assert [(row["input"], row["output"]) for row in loaded] == [("", "a + b"), ("", "b + a")]
    assert "2 of 4 rows without instruction or output (the first is row 2)" in line
    with pytest.raises(InputError, match="row 2: 'output' is null"):
        read(tmp_path / "rows.json", json.dumps(rows), blank="keep")
    loaded, (line,) = read(tmp_path / "rows.json", json.dumps(rows[2:]), blank="keep")
    assert len(loaded) == 2 and "kept unchanged" in line


def test_outputs_with_reasoning_are_counted(tmp_path):
    rows = [{"instruction": "Add.", "output": "<think>\nOf course.\n</think>\n\na + b"}, *ROWS]
    loaded, (line,) = read(tmp_path / "rows.json", json.dumps(rows))
    assert len(loaded) == 4 and "1 of 4 outputs with a model's reasoning (<think>)" in line


def test_curate_and_publish_read_the_columns_of_a_column_map(tmp_path, capsys):
    source = tmp_path / "rows.jsonl"
    record = {"task": "Add two numbers in Python.", "input": {"n": 1}, "code": "print(1 + 2)",
              "lang": "Python"}  # fmt: skip
    source.write_text(json.dumps(record) + "\n")
    mapped = "{instruction: task, output: code, input: none, language: lang}"
    words = ["--source", str(source), "--column_map", mapped]
    assert main(["publish", *words, "--run_dir", str(tmp_path / "one")]) == 0
    assert main(["curate", *words, "--run_dir", str(tmp_path / "two"), "--verify", "false"]) == 0
    for folder in ("one", "two"):
        rows, _ = load_rows(str(tmp_path / folder / "dataset"))
        assert [rows[0][key] for key in (*KEYS, "language")] == [
            record["task"], "", record["code"], "python" if folder == "two" else "Python",
        ]  # fmt: skip
    for column_map, message in (
        ("instruction=nothing,output=code", "has no column 'nothing' for instruction; it has task"),
        ("{instruction: task}", "column_map does not set output"),
        ("{prompt: task}", "no field 'prompt'"),
        ("task", "not a map of columns like"),
    ):
        capsys.readouterr()
        command = ["curate", "--source", str(source), "--run_dir", str(tmp_path / "bad")]
        assert main([*command, "--column_map", column_map]) == 2
        assert message in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_a_column_mapped_to_none_is_not_read(tmp_path):
    expected, (line,) = read(tmp_path / "a.json", json.dumps(ROWS), column_map={"input": "none"})
    assert [row["input"] for row in expected] == ["", "", ""] and "input is not read" in line
    (tmp_path / "a.parquet").write_bytes(to_parquet(ROWS))
    folder = import_dataset(DatasetSource(str(tmp_path / "a.parquet")), tmp_path / "run")
    rows, _ = load_rows(str(folder), column_map={"input": "none"})
    assert [{key: row[key] for key in KEYS} for row in rows] == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "contains no rows"),
        ('[{"instruction": "a", "output": 3}]', "row 1: 'output' is a number, not text"),
        ('{"instruction": "a", "input": "", "output": "b"}\n{"x": 1}', "line 2: 'instruction' is"),
        ("[{", "neither a JSON list nor JSONL"),
    ],
)
def test_a_broken_alpaca_file_is_refused(tmp_path, text, message):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        load_rows(str(path))


def test_a_name_that_is_not_a_dataset_is_refused_with_what_is_accepted(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text(LINES)
    for name, message in ((" ", "is empty"), (tmp_path / "folder", "contains no data files")):
        with pytest.raises(
            InputError, match=f"{message}.* give a JSON, JSONL, CSV or Parquet file"
        ):
            load_rows(str(name))
    for name in ("./nowhere", "no/such/thing", "nobody/nothing"):
        with pytest.raises(InputError, match=r"no dataset at|the Hub is unreachable"):
            load_rows(name)


def test_deprecated_functions_load_the_same_rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES)
    folder = import_dataset(DatasetSource(str(path)), tmp_path / "run", draw_plots=False)
    with pytest.warns(DeprecationWarning, match="is now called load_rows"):
        assert load.load is load_rows
    for source in (str(path), str(folder)):
        with pytest.warns(DeprecationWarning, match="streaming=True"):
            streamed, revision = load.stream_rows(source)
        rows, expected_revision = load_rows(source)
        assert list(streamed) == list(rows) and revision == expected_revision


HUB_TABLES = {
    "null-input": pa.table({"instruction": ["a", "b"], "input": pa.nulls(2), "output": ["c", "d"]}),
    "some-null": pa.table({"instruction": ["a", None], "input": [None, "x"], "output": ["c", "d"]}),
    "nan-input": pa.table({"instruction": ["a"], "input": [math.nan], "output": ["c"]}),
    "no-input": pa.table({"instruction": ["a"], "output": ["c"], "id": [7]}),
    "struct": pa.table({"instruction": ["a"], "input": [{"n": 1}], "output": ["c"]}),
    "numbers": pa.table({"instruction": ["a"], "input": [""], "output": [3]}),
    "list-output": pa.table({"instruction": ["a"], "input": [""], "output": [["c"]]}),
    "pairs": pa.table({"problem": ["a"], "solution": ["c"]}),
    "chat": pa.table({"messages": [CHAT]}),
    "turn-columns": pa.table(
        {"conversations": [{key: [turn[key] for turn in SHAREGPT] for key in SHAREGPT[0]}]}
    ),
    "lists": pa.table({"prompt": [CHAT[:2]], "completion": [CHAT[2:]]}),
    "null-turn": pa.table({"messages": [CHAT, [*CHAT[:2], {"role": "assistant"}]]}),
}


def test_columns_of_a_hub_dataset_are_text_or_refused(hub, worker, tmp_path):
    rows, lines = {}, {}
    for name, table in HUB_TABLES.items():
        repo = f"alice/{name}"
        create_repo(hub, repo)
        hub.edit(repo, {"data/train-0.parquet": to_parquet(table)}, author="alice")
        loaded = worker.load_dataset(repo)
        code, _, error = worker.run("publish", "--source", repo, "--run_dir", tmp_path / name)
        assert code in (0, 2), error
        rows[name] = loaded.get("rows")
        lines[name] = " ".join([*loaded["lines"], loaded["error"], error])
    assert rows["null-input"] == [["a", "", "c"], ["b", "", "d"]], lines["null-input"]
    assert rows["some-null"] == [["a", "", "c"]]
    assert "1 of 2 rows without instruction" in lines["some-null"]
    assert "row 2: 'instruction' is null" in lines["some-null"], "publish imports every row or none"
    for name in ("nan-input", "no-input", "pairs"):
        assert rows[name] == [["a", "", "c"]], lines[name]
    for name in ("chat", "turn-columns", "lists", "null-turn"):
        assert rows[name] == [["Add two numbers.", "", "a + b"]], lines[name]
    assert "row 2: 'output' is null" in lines["null-turn"]
    assert rows["struct"] is rows["numbers"] is rows["list-output"] is None
    assert "row 1: 'input' is an object, not text" in lines["struct"]
    assert "row 1: 'output' is a number, not text" in lines["numbers"]
    assert "row 1: 'output' is a list, not text" in lines["list-output"]
