"""`curate` decides the rows of a dataset in order, resumably, and gives reasons."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter

import pytest
from datasets import Dataset, load_dataset
from rouge_score import rouge_scorer

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger

ADD = "def add(a, b):\n    return a + b"
GOOD = [
    {"instruction": "Add two numbers in Python.", "input": "", "output": ADD},
    {"instruction": "Name the tallest of these trees.", "input": "oak, elm", "output": "oak"},
    {"instruction": "Sort a list of words by length.", "input": "", "output": "sorted(w, key=len)"},
]


def arguments(source, run_dir, *options):
    return ["curate", "--source", str(source), "--run_dir", str(run_dir), *options]


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def load_rows(run_dir, config="default"):
    return load_dataset(str(run_dir / "dataset"), config, split="train").to_list()


def load_reasons(run_dir):
    return {row["output"]: row["reason"] for row in load_rows(run_dir, "rejected")}


def make_rows(count: int) -> list[dict[str, str]]:
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


def test_each_rule_rejects_a_row_with_its_reason(tmp_path):
    rows = [
        *GOOD,
        {"instruction": "Add two numbers in Python!", "input": "", "output": "print(1 + 2)"},
        {"instruction": "Subtract two numbers in Python.", "input": "", "output": "x = = 1"},
        {"instruction": "Divide two numbers in Python.", "input": "", "output": "print(1 / 0)"},
        {"instruction": "Multiply some numbers.", "input": "", "output": ""},
    ]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert main(arguments(source, tmp_path / "run")) == 0
    assert [row["output"] for row in load_rows(tmp_path / "run")] == [r["output"] for r in GOOD]
    assert load_reasons(tmp_path / "run") == {
        "print(1 + 2)": "too_similar", "x = = 1": "syntax_error", "print(1 / 0)": "run_error",
        "": "empty",
    }  # fmt: skip
    kept = load_rows(tmp_path / "run")[0]
    assert kept["language"] == "python" and kept["verification"] == "no_tests"
    manifest = json.loads((tmp_path / "run/dataset/manifest.json").read_text())
    assert manifest["source"] == "rows.jsonl" and manifest["candidates"] == 7
    assert str(tmp_path) not in (tmp_path / "run/dataset/manifest.json").read_text()
    assert "rows.jsonl" in (tmp_path / "run/dataset/README.md").read_text()


def test_a_rejected_row_names_what_it_repeats(tmp_path):
    body = "".join(f"    x += {number} * n\n" for number in range(9))
    answer = f"def f(n):\n    x = 0\n{body}    return x\n"
    rows = [
        {"instruction": "Add multiples of n in Python.", "input": "", "output": answer},
        {"instruction": "Weigh a number, please.", "input": "", "output": f"# ok\n{answer}"},
        {"instruction": "Add multiples of n in Python!", "input": "", "output": "x = 1"},
    ]
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert main(arguments(source, tmp_path / "run", "--verify", "false")) == 0
    (kept,) = load_rows(tmp_path / "run")
    copy, near = load_rows(tmp_path / "run", "rejected")
    assert (copy["reason"], copy["evidence"]) == ("duplicate_output", f"the output of {kept['id']}")
    assert (near["reason"], near["nearest_id"]) == ("too_similar", kept["id"])


def test_malformed_rows_are_rejected_with_their_line_or_refused(tmp_path, capsys):
    odd = [7, {"instruction": "Do it now, please."}, {"instruction": 1, "output": "x"},
           {"instruction": "Half of it, please.", "output": "\ud800"},
           {"instruction": "NUL in the answer.", "output": "a\0b"}]  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", [*GOOD, *odd])
    assert main(arguments(source, tmp_path / "run", "--verify", "false")) == 0
    rejected = load_rows(tmp_path / "run", "rejected")
    assert Counter(row["reason"] for row in rejected) == {"malformed_row": 4, "not_text": 1}
    assert [row["evidence"] for row in rejected if row["evidence"]] == [
        "row 4: is not a JSON object",
        "row 5: 'output' is missing",
        "row 6: 'instruction' is a number, not text",
        "row 7: 'output' contains half a surrogate pair",
    ]
    assert main(arguments(source, tmp_path / "strict", "--strict")) == 2
    assert "row 4: is not a JSON object" in capsys.readouterr().err
    assert not (tmp_path / "strict/dataset").exists()


def test_a_malformed_origin_is_dropped_or_rejected(tmp_path):
    odd = [{"seed_ids": [1, "b"]}, {"seed_ids": [None]}, {"seed_ids": {"a": 1}}, {"language": 3},
           {"tests": ["x = 1", "assert x"]}]  # fmt: skip
    rows = [{**GOOD[0], **origin} for origin in odd]
    rows.append({**GOOD[0], "tests": "\ud800"})
    source = write_rows(tmp_path / "rows.jsonl", rows)
    options = ["--verify", "false", "--novelty_threshold", "1"]
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    kept = load_rows(tmp_path / "run")
    assert [row["seed_ids"] for row in kept] == [["1", "b"], [], [], [], []]
    assert [row["tests"] for row in kept] == ["", "", "", "", "x = 1\nassert x"]
    (row,) = load_rows(tmp_path / "run", "rejected")
    assert row["evidence"] == "row 6: 'tests' contains half a surrogate pair"


def test_code_in_fences_is_checked_and_the_row_is_unchanged(tmp_path):
    fenced = {"instruction": "Add two numbers in Python, fenced.", "input": "",
              "output": f"Here it is:\n\n```python\n{ADD}\n```\n\nThat's all."}  # fmt: skip
    broken = {**fenced, "instruction": "Divide a number by zero.",
              "output": "```python\nprint(1 / 0)\n```"}  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", [fenced, broken])
    assert main(arguments(source, tmp_path / "run")) == 0
    (kept,) = load_rows(tmp_path / "run")
    assert kept["output"] == fenced["output"]
    assert (kept["language"], kept["verification"]) == ("python", "no_tests")
    assert load_reasons(tmp_path / "run") == {broken["output"]: "run_error"}


def test_rouge_l_accepts_the_same_rows_as_a_loop(tmp_path):
    rows = make_rows(250)
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert main(arguments(source, tmp_path / "run", "--novelty", "rouge_l", "--filters", "none",
                      "--decontaminate", "none", "--verify", "false")) == 0  # fmt: skip
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    kept = []
    for row in rows:
        text = row["instruction"]
        scores = (scorer.score(text, old["instruction"])["rougeL"].fmeasure for old in kept)
        if max(scores, default=0) <= 0.7:
            kept.append(row)
    assert [row["output"] for row in load_rows(tmp_path / "run")] == [r["output"] for r in kept]
    assert 5 < len(kept) < 200


def test_contaminated_rows_are_rejected_or_marked_with_evidence(tmp_path):
    asked = "Return the number of vowels in a text, whatever their case."
    problem = {
        "task_id": "Own/1", "prompt": f'def f(text):\n    """{asked}"""\n', "entry_point": "f",
        "canonical_solution": "    return sum(c in 'aeiou' for c in text.lower())\n",
        "test": "def check(candidate):\n    assert candidate('a') == 1\n",
    }  # fmt: skip
    bench = write_rows(tmp_path / "bench.jsonl", [problem])
    leak = {"instruction": asked, "input": "", "output": "Count them, each in turn."}
    source = write_rows(tmp_path / "rows.jsonl", [*GOOD, leak])
    options = ["--decontaminate", str(bench), "--verify", "false"]
    assert main(arguments(source, tmp_path / "drop", *options)) == 0
    (row,) = load_rows(tmp_path / "drop", "rejected")
    assert row["reason"] == "contaminated" and row["contamination"] == ["Own/1"]
    assert "Own/1 by statement: return the number of vowels" in row["evidence"]
    assert main(arguments(source, tmp_path / "mark", *options, "--contaminated", "mark")) == 0
    assert load_rows(tmp_path / "mark")[3]["contamination"] == ["Own/1"]
    card = (tmp_path / "mark/dataset/README.md").read_text()
    assert "1 problems of `bench.jsonl`" in card and "kept, with the problem ids" in card


def test_columns_that_are_not_kept_are_named_on_screen_and_on_the_card(tmp_path, capsys):
    rows = [{"id": n, "language": "python", "src": "a.py", **row} for n, row in enumerate(GOOD)]
    source = write_rows(tmp_path / "rows.jsonl", [*rows, {"page": 3, **GOOD[0]}])
    assert main(arguments(source, tmp_path / "run", "--verify", "false")) == 0
    assert f"{source}: columns not kept: id, src, page\n" in capsys.readouterr().out
    assert load_rows(tmp_path / "run")[0]["language"] == "python"
    assert "columns not kept: id, src, page." in (tmp_path / "run/dataset/README.md").read_text()


def test_a_mapped_column_is_kept(tmp_path, capsys):
    source = write_rows(tmp_path / "rows.jsonl", [{"lang": "rust", **row} for row in GOOD])
    options = "--verify", "false", "--column_map", "{language: lang}"
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    assert "not kept" not in capsys.readouterr().out
    assert load_rows(tmp_path / "run")[0]["language"] == "rust"


def test_curating_a_dataset_folder_keeps_the_origin_of_its_rows(tmp_path, capsys):
    first = write_rows(tmp_path / "rows.jsonl", GOOD)
    assert main(arguments(first, tmp_path / "one", "--verify", "false")) == 0
    again = arguments(tmp_path / "one/dataset", tmp_path / "two", "--verify", "false")
    assert main(again) == 0
    one, two = load_rows(tmp_path / "one"), load_rows(tmp_path / "two")
    for row in (*one, *two):
        row.pop("created_at")
    assert one == two
    assert "not kept" not in capsys.readouterr().out


KILLS_ITSELF = """
import os, signal


def kills_itself(example):
    if example.output == os.environ.get("KILL_AT"):
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    ("num_rows", "kill_at"),  # rows, which are decided in chunks of 500
    [
        (1_200, [0, 700, 1_199]),
        pytest.param(4_000, [0, 499, 500, 1_750, 3_999], marks=pytest.mark.slow),
    ],
)
def test_kills_do_not_change_the_dataset(tmp_path, num_rows, kill_at):
    path = tmp_path / "my_filters.py"
    path.write_text(KILLS_ITSELF)
    rows = make_rows(num_rows)
    source = write_rows(tmp_path / "rows.jsonl", rows)
    options = ["--novelty_threshold", "0.99", "--verify", "false"]
    options += ["--filters", f"{path}:kills_itself"]
    assert main(arguments(source, tmp_path / "uninterrupted", *options)) == 0
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "code_alpaca.cli", *arguments(source, killed, *options)]
    for number in kill_at:
        environment = {**os.environ, "KILL_AT": rows[number]["output"]}
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, check=False)
        assert done.returncode == -signal.SIGKILL
    assert main(arguments(source, killed, *options)) == 0
    for config in ("default", "rejected"):
        one = load_rows(tmp_path / "uninterrupted", config)
        two = load_rows(tmp_path / "killed", config)
        for row in (*one, *two):
            row.pop("created_at")
        assert one == two


def test_seed_tasks_are_added_to_the_pool(tmp_path):
    seeds = write_rows(tmp_path / "seeds.jsonl", [{"instruction": "Add two numbers in Python, now.",
                                              "output": "a + b"}])  # fmt: skip
    source = write_rows(tmp_path / "rows.jsonl", GOOD)
    options = ["--seed_tasks", str(seeds), "--verify", "false"]
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    assert load_reasons(tmp_path / "run") == {ADD: "too_similar"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--source", "nothing.json"], "cannot read nothing.json: no such file"),
        (["--novelty_threshold", "1.5"], "at most 1"),
        (["--novelty", "rouge"], "code_aware"),
        (["--filters", "emtpy"], "no filter 'emtpy'"),
        (["--decontaminate", "humanevil"], "no benchmark 'humanevil'"),
        (["--revision", "main"], "leave revision"),
    ],
)
def test_bad_input_is_refused_in_one_line(tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    source = write_rows(tmp_path / "rows.jsonl", GOOD)
    assert main(arguments(source, tmp_path / "run", *options)) == 2
    assert message in (error := capsys.readouterr().err) and error.count("\n") == 1


def test_copies_are_rejected_and_another_config_is_refused(tmp_path, capsys):
    source = write_rows(tmp_path / "rows.jsonl", GOOD[:1] * 600)
    assert main(arguments(source, tmp_path / "run", "--verify", "false")) == 0
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert ledger.accepted_count() == 1
        assert sum(ledger.reasons().values()) == 599
    assert main(arguments(source, tmp_path / "run", "--verify", "false", "--filters", "none")) == 2
    assert "a different config (filters: removed empty," in capsys.readouterr().err
    generate = ["generate", "--run_dir", str(tmp_path / "other"), "--teacher_base_url", "offline"]
    assert main([*generate, "--num_examples", "2", "--verify", "false"]) == 0
    assert main(arguments(source, tmp_path / "other")) == 2
    assert "other contains a run of another command; use a new run_dir" in capsys.readouterr().err
    write_rows(tmp_path / "rows.jsonl", GOOD)
    assert main(arguments(source, tmp_path / "run", "--verify", "false")) == 2
    error = capsys.readouterr().err
    assert f"source {source} changed since" in error and "accept_edited_files" not in error


def test_a_folder_of_data_files_is_curated_as_one_dataset(tmp_path, capsys):
    folder = tmp_path / "data"
    Dataset.from_list(GOOD[:2]).to_parquet(folder / "part-0.parquet")
    write_rows(folder / "part-1.jsonl", [GOOD[0], GOOD[2]])
    assert main(arguments(folder, tmp_path / "run", "--verify", "false")) == 0
    assert f"curate    {folder}: 4 rows in Alpaca form\n" in capsys.readouterr().out
    assert [row["output"] for row in load_rows(tmp_path / "run")] == [r["output"] for r in GOOD]


NO_TREES = (
    "def no_trees(example):\n    return 'trees' if 'trees' in example.instruction else None\n"
)


def test_a_users_filter_rejects_rows_and_its_file_identifies_the_run(tmp_path, capsys):
    path = tmp_path / "my_filters.py"
    path.write_text(NO_TREES)
    source = write_rows(tmp_path / "rows.jsonl", GOOD)
    options = ["--verify", "false", "--filters", f"default,{path}:no_trees"]
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    assert load_reasons(tmp_path / "run") == {"oak": "trees"}
    assert str(tmp_path) not in (tmp_path / "run/dataset/manifest.json").read_text()
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    capsys.readouterr()
    path.write_text(path.read_text() + "# changed\n")
    assert main(arguments(source, tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert f"{path} changed since" in error and "--accept_edited_files true" in error
    assert not re.search("[0-9a-f]{12}", error) and error.count("\n") == 1


def test_a_users_filter_that_fails_stops_the_run_and_a_corrected_one_resumes_it(tmp_path, capsys):
    """Rows are decided in chunks of 500; those before the failing one keep their decisions."""
    path = tmp_path / "my_filters.py"
    path.write_text("def odd(example):\n    return 1 / (example.output != 'row 700') > 2\n")
    rows = [
        {"instruction": f"Write the word number {n}.", "input": "", "output": f"row {n}"}
        for n in range(800)
    ]
    options = ["--verify", "false", "--novelty_threshold", "1", "--filters", f"{path}:odd"]
    source = write_rows(tmp_path / "few.jsonl", rows[700:])
    assert main(arguments(source, tmp_path / "few", *options)) == 2
    assert "no row was decided yet, and the same command starts" in capsys.readouterr().err
    source = write_rows(tmp_path / "rows.jsonl", rows)
    assert main(arguments(source, tmp_path / "run", *options)) == 2
    error = capsys.readouterr().err
    assert f"{path}:odd failed on the row 'Write the word number 700.'" in error
    assert "ZeroDivisionError: division by zero (line 2)" in error and error.count("\n") == 1
    assert "; 500 decided rows are kept in " in error and "--accept_edited_files true" in error
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert ledger.reasons() == {"odd": 500}

    path.write_text("def odd(example):\n    return True\n")
    assert main(arguments(source, tmp_path / "run", *options, "--accept_edited_files")) == 0
    assert "from now on the edited version is used of " in capsys.readouterr().out
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert ledger.reasons() == {"odd": 500} and ledger.accepted_count() == 300
    manifest = (tmp_path / "run/dataset/manifest.json").read_text()
    (change,) = json.loads(manifest)["config_changes"]
    assert change["from_request"] == 1 and list(change["changed"]) == ["my_filters.py"]
    assert str(tmp_path) not in manifest


def test_a_users_benchmark_drops_rows_and_its_file_identifies_the_run(tmp_path, capsys):
    path = tmp_path / "my_bench.py"
    instruction = "Write a function `triple` that returns three times its argument."
    problem = {
        "task_id": "mine/0", "prompt": "def triple(x):\n", "entry_point": "triple",
        "canonical_solution": "    return 3 * x\n", "instruction": instruction,
        "test": "def check(candidate):\n    assert candidate(2) == 6\n",
    }  # fmt: skip
    path.write_text(f"def load():\n    return [{problem}]\n")
    row = {"instruction": instruction, "input": "", "output": "def triple(x):\n    return 3 * x"}
    source = write_rows(tmp_path / "rows.jsonl", [row, *GOOD])
    options = ["--verify", "false", "--decontaminate", f"{path}:load"]
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    assert "contaminated" in load_reasons(tmp_path / "run").values()
    path.write_text(path.read_text() + "# changed\n")
    assert main(arguments(source, tmp_path / "run", *options, "--accept_edited_files")) == 2
    error = capsys.readouterr().err
    assert "my_bench.py changed since" in error, "old rows were not compared"
    assert "accept_edited_files applies only to filters, strategies and prompts" in error


def test_a_benchmark_file_identifies_the_run_from_its_first_record_on(tmp_path, capsys):
    path, run_dir = tmp_path / "mine.jsonl", tmp_path / "run"
    problem = {"task_id": "mine/0", "prompt": "def triple(x):\n", "entry_point": "triple",
               "canonical_solution": "    return 3 * x\n",
               "test": "def check(candidate):\n    assert candidate(2) == 6\n"}  # fmt: skip
    path.write_text(json.dumps(problem) + "\n")
    source = write_rows(tmp_path / "rows.jsonl", GOOD)
    options = ["--verify", "false", "--decontaminate", f"{path},mini"]
    assert main(arguments(source, run_dir, *options)) == 0
    with sqlite3.connect(run_dir / "ledger.sqlite") as database:  # as an earlier version left it
        lost = database.execute("DELETE FROM meta WHERE key LIKE 'benchmark %'").rowcount
    assert lost == 2, "also the shipped benchmark has a record"
    assert main(arguments(source, run_dir, *options)) == 0, "it is recorded now"
    path.write_text(json.dumps(problem | {"instruction": "Return three times x."}) + "\n")
    for more in ((), ("--accept_edited_files",)):
        capsys.readouterr()
        assert main(arguments(source, run_dir, *options, *more)) == 2
        error = capsys.readouterr().err
        assert f"benchmark {path} changed since" in error and error.count("\n") == 1
        assert "--accept_edited_files true" not in error


def test_a_run_with_old_filter_names_is_resumed(tmp_path, capsys):
    """A ledger of an earlier version records the names that filters had then."""
    source = write_rows(tmp_path / "rows.jsonl", GOOD)
    names = "empty,instruction_length,output_length,prompt_leak,language_sanity,secrets"
    options = ["--verify", "false", "--filters", names]
    assert main(arguments(source, tmp_path / "run", *options)) == 0
    assert "filters: secrets is now called secret; " in capsys.readouterr().out
    with Ledger(tmp_path / "run/ledger.sqlite") as ledger:
        config = ledger.record("config")
        assert "instruction_too_short" in config["filters"]
        ledger.set_meta("config", json.dumps({**config, "filters": names.split(",")}))
    assert main(arguments(source, tmp_path / "run", *options)) == 0
