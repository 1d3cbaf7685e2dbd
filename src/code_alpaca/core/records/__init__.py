"""Typed on-disk contracts: manifest.json, run.json, results.json and release.json.

A record that is read and written again loses nothing; see `base`.
"""

from code_alpaca.core.records.base import Part, Record, RecordFormatError
from code_alpaca.core.records.eval_results import (
    BenchmarkSource,
    ContaminationSource,
    EvalResults,
    JudgeCounts,
    MeasuredModel,
    ResponseCounts,
    SandboxRecord,
    Score,
    Scored,
    Uncontaminated,
)
from code_alpaca.core.records.manifest import (
    ConfigChange,
    Decontamination,
    Lengths,
    Manifest,
    RunSummary,
    Statistics,
    Usage,
    VerbCount,
    Verbs,
)
from code_alpaca.core.records.release_record import ReleaseRecord
from code_alpaca.core.records.run_record import (
    DatasetName,
    DatasetOrigin,
    Hardware,
    RunRecord,
    TokenCounts,
    TrainingDataset,
)

__all__ = [
    "BenchmarkSource",
    "ConfigChange",
    "ContaminationSource",
    "DatasetName",
    "DatasetOrigin",
    "Decontamination",
    "EvalResults",
    "Hardware",
    "JudgeCounts",
    "Lengths",
    "Manifest",
    "MeasuredModel",
    "Part",
    "Record",
    "RecordFormatError",
    "ReleaseRecord",
    "ResponseCounts",
    "RunRecord",
    "RunSummary",
    "SandboxRecord",
    "Score",
    "Scored",
    "Statistics",
    "TokenCounts",
    "TrainingDataset",
    "Uncontaminated",
    "Usage",
    "VerbCount",
    "Verbs",
]
