"""Benchmarks run, continue where they stopped, and the documentation shows what they measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import ROOT

BENCHMARKS = ROOT / "benchmarks"
NAMES = sorted(path.name.split(".")[0] for path in (BENCHMARKS / "tables").glob("*.md.jinja"))

# Costs grow with the square of the size and with its logarithm; `peer` cannot be installed.
TOY = """
import math
from common import Bench, NotMeasuredError, run

def measure(bench):
    order = []
    def peer():
        raise NotMeasuredError("it could not be installed: no compiler")
    for size in (10, 100, 1000):
        def ours():
            order.append("ours")
            return {"seconds": float(size) + order.count("ours")}
        def quadratic():
            order.append("quadratic")
            return {"seconds": float(size**2)}
        bench.compare({"ours": ours, "peer": peer, "quadratic": quadratic}, repeats=3, size=size)
    bench.facts["order"] = order

if __name__ == "__main__":
    run(measure)
"""


def run_script(script: str, *args: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, BENCHMARKS / script, *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS), "OMP_NUM_THREADS": "1"},
    )


def git(repository: Path, *words: str) -> None:
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.com"]
    subprocess.run(["git", *identity, *words], cwd=repository, check=True, capture_output=True)


@pytest.fixture
def toy(tmp_path):
    """A repository with one committed benchmark, and a folder for results."""
    repository = tmp_path / "repository"
    (repository / "benchmarks/tables").mkdir(parents=True)
    (repository / "benchmarks/toy.py").write_text(TOY, encoding="utf-8")
    (repository / "benchmarks/tables/toy.md.jinja").write_text("", encoding="utf-8")
    git(repository, "init", "--quiet")
    commit(repository)
    return repository


def commit(repository: Path) -> None:
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "--message", "Change the benchmark")


def bench(repository: Path, *args: str) -> str:
    done = run_script(
        "run.py", "--scripts", repository / "benchmarks", "--results", repository / "results",
        *args,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_result_has_every_measurement_medians_exponents_and_what_was_not_measured(toy):
    bench(toy)
    (path,) = (toy / "results").iterdir()
    saved = json.loads(path.read_text("utf-8"))
    result = saved["benchmarks"]["toy"]
    assert path.name == f"{result['date']}-{saved['hardware']['name']}.json"
    assert result["facts"]["order"] == ["ours", "quadratic"] * 9  # in turns
    assert result["rows"][0] == {
        "contestant": "ours",
        "size": 10,
        "median": {"seconds": 12.0},
        "measurements": [{"seconds": 11.0}, {"seconds": 12.0}, {"seconds": 13.0}],
    }
    assert result["rows"][1] == {
        "contestant": "peer",
        "size": 10,
        "not_measured": "it could not be installed: no compiler",
    }
    assert result["exponents"]["quadratic"] == {"seconds": pytest.approx(2)}
    assert list(result["exponents"]) == ["ours", "quadratic"]
    assert result["versions"]["code-alpaca"]


def test_a_measured_benchmark_is_skipped_until_its_code_changes_or_it_is_asked_for(toy):
    bench(toy)
    assert "toy: already measured at commit" in bench(toy)
    assert "already" not in bench(toy, "toy", "--again")
    script = toy / "benchmarks/toy.py"
    script.write_text(TOY.replace("1000", "10_000"), encoding="utf-8")
    assert "already" not in bench(toy)
    assert "already" not in bench(toy)  # not committed: nobody could measure it again
    commit(toy)
    assert "already" not in bench(toy)
    assert "already measured" in bench(toy)


def test_a_failed_benchmark_is_named_and_does_not_stop_the_others(toy):
    (toy / "benchmarks/broken.py").write_text("raise OSError", encoding="utf-8")
    (toy / "benchmarks/tables/broken.md.jinja").write_text("", encoding="utf-8")
    done = run_script("run.py", "--scripts", toy / "benchmarks", "--results", toy / "results")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "not measured, their scripts failed: broken"
    (path,) = (toy / "results").iterdir()
    assert list(json.loads(path.read_text("utf-8"))["benchmarks"]) == ["toy"]


def test_wrong_names_and_quick_results_among_the_real_ones_are_refused():
    done = run_script("run.py", "novelty_sped")
    assert "no benchmark 'novelty_sped': did you mean 'novelty_speed'?" in done.stderr
    assert "--results" in run_script("run.py", "--quick").stderr


def test_the_tables_of_the_documentation_are_those_of_the_result_files():
    done = run_script("tables.py", "--check")
    assert done.returncode == 0, done.stderr
    page = (ROOT / "docs/benchmarks.md").read_text("utf-8")
    assert sorted(re.findall(r"<!-- benchmark: (\w+) -->", page)) == NAMES


def test_a_table_that_differs_from_its_file_is_named_and_written_again(tmp_path):
    save_sharded_seconds(tmp_path / "2026-01-01-2xcpu.json", 10.0)
    page = tmp_path / "page.md"
    page.write_text("# Speed\n<!-- benchmark: novelty_sharded -->\n<!-- end -->\n", "utf-8")
    outdated = run_script("tables.py", "--check", "--results", tmp_path, page)
    assert outdated.returncode == 1
    assert "page.md: novelty_sharded; run make bench-tables" in outdated.stderr
    assert run_script("tables.py", "--results", tmp_path, page).returncode == 0
    assert "| four workers | 10.0 |" in page.read_text("utf-8")
    assert run_script("tables.py", "--check", "--results", tmp_path, page).returncode == 0
    page.write_text(page.read_text("utf-8").replace("10.0", "9.0"), "utf-8")
    assert run_script("tables.py", "--check", "--results", tmp_path, page).returncode == 1


def test_a_table_shows_the_newest_result_of_each_kind_of_hardware(tmp_path):
    save_sharded_seconds(tmp_path / "2026-01-01-2xcpu.json", 10.0)
    save_sharded_seconds(tmp_path / "2026-02-01-2xcpu.json", 20.0)
    save_sharded_seconds(tmp_path / "2026-01-15-8xh100.json", 1.0, gpus=["NVIDIA H100"] * 8)
    page = tmp_path / "page.md"
    page.write_text("<!-- benchmark: novelty_sharded -->\n<!-- end -->\n", "utf-8")
    assert run_script("tables.py", "--results", tmp_path, page).returncode == 0
    text = page.read_text("utf-8")
    assert "| four workers | 20.0 |" in text and "on 2 CPU cores (a CPU)" in text
    assert "| four workers | 1.0 |" in text and "on 8 x NVIDIA H100" in text
    assert "| four workers | 10.0 |" not in text


def save_sharded_seconds(path: Path, seconds: float, gpus: tuple[str, ...] | list[str] = ()):
    row = {
        "contestant": "four workers",
        "size": 100,
        "kept": 90,
        "median": {"seconds": seconds, "rows_that_differ": 0},
    }
    result = {
        "date": path.name[:10], "commit": "abc", "versions": {"code-alpaca": "1.0.0"}, "files": {},
        "facts": {}, "rows": [row], "exponents": {},
    }  # fmt: skip
    hardware = {
        "name": path.stem[11:], "cpu": "a CPU", "cores": 2, "gpus": list(gpus), "python": "3.11",
    }  # fmt: skip
    saved = {"hardware": hardware, "benchmarks": {"novelty_sharded": result}}
    path.write_text(json.dumps(saved), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_runs_and_has_a_table(name, tmp_path):
    done = run_script("run.py", name, "--quick", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    page = tmp_path / "page.md"
    page.write_text(f"<!-- benchmark: {name} -->\n<!-- end -->\n", encoding="utf-8")
    done = run_script("tables.py", "--results", tmp_path / "results", page)
    assert done.returncode == 0, done.stderr
    table = page.read_text("utf-8")
    assert "code-alpaca" in table and "|---" in table and "*Measured on " in table
