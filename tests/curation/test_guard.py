"""One row never ends a run: what breaks a check, or cannot be stored, is rejected with a reason."""

from __future__ import annotations

import errno
import json

import pytest
from datasets import load_dataset

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.row_checks import MAX_ROW_BYTES, fault_of, storable
from code_alpaca.core.schema import Example
from code_alpaca.curation.guard import GuardedCurator
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.dataset.build import build_dataset
from code_alpaca.generation.parsing import guarded_parse
from code_alpaca.teacher.reply_parsing import ParsedReply


class Contamination:
    """In the place of the real one: raises for some rows."""

    def __init__(self, error=None):
        self.error = error

    def find_matches(self, example):
        if self.error and "fragile" in example.instruction:
            raise self.error
        return []


class Verifier(Contamination):
    """The same in the place of the sandboxes."""

    def has_program(self, example):
        return not self.find_matches(example)

    def verify(self, example):
        return "" if self.find_matches(example) else "passed"


def decided(rows, contamination=None, verifier=None):
    curator = GuardedCurator(
        filters=["empty"],
        novelty=NoveltyPool(),
        contamination=contamination or Contamination(),
        verifier=verifier,
    )
    decisions = []
    for row in rows:
        decision = curator.check_row(row)
        curator.needs_sandbox(decision)
        decisions.append(curator.check_pool(curator.verify(decision)))
    return curator, decisions


ROWS = [
    Example("Write a loop over a list of names.", "", "for name in names: pass"),
    Example("Explain fragile base classes.", "", "They break."),
    Example("Open a socket.", "", "import socket"),
]


ERRORS = [KeyError("x"), RecursionError("too\ndeep"), MemoryError(), OSError(36, "Name too long")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("check", [Contamination, Verifier])
def test_a_row_on_which_a_check_fails_is_rejected_alone_and_counted(check, error):
    curator, decisions = decided(ROWS, **{check.__name__.lower(): check(error)})
    assert [each.reason for each in decisions] == ["", "internal_error", ""]
    assert type(error).__name__ in decisions[1].evidence and "\n" not in decisions[1].evidence
    assert curator.failures.total() == 1


@pytest.mark.parametrize("error", [InputError("no sandbox"), OSError(errno.ENOSPC, "disk full")])
def test_what_is_wrong_with_the_machine_ends_the_run(error):
    with pytest.raises(type(error)):
        decided(ROWS, contamination=Contamination(error))


def test_a_parser_that_fails_gives_one_rejected_candidate():
    def parse(answer):
        raise IndexError(answer.text)

    (candidate,) = guarded_parse(parse)(ParsedReply("odd"))
    assert candidate.reason == "internal_error" and "IndexError: odd" in candidate.output


FAULTY = [
    (Example("a", "", "b", seed_ids=[1]), "malformed_row", "'seed_ids' must be list[str]"),
    (Example("a", "", ["b"]), "malformed_row", "'output' must be str, found list"),
    (Example("a", None, "b"), "malformed_row", "'input' must be str, found NoneType"),
    (Example("a", "", "b", nearest_score=float("nan")), "malformed_row", "'nearest_score'"),
    (Example("a", "", "b", tests="\0"), "not_text", "'tests' holds a NUL"),
    (Example("a\ud800", "", "b"), "not_text", "half a surrogate"),
    (Example("a", "", "b", seed_ids=["\udfff"]), "not_text", "'seed_ids'"),
    (Example("a", "é" * (MAX_ROW_BYTES // 2), "b"), "row_too_large", "1,048,578 bytes"),
]


@pytest.mark.parametrize(("row", "reason", "evidence"), FAULTY)
def test_a_row_that_cannot_be_stored_is_named_and_shown(row, reason, evidence):
    found = fault_of(row)
    assert found[0] == reason and evidence in found[1]
    shown = storable(row)
    assert fault_of(shown) is None and len(json.dumps(shown.as_row())) < 20_000
    (decision,) = decided([row])[1]
    assert (decision.reason, fault_of(decision.example)) == (reason, None)


def test_a_dataset_is_built_though_its_ledger_holds_such_rows(tmp_path, capsys):
    config = {
        "teacher_model": "m", "dataset_version": "0.1.0", "num_examples": 3, "novelty": "rouge_l",
        "novelty_threshold": 0.7,
    }  # fmt: skip
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_meta("config", json.dumps(config))
        ledger.request(0, "/chat", {})
        rows = [ROWS[0], *(row for row, _, _ in FAULTY), ROWS[1], ROWS[2], ROWS[2]]
        decisions = [Decision(row, "") for row in rows]
        ledger.decide(0, [*decisions, Decision(FAULTY[0][0], "refusal", "no")])
    folder = build_dataset(tmp_path, draw_plots=False)
    assert f"{len(FAULTY)} accepted rows are unusable" in capsys.readouterr().out
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["default"] == 3
    assert manifest["rejected_by_reason"] == {
        "malformed_row": 4, "not_text": 3, "refusal": 1, "row_too_large": 1,
    }  # fmt: skip
    assert manifest["candidates"] == 3 + manifest["counts"]["rejected"]
    rows = load_dataset(str(folder), "rejected", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["reason"][:2] == ["refusal", "malformed_row"] and rows["seed_ids"][1] == ["1"]


def words(run_dir, *more, url="offline"):
    return ["generate", "--run_dir", str(run_dir), "--teacher_base_url", url, *more]


def test_nothing_in_a_paid_reply_ends_the_run_and_no_accepted_row_still_leaves_the_rejected(
    tmp_path, httpserver, capsys
):
    good = {"instruction": "Add two numbers in Python.", "output": "1 + 1"}
    odd = [
        {**good, "output": "x" * (MAX_ROW_BYTES + 1)},
        {**good, "tests": "\0"},
        {**good, "input": "\0"},
        {**good, "instruction": "\ud800"},
        {**good, "output": ["a"]},
        {**good, "output": None},
        "text",
        None,
    ]
    text = json.dumps({"tasks": odd})[:-2] + ', {"instruction": ' + "[" * 5_000
    reply = {"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}
    httpserver.expect_request("/v1/chat/completions").respond_with_json(reply)
    more = ["--patience", "2", "--max_concurrency", "1", "--verify", "false", "--filters", "none",
            "--decontaminate", "none"]  # fmt: skip
    assert main(words(tmp_path, *more, url=httpserver.url_for("/v1"))) == 3
    shown = capsys.readouterr()
    assert "2 replies in a row brought no new row" in shown.err
    assert f"are in {tmp_path}/dataset/data/rejected" in shown.out
    rows = load_dataset(
        str(tmp_path / "dataset"), "rejected", split="train", cache_dir=str(tmp_path / "cache")
    )
    reasons = rows["reason"][:9]
    assert reasons[:4] == ["row_too_large", "not_text", "not_text", "not_text"]
    assert set(reasons[4:]) == {"malformed"}
    assert max(map(len, rows["output"])) <= 2_000
    with pytest.raises(InputError, match="no row was accepted"):
        build_dataset(tmp_path)


def test_every_count_is_the_datasets_and_skipped_decontamination_is_said_at_the_end(
    tmp_path, capsys
):
    more = ["--num_examples", "12", "--lookahead", "4", "--verify", "false",
            "--decontaminate", "humaneval", "--missing_benchmarks", "skip"]  # fmt: skip
    assert main(words(tmp_path, *more)) == 0
    shown = capsys.readouterr().out
    manifest = json.loads((tmp_path / "dataset/manifest.json").read_text())
    assert manifest["counts"]["default"] == 12
    assert f"12 rows accepted of {manifest['candidates']} candidates" in shown
    with Ledger(tmp_path / "ledger.sqlite", write=False) as ledger:
        surplus = ledger.accepted_count() - 12
    assert surplus > 0 and f"{surplus} more accepted rows stay in the ledger" in shown
    assert "decontamination skipped for humaneval" in shown.strip().splitlines()[-1]


def test_a_seed_task_that_fails_its_own_tests_is_named_before_anything_is_sent(tmp_path, capsys):
    seeds = tmp_path / "seeds.jsonl"
    tasks = [
        {"id": "adds", "output": "def f(a):\n    return a + 1", "tests": "assert f(1) == 2"},
        {"id": "broken", "output": "def f(a):\n    return a - 1", "tests": "assert f(1) == 2"},
        {"id": "untested", "output": "SELECT 1", "language": "sql"},
        {"id": "elsewhere", "output": "import nowhere", "tests": "assert nowhere.x"},
    ]
    lines = [json.dumps({"instruction": "Do it.", "language": "python", **task}) for task in tasks]
    seeds.write_text("\n".join(lines))
    more = ["--seed_tasks", str(seeds), "--num_examples", "3", "--decontaminate", "none"]
    assert main(words(tmp_path / "run", *more)) == 2
    error = capsys.readouterr().err
    assert "1 seed tasks do not pass their own tests: broken (failed)" in error
    with Ledger(tmp_path / "run/ledger.sqlite", write=False) as ledger:
        assert ledger.usage()["requests"] == 0
