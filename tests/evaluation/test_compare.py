"""Two runs on the same problems: the difference in pass@1 and its significance."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_alpaca.cli import main
from code_alpaca.evaluation.compare import mcnemar_p_value
from code_alpaca.problems import load_problems

WORDS = ["eval", "--benchmark", "mini"]


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_the_two_sided_binomial_test(won, lost):
    n = won + lost
    at_least_as_uneven = [i for i in range(n + 1) if abs(i - n / 2) >= abs(won - n / 2)]
    exact = sum(math.comb(n, i) for i in at_least_as_uneven) / 2**n
    assert mcnemar_p_value(won, lost) == pytest.approx(exact)
    assert mcnemar_p_value(won, lost) == mcnemar_p_value(lost, won)


def run(folder, solved):
    """Evaluate samples of which the first `solved` pass."""
    lines = []
    for n, problem in enumerate(load_problems("mini")):
        text = problem.canonical_solution if n < solved else "    return None\n"
        lines.append(json.dumps({"task_id": problem.task_id, "completion": text}))
    samples = folder.with_suffix(".jsonl")
    samples.write_text("\n".join(lines))
    return main([*WORDS, "--samples", str(samples), "--output_dir", str(folder)])


def test_a_significant_difference_and_none(tmp_path, capsys):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    assert run(ours, 15) == 0 and run(theirs, 5) == 0
    assert main(["eval", "--compare", str(theirs), "--output_dir", str(ours)]) == 0
    comparison = json.loads((ours / "comparison.json").read_text())
    assert (comparison["ours"], comparison["theirs"], comparison["difference"]) == (0.75, 0.25, 0.5)
    assert comparison["interval"][0] > 0.2 and comparison["p_value"] == pytest.approx(2 / 2**10)
    assert len(comparison["won"]) == 10 and comparison["lost"] == []
    assert "10 problems won, 0 lost, p = 0.00195" in capsys.readouterr().out
    assert main(["eval", "--compare", str(ours), "--output_dir", str(ours)]) == 0
    same = json.loads((ours / "comparison.json").read_text())
    assert same["p_value"] == 1.0
    assert same["interval"][0] < same["difference"] == 0 < same["interval"][1]


def test_runs_on_other_problems_and_folders_without_results_are_refused(tmp_path, capsys):
    ours, fewer = tmp_path / "ours", tmp_path / "fewer"
    assert run(ours, 20) == 0
    words = [*WORDS, "--samples", "reference", "--limit", "3", "--output_dir", str(fewer)]
    assert main(words) == 0
    assert main(["eval", "--compare", str(fewer), "--output_dir", str(ours)]) == 2
    assert "different problems" in capsys.readouterr().err
    assert main(["eval", "--compare", str(tmp_path), "--output_dir", str(ours)]) == 2
    assert "contains no results of eval" in capsys.readouterr().err


def test_a_folder_to_compare_with_is_checked_before_anything_is_evaluated(tmp_path, capsys):
    words = [*WORDS, "--samples", "reference", "--output_dir", str(tmp_path / "ours")]
    assert main([*words, "--compare", str(tmp_path / "nope")]) == 2
    assert "nope contains no results of eval" in capsys.readouterr().err
    assert not (tmp_path / "ours").exists()


def test_runs_on_two_versions_of_a_benchmark_file_are_refused(benchmark_file, run_eval, capsys):
    words = ["--benchmark", benchmark_file, "--samples", "reference"]
    assert run_eval(*words) == 0
    theirs = run_eval.output_dir
    benchmark_file.write_text(benchmark_file.read_text() + "\n")
    run_eval.output_dir = theirs.with_name("ours")
    assert run_eval(*words) == 0
    assert run_eval("--compare", theirs) == 2
    error = capsys.readouterr().err
    assert f"{benchmark_file} and {benchmark_file} differ in sha256" in error

    old = json.loads((theirs / "results.json").read_text())
    del old["source"]["sha256"]  # of an earlier version
    (theirs / "results.json").write_text(json.dumps(old))
    assert run_eval("--compare", theirs) == 0
