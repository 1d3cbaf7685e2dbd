"""The report tells what the ledger holds, and nothing else."""

from __future__ import annotations

import json

from code_alpaca.cli import main
from code_alpaca.core.ledger import Ledger


def test_report_adds_up(tmp_path, capsys):
    words = ["generate", "--run_dir", str(tmp_path), "--num_examples", "20"]
    assert main([*words, "--teacher_base_url", "offline?refusal=0.1&truncated=0.2"]) == 0
    assert main(["report", "--run_dir", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    facts = json.loads((tmp_path / "report.json").read_text())
    totals = facts["totals"]
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        assert totals["accepted"] == 20 <= ledger.accepted_count()
        assert facts["rejected"] == ledger.reasons()
        assert totals["replies"] == ledger.usage()["replies"]
    assert totals["candidates"] == totals["accepted"] + totals["rejected"]
    assert sum(facts["languages"].values()) == totals["accepted"]
    for reason, count in facts["rejected"].items():
        assert f"{reason} " in shown and f" {count} " in shown


def test_report_is_a_page_with_pictures(tmp_path, capsys):
    words = ["generate", "--run_dir", str(tmp_path), "--num_examples", "20"]
    assert main([*words, "--teacher_base_url", "offline?truncated=0.2"]) == 0
    folder, page = tmp_path / "report", tmp_path / "report.html"
    for rows in ("0", "5", "4000"):
        assert main(["report", "--run_dir", str(tmp_path), "--page_rows", rows]) == 0
        assert page.exists() == (rows != "0") == (str(page) in capsys.readouterr().out)
        if rows == "5":
            assert "rows this page holds the first 5." in page.read_text()
    assert "rows this page holds" not in page.read_text()
    drawn = {path.name for path in folder.iterdir()}
    assert {"funnel.png", "verbs.png", "languages.png", "lengths.png"} <= drawn
    assert page.read_text().count("<img") == len(drawn)


def test_report_needs_nothing_but_the_ledger(tmp_path):
    Ledger(tmp_path / "ledger.sqlite").close()
    assert main(["report", "--run_dir", str(tmp_path)]) == 0
    assert not list((tmp_path / "report").iterdir())
    assert "<h1>" in (tmp_path / "report.html").read_text()


def test_report_of_no_run(tmp_path, capsys):
    assert main(["report", "--run_dir", str(tmp_path)]) == 2
    assert "no ledger" in capsys.readouterr().err


def test_report_of_something_else(tmp_path, capsys):
    for text in (b"", b"not a database at all, but some other text"):
        (tmp_path / "ledger.sqlite").write_bytes(text)
        assert main(["report", "--run_dir", str(tmp_path)]) == 2
        error = capsys.readouterr().err
        assert "is not the ledger of a run" in error and error.count("\n") == 1
