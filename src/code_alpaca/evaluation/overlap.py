"""Score the problems that do not occur in the model's training data.

run.json names the dataset, config and revision that a model was trained on. Other data that the
user compares is labelled: a card would otherwise describe data that the model was not trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.records import TrainingDataset
from code_alpaca.core.row_formats import MESSAGES
from code_alpaca.core.schema import Example
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.dataset.load import ALPACA, load_source
from code_alpaca.dataset.source import DatasetSource
from code_alpaca.evaluation import metrics
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.target import EvaluationTarget

if TYPE_CHECKING:
    from datasets import Dataset

SKIP = "skip"


def score_uncontaminated(
    config: EvalConfig, target: EvaluationTarget, counts: Mapping[str, tuple[int, int]]
) -> dict[str, Any]:
    """Compare a benchmark with the training data, and score the problems without a match.

    Args:
        counts: (samples, passed) of each problem by its task_id.

    Returns:
        Fields of results.json: `uncontaminated` with the compared datasets, whether they are the
        recorded training data, the matched problems and the scores of the others; or
        `training_data_not_checked` with the reason; or no field if no dataset is known.

    Raises:
        InputError: the dataset that the user names cannot be read.
    """
    if config.training_data == SKIP:
        return {"training_data_not_checked": "training_data: skip"}
    if target.training_error and config.training_data is None:
        return {"training_data_not_checked": target.training_error}
    recorded = target.training.datasets if target.training else []
    if config.training_data is not None:
        datasets = [_load(DatasetSource(config.training_data))]
    elif not recorded:
        return {}
    else:
        try:
            datasets = [_load_recorded(dataset) for dataset in recorded]
        except InputError as error:
            return {"training_data_not_checked": str(error)}
    detector = ContaminationDetector([config.benchmark])
    matched = {task_id for dataset in datasets for task_id in dataset.find_problems(detector)}
    clean = [count for task_id, count in counts.items() if task_id not in matched]
    compared = {(dataset.config, dataset.revision) for dataset in datasets}
    trained = {(dataset.config, str(dataset.revision)) for dataset in recorded}
    return {
        "uncontaminated": {
            "training_data": " + ".join(dataset.name for dataset in datasets),
            "revision": "; ".join(dataset.revision for dataset in datasets),
            "sources": [dataset.as_dict() for dataset in datasets],
            "is_training_data": compared == trained if recorded else None,
            "matched": sorted(matched & counts.keys()),
            "problems": len(clean),
            **(metrics.summarize(clean, config.k) if clean else {}),
        }
    }


@dataclass(frozen=True, slots=True)
class _ComparedDataset:
    """A dataset to compare with: its Alpaca columns, and `messages` for later turns."""

    name: str
    config: str
    revision: str
    rows: Dataset

    def find_problems(self, detector: ContaminationDetector) -> set[str]:
        """Return the task ids of the problems that the rows contain."""
        return {match.task_id for task in self._tasks() for match in detector.find_matches(task)}

    def _tasks(self) -> Iterator[Example]:
        """Yield each question with its answer."""
        for row in self.rows:
            yield Example(*(row[column] or "" for column in ALPACA))
            turns = [turn["content"] for turn in row[MESSAGES] if turn["role"] != "system"]
            for question, answer in zip(turns[2::2], turns[3::2], strict=True):
                yield Example(question, "", answer)

    def as_dict(self) -> dict[str, Any]:
        """Return the dataset as results.json records it, with the SHA-256 of its rows."""
        digest = hashlib.sha256()
        for row in self._alpaca_rows():
            digest.update(json.dumps(row).encode() + b"\n")
        return {
            "name": self.name,
            "config": self.config,
            "revision": self.revision,
            "rows": len(self.rows),
            "sha256": digest.hexdigest(),
        }

    def _alpaca_rows(self) -> Iterable[list[str | None]]:
        return ([row[column] for column in ALPACA] for row in self.rows)


def _load(source: DatasetSource) -> _ComparedDataset:
    loaded = load_source(source, conversations=True)
    rows = loaded.rows.select_columns([*ALPACA, MESSAGES])
    return _ComparedDataset(source.name, source.config, loaded.revision, rows)


def _load_recorded(dataset: TrainingDataset) -> _ComparedDataset:
    """Load a dataset that run.json names, at the revision of the training."""
    revision = str(dataset.revision)
    is_commit = " " not in revision  # else of a local file or folder
    loaded = _load(
        DatasetSource(
            dataset.name,
            dataset.config,
            revision if is_commit else None,
            dataset.split,
            dataset.column_map,
            dataset.first_turn,
        )
    )
    if loaded.revision != revision:
        raise InputError(
            f"{dataset.name} changed since the training (revision {revision} then, "
            f"{loaded.revision} now)"
        )
    return loaded
