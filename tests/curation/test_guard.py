"""A row that breaks a check or cannot be stored is rejected with a reason; the run continues."""

from __future__ import annotations

import errno
import json

import pytest
from datasets import load_dataset

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.plugins import PluginError
from code_alpaca.core.row_checks import MAX_ROW_BYTES, make_storable, validate_row
from code_alpaca.core.schema import Example
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.pipeline import Curator
from code_alpaca.dataset.build import build_dataset


class FailingDetector:
    """A contamination detector that raises an error for some rows."""

    def __init__(self, error=None):
        self.error = error

    def find_matches(self, example):
        if self.error and "fragile" in example.instruction:
            raise self.error
        return []


class FailingVerifier(FailingDetector):
    """A verifier that raises an error for some rows."""

    def has_program(self, example):
        return not self.find_matches(example)

    def verify(self, example):
        return "" if self.find_matches(example) else "passed"

    def check_tests(self, example):
        return example


def decide(rows, *, filters=("empty",), contamination=None, verifier=None):
    """Return a curator and its decisions on rows."""
    curator = Curator(
        filters=filters,
        novelty=NoveltyPool(),
        contamination=contamination or FailingDetector(),
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
@pytest.mark.parametrize(
    ("key", "check"), [("contamination", FailingDetector), ("verifier", FailingVerifier)]
)
def test_only_the_row_on_which_a_check_fails_is_rejected(key, check, error):
    curator, decisions = decide(ROWS, **{key: check(error)})
    assert [decision.reason for decision in decisions] == ["", "internal_error", ""]
    assert type(error).__name__ in decisions[1].evidence and "\n" not in decisions[1].evidence
    assert curator.failures.total() == 1


def test_a_users_filter_that_fails_rejects_no_row(tmp_path):
    path = tmp_path / "my_filters.py"
    path.write_text('def fails(example):\n    return example.output.index("import")\n')
    with pytest.raises(PluginError, match=r"ValueError: substring not found \(line 2\)"):
        decide(ROWS[:2], filters=[f"{path}:fails"])


@pytest.mark.parametrize("error", [InputError("no sandbox"), OSError(errno.ENOSPC, "disk full")])
def test_an_error_of_the_machine_ends_the_run(error):
    with pytest.raises(type(error)):
        decide(ROWS, contamination=FailingDetector(error))


FAULTY = [
    (Example("a", "", "b", seed_ids=[1]), "malformed_row", "'seed_ids' must be list[str]"),
    (Example("a", "", ["b"]), "malformed_row", "'output' must be str, found list"),
    (Example("a", None, "b"), "malformed_row", "'input' must be str, found NoneType"),
    (Example("a", "", "b", nearest_score=float("nan")), "malformed_row", "'nearest_score'"),
    (Example("a", "", "b", tests="\0"), "not_text", "'tests' contains a NUL"),
    (Example("a\ud800", "", "b"), "not_text", "half a surrogate"),
    (Example("a", "", "b", seed_ids=["\udfff"]), "not_text", "'seed_ids'"),
    (Example("a", "é" * (MAX_ROW_BYTES // 2), "b"), "row_too_large", "1,048,578 bytes"),
]


@pytest.mark.parametrize(("row", "reason", "evidence"), FAULTY)
def test_a_row_that_cannot_be_stored_is_rejected_in_a_storable_form(row, reason, evidence):
    fault = validate_row(row)
    assert fault[0] == reason and evidence in fault[1]
    stored = make_storable(row)
    assert validate_row(stored) is None and len(json.dumps(stored.as_row())) < 20_000
    _, (decision,) = decide([row])
    assert (decision.reason, validate_row(decision.example)) == (reason, None)


def test_a_dataset_is_built_from_a_ledger_with_such_rows(tmp_path, capsys):
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
    assert f"{len(FAULTY)} accepted rows as unusable" in capsys.readouterr().out
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["counts"]["default"] == 3
    assert manifest["rejected_by_reason"] == {
        "malformed_row": 4, "not_text": 3, "refusal": 1, "row_too_large": 1,
    }  # fmt: skip
    assert manifest["candidates"] == 3 + manifest["counts"]["rejected"]
    rows = load_dataset(str(folder), "rejected", split="train", cache_dir=str(tmp_path / "cache"))
    assert rows["reason"][:2] == ["refusal", "malformed_row"] and rows["seed_ids"][1] == ["1"]
