"""Rows that exist are decided as rows that are written: in order, resumably, with their reasons."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest
from datasets import Dataset, load_dataset
from rouge_score import rouge_scorer

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger

ADD = "def add(a, b):\n    return a + b"
GOOD = [
    {"instruction": "Add two numbers in Python.", "input": "", "output": ADD},
    {"instruction": "Name the tallest of these trees.", "input": "oak, elm", "output": "oak"},
    {"instruction": "Sort a list of words by length.", "input": "", "output": "sorted(w, key=len)"},
]


def words(source, run_dir, *more):
    return ["curate", "--source", str(source), "--run_dir", str(run_dir), *more]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(run_dir, config="default"):
    return load_dataset(str(run_dir / "dataset"), config, split="train").to_list()


def reasons(run_dir):
    return {row["output"]: row["reason"] for row in rows_of(run_dir, "rejected")}


def many(count: int) -> list[dict[str, str]]:
    rng = random.Random(4)
    verbs = ["Sort", "Reverse", "Count", "Print", "Sum up", "Filter", "Join", "Shuffle"]
    things = ["a list", "the words of a text", "rows of a table", "all primes", "two files"]
    ends = ["", " quickly", " in place", " without a loop", " by length", " from the end"]
    return [
        {
            "instruction": f"{rng.choice(verbs)} {rng.choice(things)}{rng.choice(ends)}, please.",
            "input": rng.choice(["", "", f"x = {rng.randint(1, 3)}"]),
            "output": f"answer_{number} = {number}",
        }
        for number in range(count)
    ]


def test_each_rule_drops_its_row_and_says_why(tmp_path):
    rows = [
        *GOOD,
        {"instruction": "Add two numbers in Python!", "input": "", "output": "print(1 + 2)"},
        {"instruction": "Subtract two numbers in Python.", "input": "", "output": "x = = 1"},
        {"instruction": "Divide two numbers in Python.", "input": "", "output": "print(1 / 0)"},
        {"instruction": "Multiply some numbers.", "input": "", "output": ""},
    ]
    source = write(tmp_path / "rows.jsonl", rows)
    assert main(words(source, tmp_path / "run")) == 0
    assert [row["output"] for row in rows_of(tmp_path / "run")] == [r["output"] for r in GOOD]
    assert reasons(tmp_path / "run") == {
        "print(1 + 2)": "too_similar", "x = = 1": "syntax_error", "print(1 / 0)": "run_error",
        "": "empty",
    }  # fmt: skip
    kept = rows_of(tmp_path / "run")[0]
    assert kept["language"] == "python" and kept["verification"] == "no_tests"
    manifest = json.loads((tmp_path / "run/dataset/manifest.json").read_text())
    assert manifest["source"] == "rows.jsonl" and manifest["candidates"] == 7
    assert str(tmp_path) not in (tmp_path / "run/dataset/manifest.json").read_text()
    assert "rows.jsonl" in (tmp_path / "run/dataset/README.md").read_text()


def test_rows_that_are_none_are_named_counted_and_dropped_or_refused(tmp_path, capsys):
    odd = [7, {"instruction": "Do it now, please."}, {"instruction": 1, "output": "x"},
           {"instruction": "Half of it, please.", "output": "\ud800"},
           {"instruction": "NUL in the answer.", "output": "a\0b"}]  # fmt: skip
    source = write(tmp_path / "rows.jsonl", [*GOOD, *odd])
    assert main(words(source, tmp_path / "run", "--verify", "false")) == 0
    rejected = rows_of(tmp_path / "run", "rejected")
    assert Counter(row["reason"] for row in rejected) == {"malformed_row": 4, "not_text": 1}
    found = [row["evidence"] for row in rejected if row["evidence"]]
    assert found == [
        "row 4: is not a JSON object",
        "row 5: 'output' is missing",
        "row 6: 'instruction' is a number, not text",
        "row 7: 'output' holds half a surrogate pair",
    ]
    assert main(words(source, tmp_path / "strict", "--strict")) == 2
    assert "row 4: is not a JSON object" in capsys.readouterr().err
    assert not (tmp_path / "strict/dataset").exists()


def test_what_a_row_says_of_its_origin_ends_no_run(tmp_path):
    odd = [{"seed_ids": [1, "b"]}, {"seed_ids": [None]}, {"seed_ids": {"a": 1}}, {"language": 3},
           {"tests": ["x = 1", "assert x"]}]  # fmt: skip
    rows = [{**GOOD[0], **each} for each in odd]
    rows.append({**GOOD[0], "tests": "\ud800"})
    source = write(tmp_path / "rows.jsonl", rows)
    more = ["--verify", "false", "--novelty_threshold", "1"]
    assert main(words(source, tmp_path / "run", *more)) == 0
    kept = rows_of(tmp_path / "run")
    assert [row["seed_ids"] for row in kept] == [["1", "b"], [], [], [], []]
    assert [row["tests"] for row in kept] == ["", "", "", "", "x = 1\nassert x"]
    (row,) = rows_of(tmp_path / "run", "rejected")
    assert row["evidence"] == "row 6: 'tests' holds half a surrogate pair"


def test_code_in_fences_is_judged_and_the_row_stays_as_it_is(tmp_path):
    fenced = {"instruction": "Add two numbers in Python, fenced.", "input": "",
              "output": f"Here it is:\n\n```python\n{ADD}\n```\n\nThat's all."}  # fmt: skip
    broken = {**fenced, "instruction": "Divide a number by zero.",
              "output": "```python\nprint(1 / 0)\n```"}  # fmt: skip
    source = write(tmp_path / "rows.jsonl", [fenced, broken])
    assert main(words(source, tmp_path / "run")) == 0
    (kept,) = rows_of(tmp_path / "run")
    assert kept["output"] == fenced["output"]
    assert (kept["language"], kept["verification"]) == ("python", "no_tests")
    assert reasons(tmp_path / "run") == {broken["output"]: "run_error"}


def test_the_kept_set_of_rouge_l_is_that_of_a_direct_loop(tmp_path):
    rows = many(250)
    source = write(tmp_path / "rows.jsonl", rows)
    assert main(words(source, tmp_path / "run", "--novelty", "rouge_l", "--filters", "none",
                      "--decontaminate", "none", "--verify", "false")) == 0  # fmt: skip
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    kept = []
    for row in rows:
        text = row["instruction"]
        scores = (scorer.score(text, old["instruction"])["rougeL"].fmeasure for old in kept)
        if max(scores, default=0) <= 0.7:
            kept.append(row)
    assert [row["output"] for row in rows_of(tmp_path / "run")] == [r["output"] for r in kept]
    assert 5 < len(kept) < 200


def test_contaminated_rows_are_dropped_or_marked_with_the_evidence(tmp_path):
    asked = "Return the number of vowels in a text, whatever their case."
    problem = {
        "task_id": "Own/1", "prompt": f'def f(text):\n    """{asked}"""\n', "entry_point": "f",
        "canonical_solution": "    return sum(c in 'aeiou' for c in text.lower())\n",
        "test": "def check(candidate):\n    assert candidate('a') == 1\n",
    }  # fmt: skip
    bench = write(tmp_path / "bench.jsonl", [problem])
    leak = {"instruction": asked, "input": "", "output": "Count them, each in turn."}
    source = write(tmp_path / "rows.jsonl", [*GOOD, leak])
    more = ["--decontaminate", str(bench), "--verify", "false"]
    assert main(words(source, tmp_path / "drop", *more)) == 0
    (row,) = rows_of(tmp_path / "drop", "rejected")
    assert row["reason"] == "contaminated" and row["contamination"] == ["Own/1"]
    assert "Own/1 by statement: return the number of vowels" in row["evidence"]
    assert main(words(source, tmp_path / "mark", *more, "--contaminated", "mark")) == 0
    assert rows_of(tmp_path / "mark")[3]["contamination"] == ["Own/1"]
    card = (tmp_path / "mark/dataset/README.md").read_text()
    assert "the 1 problems of `bench.jsonl`" in card and "kept, with the problems" in card


def test_a_dataset_folder_keeps_what_its_rows_say_of_themselves(tmp_path):
    first = write(tmp_path / "rows.jsonl", GOOD)
    assert main(words(first, tmp_path / "one", "--verify", "false")) == 0
    again = words(tmp_path / "one/dataset", tmp_path / "two", "--verify", "false")
    assert main(again) == 0
    one, two = rows_of(tmp_path / "one"), rows_of(tmp_path / "two")
    for row in (*one, *two):
        row.pop("created_at")
    assert one == two


def decided(run_dir):
    """How many chunks of rows are in the ledger of a run."""
    try:
        with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
            return ledger.next_undecided()
    except (InputError, sqlite3.Error):  # not there yet, or being made
        return 0


def wait(process, seconds):
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=seconds)


def test_a_kill_changes_nothing(tmp_path):
    source = write(tmp_path / "rows.jsonl", many(4_000))
    more = ["--novelty_threshold", "0.99", "--verify", "false", "--filters", "none"]
    assert main(words(source, tmp_path / "whole", *more)) == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "code_alpaca.cli", *words(source, killed, *more)]
    rng, kills = random.Random(1), 0
    for chunks in (0, 1, 3, 5, 7):  # decided before the kill, of eight
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
        while process.poll() is None and decided(killed) < chunks:
            wait(process, 0.02)
        wait(process, rng.uniform(0, 0.3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    assert kills >= 3 and main(words(source, killed, *more)) == 0
    for config in ("default", "rejected"):
        one, two = rows_of(tmp_path / "whole", config), rows_of(tmp_path / "killed", config)
        for row in (*one, *two):
            row.pop("created_at")
        assert one == two


def test_seeds_are_in_the_pool_only_where_they_are_given(tmp_path):
    seeds = write(tmp_path / "seeds.jsonl", [{"instruction": "Add two numbers in Python, now.",
                                              "output": "a + b"}])  # fmt: skip
    source = write(tmp_path / "rows.jsonl", GOOD)
    more = ["--seed_tasks", str(seeds), "--verify", "false"]
    assert main(words(source, tmp_path / "run", *more)) == 0
    assert reasons(tmp_path / "run") == {ADD: "too_similar"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--source", "nothing.json"], "cannot read nothing.json: no such file"),
        (["--novelty_threshold", "1.5"], "less than or equal to 1"),
        (["--novelty", "rouge"], "code_aware"),
        (["--filters", "emtpy"], "no filter 'emtpy'"),
        (["--decontaminate", "humanevil"], "no benchmark 'humanevil'"),
        (["--revision", "main"], "leave revision"),
    ],
)
def test_bad_input(tmp_path, capsys, monkeypatch, more, said):
    monkeypatch.chdir(tmp_path)
    source = write(tmp_path / "rows.jsonl", GOOD)
    assert main(words(source, tmp_path / "run", *more)) == 2
    assert said in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_all_rows_the_same_leaves_one_and_another_config_is_refused(tmp_path, capsys):
    source = write(tmp_path / "rows.jsonl", GOOD[:1] * 600)
    assert main(words(source, tmp_path / "run", "--verify", "false")) == 0
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert ledger.accepted_count() == 1
        assert sum(ledger.reasons().values()) == 599
    assert main(words(source, tmp_path / "run", "--verify", "false", "--filters", "none")) == 2
    assert "another config (filters" in capsys.readouterr().err
    write(tmp_path / "rows.jsonl", GOOD)
    assert main(words(source, tmp_path / "run", "--verify", "false")) == 2
    assert "another source_revision" in capsys.readouterr().err


def test_a_folder_that_is_no_dataset_of_ours_is_refused_by_name(tmp_path, capsys):
    Dataset.from_list(GOOD).to_parquet(tmp_path / "data/train.parquet")
    assert main(words(tmp_path / "data", tmp_path / "run")) == 2
    assert "is no dataset folder" in capsys.readouterr().err
