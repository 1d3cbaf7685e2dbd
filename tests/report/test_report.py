"""`code-alpaca report` prints the numbers of a ledger and writes them as JSON, plots and a page."""

from __future__ import annotations

import json

import pytest
from support.plots import without_plots

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger


def test_the_tables_agree_with_the_ledger(run_dir, capsys):
    with without_plots():
        assert main(["report", "--run_dir", str(run_dir)]) == 0
    printed = capsys.readouterr().out
    tables = json.loads((run_dir / "report.json").read_text())
    totals = tables["totals"]
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        assert totals["accepted"] == 20 <= ledger.accepted_count()
        assert tables["rejected"] == ledger.reasons()
        assert totals["replies"] == ledger.usage()["replies"]
    assert totals["candidates"] == totals["accepted"] + totals["rejected"]
    assert sum(tables["languages"].values()) == totals["accepted"]
    for reason, count in tables["rejected"].items():
        assert f"{reason} " in printed and f" {count} " in printed


def test_the_page_shows_the_plots(run_dir, capsys):
    assert main(["report", "--run_dir", str(run_dir), "--page_rows", "4000"]) == 0
    page = run_dir / "report.html"
    assert str(page) in capsys.readouterr().out
    assert "This page contains the first" not in page.read_text()
    drawn = {path.name for path in (run_dir / "report").iterdir()}
    assert {"funnel.png", "verbs.png", "languages.png", "lengths.png"} <= drawn
    assert page.read_text().count("<img") == len(drawn)


def test_the_page_shows_at_most_page_rows_rows(run_dir, capsys):
    page = run_dir / "report.html"
    with without_plots():
        assert main(["report", "--run_dir", str(run_dir), "--page_rows", "5"]) == 0
        assert "This page contains the first 5 of 20 accepted rows." in page.read_text()
        capsys.readouterr()
        assert main(["report", "--run_dir", str(run_dir), "--page_rows", "0"]) == 0
    assert not page.exists() and str(page) not in capsys.readouterr().out


def test_an_empty_ledger_is_reported_without_plots(tmp_path):
    Ledger(tmp_path / "ledger.sqlite").close()
    assert main(["report", "--run_dir", str(tmp_path)]) == 0
    assert not list((tmp_path / "report").iterdir())
    assert "<h1>" in (tmp_path / "report.html").read_text()


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["report", "--run_dir", str(tmp_path)]) == 2
    assert "no ledger" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"not a database at all, but some other text"])
def test_a_file_that_is_not_a_ledger_is_refused_in_one_line(tmp_path, content, capsys):
    (tmp_path / "ledger.sqlite").write_bytes(content)
    assert main(["report", "--run_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "is not the ledger of a run" in error and error.count("\n") == 1
