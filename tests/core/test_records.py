"""The JSON files between stages: old ones survive a rewrite, newer and damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from code_alpaca.core import records
from code_alpaca.core.errors import InputError
from code_alpaca.core.records import EvalResults, Manifest, ReleaseRecord, RunRecord

OLD_FILES = Path(__file__).parent / "records_before_versions"
RECORDS = [Manifest, RunRecord, EvalResults, ReleaseRecord]


def old_values(kind: type[records.Record]) -> dict:
    return json.loads((OLD_FILES / kind.FILE).read_text())


@pytest.mark.parametrize("kind", RECORDS)
def test_a_file_without_a_version_is_read_and_written_back_byte_for_byte(kind, tmp_path):
    record = kind.load(OLD_FILES)
    assert record.schema_version == 0
    record.save(tmp_path / kind.FILE)
    assert (tmp_path / kind.FILE).read_bytes() == (OLD_FILES / kind.FILE).read_bytes()


@pytest.mark.parametrize("kind", RECORDS)
def test_a_new_record_differs_from_an_old_file_by_its_version_alone(kind, tmp_path):
    values = old_values(kind)
    kind(**values).save(tmp_path / kind.FILE)
    written = json.loads((tmp_path / kind.FILE).read_text())
    assert list(written.items()) == [("schema_version", 1), *values.items()]
    assert kind.load(tmp_path).as_dict() == written


@pytest.mark.parametrize("kind", RECORDS)
def test_unknown_keys_are_kept_in_their_place(kind, tmp_path):
    values = {"from_the_future": {"a": [1]}, **old_values(kind)}
    (tmp_path / kind.FILE).write_text(json.dumps(values))
    assert list(kind.load(tmp_path).as_dict().items()) == list(values.items())


@pytest.mark.parametrize("kind", RECORDS)
def test_a_newer_schema_version_is_refused_naming_who_wrote_it(kind, tmp_path):
    versions = {"code-alpaca": "9.1.0"}
    values = {"schema_version": 99, "tools": versions, "versions": versions}
    (tmp_path / kind.FILE).write_text(json.dumps(values))
    with pytest.raises(InputError) as refused:
        kind.load(tmp_path)
    message = str(refused.value)
    assert "code-alpaca 9.1.0" in message and "upgrade code-alpaca" in message
    assert str(tmp_path / kind.FILE) in message and "\n" not in message


@pytest.mark.parametrize("kind", RECORDS)
@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff", b"[" * 100_000])
def test_a_file_that_is_not_json_is_refused_in_one_line(kind, content, tmp_path):
    if content is not None:
        (tmp_path / kind.FILE).write_bytes(content)
    with pytest.raises(InputError) as refused:
        kind.load(tmp_path / kind.FILE)
    message = str(refused.value)
    assert f"cannot read {tmp_path / kind.FILE}" in message and "\n" not in message
    assert f"code-alpaca {kind.STAGE}" in message


@pytest.mark.parametrize(
    ("kind", "change", "place"),
    [
        (Manifest, {"version": "1"}, "version"),
        (Manifest, {"counts": {"default": "5"}}, "counts.default"),
        (Manifest, {"sha256": None}, "sha256"),
        (RunRecord, {"datasets": [1]}, "datasets.0"),
        (RunRecord, {"config": 1}, "config"),
        (EvalResults, {"problems": True}, "problems"),
        (EvalResults, {"pass@1": "high"}, "pass@1"),
        (EvalResults, {"pass@1_interval": [0.0]}, "pass@1"),
        (ReleaseRecord, {"sha256": [1]}, "sha256"),
    ],
)
def test_a_field_of_another_type_is_named(kind, change, place, tmp_path):
    (tmp_path / kind.FILE).write_text(json.dumps({**old_values(kind), **change}))
    with pytest.raises(records.RecordFormatError) as refused:
        kind.load(tmp_path)
    assert place in str(refused.value) and "\n" not in str(refused.value)


def test_nan_can_be_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"first_loss": float("nan")}))
    assert RunRecord.load(tmp_path).first_loss != RunRecord.load(tmp_path).first_loss
    with pytest.raises(InputError, match="it contains NaN"):
        RunRecord.load(tmp_path, refuse_nan=True)


def test_integers_stay_integers(tmp_path):
    record = RunRecord(seconds=3, mfu=0.5)
    assert json.dumps(record.as_dict()) == '{"schema_version": 1, "seconds": 3, "mfu": 0.5}'


def test_counts_under_their_old_names_are_read_and_kept():
    counts = {"rows": 4, "dropped": 1, "cut": 2, "tokens": 9, "learned_tokens": 5, "longest": 3}
    record = RunRecord.parse({"counts": counts}, "run.json")
    assert (record.counts.truncated, record.counts.loss_tokens) == (2, 5)
    assert record.as_dict()["counts"] == counts


def test_a_changed_copy_writes_the_change():
    results = EvalResults.load(OLD_FILES)
    changed = results.model_copy(update={"benchmark": "other", "prompt_format": "chat"})
    assert changed.as_dict() == {**results.as_dict(), "benchmark": "other", "prompt_format": "chat"}


def test_scores_are_read_in_the_order_of_the_file():
    scores = {"pass@1": 0.25, "pass@1_interval": [0.1, 0.5]}
    scores |= {"pass@10": 1.0, "pass@10_interval": [0.8, 1.0]}
    results = EvalResults(benchmark="mini", problems=20, **scores)
    assert results.scores == [(1, 0.25, 0.1, 0.5), (10, 1.0, 0.8, 1.0)]
    assert results.pass_at(10).value == 1.0
    with pytest.raises(ValueError, match="pass@5"):
        results.pass_at(5)


def test_the_same_dataset_may_be_described_at_another_time_and_in_another_format():
    manifest = Manifest.load(OLD_FILES)
    again = Manifest(**{**old_values(Manifest), "created_at": "2031-01-01T00:00:00+00:00"})
    assert again.describes_same_dataset(manifest)
    assert not again.describes_same_dataset(manifest.model_copy(update={"license": "mit"}))
    assert not again.describes_same_dataset(None)
