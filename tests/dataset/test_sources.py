"""Folders of data files and Hub datasets are read by split and config."""

from __future__ import annotations

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from support.hub_client import create_repo

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.dataset.importing import import_dataset
from code_alpaca.dataset.load import load_rows
from code_alpaca.dataset.source import DatasetSource

pytestmark = pytest.mark.usefixtures("without_plots")


def rows_of(name, count=2):
    return [{"instruction": f"{name} {n}", "input": "", "output": f"{n}"} for n in range(count)]


def to_jsonl(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def to_parquet(rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def write(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def load(folder, **options):
    lines = []
    rows, revision = load_rows(str(folder), log=lines.append, **options)
    return rows["instruction"][:], revision, lines


def test_a_folder_is_read_file_by_file_in_the_order_of_the_names(tmp_path):
    folder = write(tmp_path / "data", {
        "part-1.jsonl.gz": gzip.compress(to_jsonl(rows_of("b")), mtime=0),
        "part-0.parquet": to_parquet(rows_of("a")),
        "sub/part-2.csv": b"instruction,input,output\nc 0,,0\nc 1,,1\n",
        "README.md": b"# Data\n",
        "dataset_infos.json": b"{}",
        ".cache/part-9.jsonl": to_jsonl(rows_of("z")),
    })  # fmt: skip
    names, revision, lines = load(folder)
    assert names == ["a 0", "a 1", "b 0", "b 1", "c 0", "c 1"] and lines == []
    assert load(folder)[1] == revision and revision.startswith("sha256 ")
    (folder / "sub/part-2.csv").write_text("instruction,output\nc 0,1\n")
    assert load(folder)[1] != revision


def test_a_bad_row_of_a_folder_is_named_by_its_file_and_line(tmp_path):
    folder = write(tmp_path / "data", {
        "a.jsonl": to_jsonl(rows_of("a", 3)),
        "b.jsonl": to_jsonl([*rows_of("b"), {"instruction": "b 2", "output": 3}]),
    })  # fmt: skip
    with pytest.raises(InputError, match=r"b\.jsonl, line 3: 'output' is a number, not text"):
        load(folder)


SPLITS = {
    "train-00000-of-00002.jsonl": to_jsonl(rows_of("a")),
    "train-00001-of-00002.jsonl": to_jsonl(rows_of("b")),
    "my_eval.jsonl": to_jsonl(rows_of("c")),
    "dev/rows.jsonl": to_jsonl(rows_of("d")),
    "more.jsonl": to_jsonl(rows_of("e")),
    "latest.jsonl": to_jsonl(rows_of("f")),
}


def test_the_files_of_other_splits_are_not_trained_on(tmp_path):
    folder = write(tmp_path / "data", SPLITS)
    names = {split: load(folder, split=split)[0] for split in ("train", "test", "validation")}
    assert sorted({name[0] for name in names["train"]}) == ["a", "b", "e", "f"]
    assert names["test"] == ["c 0", "c 1"] and names["validation"] == ["d 0", "d 1"]
    with pytest.raises(InputError) as refusal:
        load(folder, split="held_out")
    assert "has no split 'held_out'; set source_split (sft: dataset_split) to one of" in str(
        refusal.value
    )


def test_a_file_has_no_split_and_no_config(tmp_path):
    write(tmp_path, {"rows.jsonl": to_jsonl(rows_of("a"))})
    for options in ({"split": "validation"}, {"config": "python"}):
        ((key, value),) = options.items()
        with pytest.raises(InputError, match=f"is a file and has no {key} '{value}'; leave it out"):
            load(tmp_path / "rows.jsonl", **options)
    with pytest.raises(InputError, match="declares no configs; leave config 'python' out"):
        load(tmp_path, config="python")


CARD = b"""---
configs:
- config_name: python
  data_files:
  - {split: train, path: python/train.jsonl}
  - {split: test, path: python/test.jsonl}
- config_name: java
  data_files: java.jsonl
---
"""
CLONE = {
    "README.md": CARD,
    "python/train.jsonl": to_jsonl(rows_of("a")),
    "python/test.jsonl": to_jsonl(rows_of("b")),
    "java.jsonl": to_jsonl(rows_of("c")),
}
CHOICES = {
    ("default", "train"): "has no config 'default'; set source_config (sft: dataset_config) to one "
    "of python, java",
    ("python", "dev"): "has no split 'dev'; set source_split (sft: dataset_split) to one of train, "
    "test",
}


def test_a_clone_of_a_hub_dataset_has_the_configs_of_its_card(tmp_path):
    folder = write(tmp_path / "clone", CLONE)
    assert load(folder, config="python", split="test")[0] == ["b 0", "b 1"]
    assert load(folder, config="java")[0] == ["c 0", "c 1"]
    for (config, split), message in CHOICES.items():
        with pytest.raises(InputError) as refusal:
            load(folder, config=config, split=split)
        assert message in str(refusal.value)


def test_any_config_split_and_revision_of_a_hub_dataset_is_read(hub, worker, tmp_path):
    create_repo(hub, "alice/code")
    old = hub.edit("alice/code", CLONE, author="alice")
    hub.edit("alice/code", {"java.jsonl": to_jsonl(rows_of("d"))}, author="alice")

    def curate(run, *words):
        words = ["--source", "alice/code", *words, "--run_dir", tmp_path / run]
        output = worker.succeed("curate", *words, "--verify", "false", "--filters", "none")
        rows = load_dataset(str(tmp_path / run / "dataset"), split="train")
        return rows["instruction"][:], output

    names, output = curate("test", "--source_config", "python", "--source_split", "test")
    assert names == ["b 0", "b 1"]
    assert "alice/code, config python, split test: 2 rows in Alpaca form" in output
    card = (tmp_path / "test/dataset/README.md").read_text()
    assert "In the source: config python, split test; 2 rows in Alpaca form." in card
    part = curate("part", "--source_config", "python", "--source_split", "test[:1]+train")
    assert part[0] == ["b 0", "a 0", "a 1"]
    assert curate("java", "--source_config", "java")[0] == ["d 0", "d 1"]
    assert curate("old", "--source_config", "java", "--revision", old.sha)[0] == ["c 0", "c 1"]
    for (config, split), message in CHOICES.items():
        words = ["--source", "alice/code", "--source_config", config, "--source_split", split]
        error = worker.refuse("publish", *words, "--run_dir", tmp_path / "refused")
        assert message in error and error.count("\n") == 1


def test_null_on_the_hub_is_rejected_as_in_a_file(hub, worker, tmp_path):
    rows = [*rows_of("a"), *({**rows_of("b")[0], key: None} for key in rows_of("a")[0])]
    create_repo(hub, "alice/null")
    hub.edit("alice/null", {"rows.parquet": to_parquet(rows)}, author="alice")
    write(tmp_path, {"rows.jsonl": to_jsonl(rows)})
    decisions = []
    for run, source in {"hub": "alice/null", "file": tmp_path / "rows.jsonl"}.items():
        words = ["--source", source, "--run_dir", tmp_path / run, "--verify", "false"]
        worker.succeed("curate", *words, "--filters", "none", "--novelty_threshold", "1")
        for config in ("default", "rejected"):
            loaded = load_dataset(str(tmp_path / run / "dataset"), config, split="train")
            loaded = loaded.remove_columns("created_at")
            decisions.append(loaded.to_list())
    assert decisions[:2] == decisions[2:]
    assert [row["input"] for row in decisions[0]] == ["", "", ""]
    assert [(row["reason"], row["evidence"]) for row in decisions[1]] == [
        ("empty", "row 3: 'instruction' is null"),
        ("empty", "row 5: 'output' is null"),
    ]


def test_the_only_config_of_a_hub_dataset_is_read_and_named(hub, worker, tmp_path):
    create_repo(hub, "alice/one")
    card = b"---\nconfigs:\n- config_name: main\n  data_files: rows.jsonl\n---\n"
    files = {"README.md": card, "rows.jsonl": to_jsonl(rows_of("a")), "manifest.json": b"{}"}
    hub.edit("alice/one", files, author="alice")
    words = ["--source", "alice/one", "--run_dir", tmp_path / "run", "--verify", "false"]
    output = worker.succeed("curate", *words, "--filters", "none")
    assert "alice/one, config main: 2 rows in Alpaca form" in output


def test_rejected_rows_are_not_read_in_place_of_accepted_ones(tmp_path, capsys):
    write(tmp_path, {"rows.jsonl": to_jsonl([{"instruction": "Add.", "output": ""}])})
    words = ["--source", str(tmp_path / "rows.jsonl"), "--run_dir", str(tmp_path / "run")]
    assert main(["curate", *words, "--verify", "false"]) == 2
    assert "no row was accepted" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"config 'default' of .* has no rows"):
        load(tmp_path / "run/dataset")
    assert load(tmp_path / "run/dataset", config="rejected")[0] == ["Add."]
    with pytest.raises(InputError, match="no row with an instruction and an output"):
        load(tmp_path / "run/dataset", config="rejected", blank="drop")


def test_an_import_names_the_columns_that_it_does_not_keep(tmp_path, capsys):
    row = {"instruction": "Add 1 and 1.", "input": "", "output": "2", "language": "python"}
    rows = [{**row, "src": "a.py", "id": 7}]
    write(tmp_path, {
        "rows.jsonl": to_jsonl(rows),
        "clone/README.md": b"---\nconfigs: [{config_name: a, data_files: rows.parquet}]\n---\n",
        "clone/rows.parquet": to_parquet(rows),
    })  # fmt: skip
    publish = ["publish", "--run_dir", str(tmp_path / "run"), "--source"]
    imported = tmp_path / "run/dataset"

    assert main([*publish, str(tmp_path / "rows.jsonl")]) == 0
    assert "rows.jsonl: columns not kept: language, src, id\n" in capsys.readouterr().out
    assert "columns not kept: language, src, id." in (imported / "README.md").read_text()
    mapped = ["--column_map", "{language: language, id: src}"]
    assert main([*publish, str(tmp_path / "rows.jsonl"), *mapped]) == 0
    assert "rows.jsonl: columns not kept: id\n" in capsys.readouterr().out
    loaded = load_rows(str(imported))[0][0]
    assert (loaded["language"], loaded["id"]) == ("python", "a.py")
    assert main([*publish, str(tmp_path / "clone")]) == 0
    assert "clone: columns not kept: src, id\n" in capsys.readouterr().out
    assert load_rows(str(imported))[0][0]["language"] == "python"
    assert main([*publish[:2], str(tmp_path / "again"), "--source", str(imported)]) == 0
    assert "not kept" not in capsys.readouterr().out


def test_a_folder_that_is_no_single_dataset_is_refused(tmp_path):
    write(tmp_path, {"a/rows.jsonl": to_jsonl(rows_of("a")), "empty/notes.txt": b""})
    run = tmp_path / "runs/one"
    folder = import_dataset(DatasetSource(str(tmp_path / "a/rows.jsonl")), run)
    Dataset.from_list(rows_of("a")).save_to_disk(tmp_path / "saved")
    write(tmp_path / "other", {"ledger.sqlite": b"", "dataset/data/rows.jsonl": b"{}"})
    for path, message in (
        (tmp_path / "empty", "contains no data files; give a JSON, JSONL"),
        (tmp_path / "runs", f"contains the dataset {folder}; give that folder"),
        (tmp_path / "saved", "was written by save_to_disk of datasets; write Parquet instead"),
        (tmp_path / "other", "is the folder of a run; give its dataset"),
    ):
        with pytest.raises(InputError) as refusal:
            load(path)
        assert message in str(refusal.value)
