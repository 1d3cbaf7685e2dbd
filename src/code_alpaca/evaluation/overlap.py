"""Scores over the problems that the model's training data does not hold.

What a model was trained on is in its run.json: dataset, config and revision. Anything else that
is compared is labelled so, since a card would otherwise describe data the model never saw.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.dataset.load import ALPACA, load_rows
from code_alpaca.evaluation import metrics
from code_alpaca.problems import Problem

SKIP = "skip"


def score_uncontaminated(
    benchmark: str,
    problems: Sequence[Problem],
    counts: Sequence[tuple[int, int]],
    ks: Sequence[int],
    training: dict[str, Any],
    named: str | None = None,
) -> dict[str, Any]:
    """Compare a benchmark with the training data, and score the problems without a match.

    Args:
        counts: (samples, passed) of each problem.
        training: run.json of the model; {} for none.
        named: the dataset that the user names instead; "skip" compares nothing.

    Returns:
        `uncontaminated`: what it was compared with (`training_data`, `revision`, and for each of
        the `sources` its name, config, revision, rows and content hash), `is_training_data`
        (whether run.json names just that; null where there is no run.json), the `matched`
        problems, and the scores of the rest. Or `training_data_not_checked`: why nothing was
        compared. Or nothing, where neither run.json nor the user names a dataset.

    Raises:
        InputError: the dataset that the user names cannot be read.
    """
    if named == SKIP:
        return {"training_data_not_checked": "training_data: skip"}
    if named is not None:
        sources = [_source(named)]
    elif not training.get("datasets"):
        return {}
    else:
        try:
            sources = [_recorded(source) for source in training["datasets"]]
        except InputError as error:
            return {"training_data_not_checked": str(error)}
        except (TypeError, AttributeError):  # a file that sft did not write
            return {"training_data_not_checked": "run.json names its datasets in another form"}
    index = ContaminationDetector([benchmark])
    matched = {hit for source in sources for hit in _matches(index, source["data"])}
    known = {problem.task_id for problem in problems}
    pairs = zip(problems, counts, strict=True)
    clean = [count for problem, count in pairs if problem.task_id not in matched]
    shown = [_without_data(source) for source in sources]
    return {
        "uncontaminated": {
            "training_data": " + ".join(source["name"] for source in shown),
            "revision": "; ".join(source["revision"] for source in shown),
            "sources": shown,
            "is_training_data": _is_training_data(shown, training),
            "matched": sorted(matched & known),
            "problems": len(clean),
            **(metrics.summarize(clean, ks) if clean else {}),
        }
    }


def _recorded(source: dict[str, Any]) -> dict[str, Any]:
    """A dataset of run.json, at the revision that was trained on.

    Raises:
        InputError: it cannot be read any more, or has changed since.
    """
    name, revision = str(source.get("name")), str(source.get("revision"))
    found = _source(name, str(source.get("config") or "default"), revision)
    if found["revision"] != revision:
        raise InputError(
            f"{name} changed since the training (revision {revision} then, {found['revision']} now)"
        )
    return found


def _source(name: str, config: str = "default", revision: str | None = None) -> dict[str, Any]:
    is_commit = revision is not None and " " not in revision  # else of a local file or folder
    rows, found = load_rows(name, config, revision if is_commit else None)
    data = rows.select_columns(list(ALPACA))
    digest = hashlib.sha256()
    for row in data:
        digest.update(json.dumps([row[column] for column in ALPACA]).encode() + b"\n")
    return {
        "name": name,
        "config": config,
        "revision": found,
        "rows": len(data),
        "sha256": digest.hexdigest(),
        "data": data,
    }


def _matches(index: ContaminationDetector, rows: Iterable[dict[str, Any]]) -> set[str]:
    examples = (Example(*(row[column] or "" for column in ALPACA)) for row in rows)
    return {hit.task_id for example in examples for hit in index.find_matches(example)}


def _without_data(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "data"}


def _is_training_data(sources: list[dict[str, Any]], training: dict[str, Any]) -> bool | None:
    """Whether these are the datasets of run.json, at its revisions, all of them and no other."""
    if not training.get("datasets"):
        return None
    trained = {
        (str(source.get("config") or "default"), str(source.get("revision")))
        for source in training["datasets"]
    }
    return {(source["config"], source["revision"]) for source in sources} == trained
