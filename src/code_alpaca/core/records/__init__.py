"""Typed on-disk contracts: manifest.json, run.json, results.json and release.json.

The modules contain the classes of nested objects. A record that is read and written again loses
nothing; see `base`.
"""

from code_alpaca.core.records.base import Part, Record, RecordFormatError
from code_alpaca.core.records.eval_results import EvalResults, Uncontaminated
from code_alpaca.core.records.manifest import Manifest, RunSummary, VerbCount
from code_alpaca.core.records.release_record import ReleaseRecord
from code_alpaca.core.records.run_record import DatasetOrigin, RunRecord, TrainingDataset

__all__ = [
    "DatasetOrigin",
    "EvalResults",
    "Manifest",
    "Part",
    "Record",
    "RecordFormatError",
    "ReleaseRecord",
    "RunRecord",
    "RunSummary",
    "TrainingDataset",
    "Uncontaminated",
    "VerbCount",
]
