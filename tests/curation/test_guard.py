"""One row never ends a run: what breaks a check, or cannot be stored, is rejected with a reason."""

from __future__ import annotations

import errno
import json

import pytest
from datasets import load_dataset

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.row_checks import MAX_ROW_BYTES, fault_of, storable
from code_alpaca.core.schema import Example
from code_alpaca.curation.guard import GuardedCurator
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.dataset.build import build_dataset


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
