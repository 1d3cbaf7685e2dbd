"""Read and write the files between stages: manifest.json, run.json, results.json, release.json."""

from code_alpaca.core.records.base import Record, RecordFormatError, RecordSection
from code_alpaca.core.records.eval_results import BenchmarkSource, EvalResults, Uncontaminated
from code_alpaca.core.records.manifest import Manifest, RootVerb, RunSummary
from code_alpaca.core.records.model_records import (
    DatasetOrigin,
    ReleaseRecord,
    RunRecord,
    TrainingDataset,
)

__all__ = [
    "BenchmarkSource",
    "DatasetOrigin",
    "EvalResults",
    "Manifest",
    "Record",
    "RecordFormatError",
    "RecordSection",
    "ReleaseRecord",
    "RootVerb",
    "RunRecord",
    "RunSummary",
    "TrainingDataset",
    "Uncontaminated",
]  # fmt: skip
