"""Read and write the files between stages: manifest.json, run.json, results.json, release.json."""

from code_alpaca.core.records.base import Part, Record, RecordFormatError
from code_alpaca.core.records.eval_results import BenchmarkSource, EvalResults, Uncontaminated
from code_alpaca.core.records.manifest import Manifest, RunSummary, VerbCount
from code_alpaca.core.records.model_records import (
    DatasetOrigin,
    ReleaseRecord,
    RunRecord,
    TrainingDataset,
)

__all__ = [
    "BenchmarkSource", "DatasetOrigin", "EvalResults", "Manifest", "Part", "Record",
    "RecordFormatError", "ReleaseRecord", "RunRecord", "RunSummary", "TrainingDataset",
    "Uncontaminated", "VerbCount",
]  # fmt: skip
