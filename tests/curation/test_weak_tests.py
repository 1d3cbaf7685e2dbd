"""Rows whose tests do not detect wrong code stay in `default` and are not in `verified`."""

from __future__ import annotations

import json

import pytest
from datasets import load_dataset
from support.generation_runs import generate_args, read_rows

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.schema import COLUMNS

pytestmark = pytest.mark.usefixtures("without_plots")
VACUOUS = ["pass", "assert True", "x = 1", "assert callable({})", "assert {0} == {0}"]
TASKS = ["adds up all even numbers in a list", "reverses the words of a sentence",
         "counts vowels in a text", "finds the median of some values",
         "merges two sorted lists"]  # fmt: skip
MAXIMUM = {
    "instruction": "Write a Python function `largest(values)`: the maximum, without max().",
    "output": "def largest(values):\n    best = values[0]\n    for value in values:\n"
    "        if value > best:\n            best = value\n    return best",
    "tests": "assert largest([3, 9, 4]) == 9\nassert largest([-5, -7]) == -5",
}


def make_rows() -> list[dict[str, str]]:
    """Return wrong answers with vacuous tests, and a correct one with good tests."""
    rows = [MAXIMUM]
    for number, (task, tests) in enumerate(zip(TASKS, VACUOUS, strict=True)):
        name = f"task_{number}"
        rows.append({
            "instruction": f"Write a Python function `{name}` that {task}.",
            "output": f"def {name}(value):\n    return value * {number} + {number}",
            "tests": tests.format(name),
        })  # fmt: skip
    return rows


@pytest.fixture
def curate(tmp_path):
    """Curates the rows into a run folder and returns its path; `rows` limits how many."""

    def curate(*options: str, run: str = "run", code: int = 0):
        source = tmp_path / "rows.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in make_rows()))
        command = ["curate", "--source", str(source), "--run_dir", str(tmp_path / run)]
        assert main([*command, *options]) == code
        return tmp_path / run

    return curate


def load(run_dir, config="default"):
    return load_dataset(str(run_dir / "dataset"), config, split="train")


def read_manifest(run_dir):
    return json.loads((run_dir / "dataset/manifest.json").read_text())


def test_wrong_answers_with_vacuous_tests_are_not_verified(curate):
    run_dir = curate()
    default = load(run_dir)
    assert default["verification"] == ["passed", *["weak_tests"] * len(VACUOUS)]
    strongest, *others = default["test_strength"]
    assert strongest == 0.5 and others == [0.0] * len(VACUOUS)
    (verified,) = load(run_dir, "verified")
    assert verified["output"] == MAXIMUM["output"] and verified["test_strength"] == strongest

    names = list(default.column_names)
    assert names.index("test_strength") == names.index("verification") + 1
    manifest = read_manifest(run_dir)
    assert manifest["columns"]["test_strength"] == "double"
    assert manifest["counts"]["verified"] == 1
    assert manifest["statistics"]["verification"]["weak_tests"] == len(VACUOUS)
    assert manifest["statistics"]["test_strength"][0] == len(VACUOUS)


def test_the_card_and_the_report_show_the_distribution(curate, capsys):
    run_dir = curate()
    card = (run_dir / "dataset/README.md").read_text()
    assert "**Test strength.** The tests of 6 accepted rows" in card
    assert "| `test_strength` |" in card and "| `weak_tests` | 5 |" in card
    capsys.readouterr()
    assert main(["report", "--run_dir", str(run_dir)]) == 0
    table = json.loads((run_dir / "report.json").read_text())["test_strength"]
    assert table["0.0 to 0.1"] == 5 and sum(table.values()) == 6
    assert "weak_tests" in (printed := capsys.readouterr().out) and "0.0 to 0.1" in printed
    weak = load(run_dir)[1]
    assert main(["report", "--run_dir", str(run_dir), "--row", weak["id"]]) == 0
    assert "TESTS, weak_tests, test strength 0.00" in capsys.readouterr().out


def test_a_minimum_of_0_measures_nothing(curate):
    run_dir = curate("--min_test_strength", "0")
    assert set(load(run_dir)["verification"]) == {"passed"}
    assert tuple(load(run_dir).column_names) == COLUMNS
    assert "test_strength" not in read_manifest(run_dir)["statistics"]
    assert "Test strength" not in (run_dir / "dataset/README.md").read_text()


def test_a_higher_minimum_makes_more_tests_weak(curate):
    assert set(load(curate("--min_test_strength", "1"))["verification"]) == {"weak_tests"}


def forget_key(run_dir):
    """Turn a run into one of a version that did not have the key."""
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        config = json.loads(ledger.meta("config"))
        del config["min_test_strength"]
        ledger.set_meta("config", json.dumps(config))


def test_a_run_of_an_earlier_version_keeps_its_rows(curate, capsys):
    run_dir = curate("--min_test_strength", "0")
    before = read_manifest(run_dir)["sha256"]
    forget_key(run_dir)
    for _ in range(2):  # the second start finds the key, as not measured
        curate()
        assert read_manifest(run_dir)["sha256"] == before
    capsys.readouterr()
    curate("--min_test_strength", "0.4", code=2)
    assert "min_test_strength: 0.0 -> 0.4" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_extended_by_its_own_rules(tmp_path):
    started = generate_args(tmp_path, "--min_test_strength", "0", rows=5)
    extended = generate_args(tmp_path, rows=20)
    assert main(started) == 0
    before = read_rows(tmp_path, 5)
    forget_key(tmp_path)
    assert main(extended) == 0
    rows = read_rows(tmp_path, 20)
    assert rows[:5] == before and "passed" in {row["verification"] for row in rows[5:]}
    assert not any("test_strength" in row for row in rows)


def test_a_new_run_measures_the_rows_of_the_teacher(tmp_path):
    assert main(generate_args(tmp_path, rows=20)) == 0
    for row in read_rows(tmp_path, 20):
        measured = row.get("test_strength") is not None
        assert measured == (row["verification"] in ("passed", "weak_tests"))
