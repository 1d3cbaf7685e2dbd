"""Define results.json, which eval writes."""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Self

from pydantic import Field, StrictBool, StrictInt, StrictStr, model_validator

from code_alpaca.core.records.base import Counts, Record, RecordSection, Text
from code_alpaca.core.records.model_records import DatasetName

PASS_AT_K = re.compile(r"pass@(\d+)")


class Score(NamedTuple):
    """pass@k with its 95% interval."""

    k: int
    value: float
    low: float
    high: float


class Scored(RecordSection):
    """An object with scores under the keys `pass@1` and `pass@1_interval`."""

    @model_validator(mode="after")
    def _scores_are_numbers(self) -> Self:
        _ = self.scores
        return self

    @property
    def scores(self) -> list[Score]:
        """Every pass@k, in the order of the file."""
        return [
            self.pass_at(int(found[1]))
            for key in self.model_extra or ()
            if (found := PASS_AT_K.fullmatch(key))
        ]

    def pass_at(self, k: int) -> Score:
        """Return pass@k, or raise ValueError if it was not measured."""
        extra = self.model_extra or {}
        try:
            low, high = extra[f"pass@{k}_interval"]
            return Score(k, *map(float, (extra[f"pass@{k}"], low, high)))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"pass@{k} or its interval is missing or not a number") from None


class BenchmarkSource(RecordSection):
    name: StrictStr
    dataset: Text = None
    config: Text = None
    revision: Text = None
    sha256: Text = None  # of a file


class ContaminationSource(RecordSection):
    """A dataset that the problems were compared with."""

    name: StrictStr
    config: StrictStr = "default"
    revision: Text = None
    rows: StrictInt | None = None
    sha256: Text = None


class Uncontaminated(Scored):
    """The problems that do not occur in the training data, and their scores."""

    training_data: Text = None
    revision: Text = None
    sources: list[ContaminationSource] = Field([])
    is_training_data: StrictBool | None = None  # None: the model has no run.json
    matched: list[StrictStr] = Field([])
    problems: StrictInt = 0


class ResponseCounts(RecordSection):
    truncated: StrictInt = 0
    empty: StrictInt = 0
    missing: StrictInt = 0
    finish_reasons: Counts = Field({})


class JudgeCounts(RecordSection):
    """The verdicts that rest on one process, and the refused passes."""

    samples_judged_in_one_process: StrictInt = 0
    problems_judged_in_one_process: list[StrictStr] = Field([])
    refused_by_values: StrictInt = 0
    refused_as_forged: StrictInt = 0


class SandboxRecord(RecordSection):
    backend: StrictStr
    canary_escaped: list[StrictStr] = Field([])


class MeasuredModel(RecordSection):
    """The model that was measured: a commit of the Hub, or hashes of its files."""

    name: Text = None
    revision: Text = None
    sha256: Text = None  # of the weights
    files: dict[StrictStr, StrictStr] = Field({})
    dtype: Text = None
    base_url: Text = None
    dataset: DatasetName | None = None


class EvalResults(Scored, Record):
    FILE = "results.json"
    STAGE = "eval"

    benchmark: StrictStr
    source: BenchmarkSource | None = None
    problems: StrictInt
    task_ids: list[StrictStr] = Field([])
    samples: StrictInt = 0
    problems_without_samples: StrictInt = 0
    uncontaminated: Uncontaminated | None = None
    training_data_not_checked: Text = None
    statuses: Counts = Field({})
    answers: ResponseCounts = ResponseCounts()
    failing_references: dict[StrictStr, StrictStr] = Field({})
    sandbox: SandboxRecord | None = None
    judges: JudgeCounts = JudgeCounts()
    model: MeasuredModel = MeasuredModel()
    prompt_format: Text = None
    sampling: dict[str, Any] | None = None
    config: dict[str, Any] = Field({})
    versions: dict[StrictStr, StrictStr] = Field({})
