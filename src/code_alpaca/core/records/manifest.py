"""Define manifest.json of a dataset folder."""

from __future__ import annotations

from typing import Any

from pydantic import Field, StrictBool, StrictInt, StrictStr

from code_alpaca.core.config import Version
from code_alpaca.core.records.base import Counts, Number, Record, RecordSection, Text
from code_alpaca.core.schema import CONVERSATIONAL_CONFIGS


class Lengths(RecordSection):
    """Histograms of field lengths, in words and punctuation marks."""

    edges: list[StrictInt]  # each bin begins at its edge; the last is open
    instruction: list[StrictInt]
    input: list[StrictInt]
    output: list[StrictInt]


class RootVerb(RecordSection):
    """The number of instructions with a root verb, and its most common objects."""

    verb: StrictStr
    rows: StrictInt
    objects: Counts


class RootVerbs(RecordSection):
    rows: StrictInt  # with a verb and an object
    common: list[RootVerb]


class Statistics(RecordSection):
    """Counts over the accepted rows."""

    languages: Counts = Field({})
    verification: Counts = Field({})
    with_input: StrictInt = 0
    output_characters: StrictInt = 0  # a sum
    lengths: Lengths | None = None
    nearest: list[StrictInt] = Field([])  # rows by highest similarity, in equal bins of [0, 1]
    # Rows by the share of mutants that their tests detect, in equal bins of [0, 1].
    test_strength: list[StrictInt] = Field([])
    verbs: RootVerbs | None = None


class RunSummary(RecordSection):
    """The part of a manifest that plots and report pages show."""

    name: Text = None
    teacher: Text = None
    strategy: Text = None
    counts: Counts = Field({})  # rows by dataset config
    candidates: StrictInt = 0
    rejected_by_reason: Counts = Field({})
    cost_usd: Number | None = None
    config: dict[str, Any] | None = None  # None: imported, there is no run
    pace: list[list[StrictInt]] | None = None  # [candidates, accepted] of equal slices, in order
    statistics: Statistics = Statistics()


class Decontamination(RecordSection):
    """The benchmarks that the rows were compared with."""

    benchmarks: list[StrictStr] = Field([])
    problems: StrictInt = 0
    missing: list[StrictStr] = Field([])
    policy: Text = None  # drop or mark


class Usage(RecordSection):
    """Requests to the teacher, and the tokens that it counted."""

    requests: StrictInt
    replies: StrictInt
    prompt_tokens: StrictInt
    completion_tokens: StrictInt


class ConfigChange(RecordSection):
    """The config keys that changed between two starts of a run: [old, new] of each."""

    from_request: StrictInt
    at: Text = None
    changed: dict[StrictStr, list[Any]]


class Manifest(RunSummary, Record):
    FILE = "manifest.json"
    STAGE = "publish"

    version: Version
    license: StrictStr
    repository: Text = None
    title: Text = None  # of the card; None: the default one
    counts: Counts
    splits: dict[StrictStr, Counts] = Field({})
    validation_fraction: Number = 0.0
    columns: dict[StrictStr, StrictStr] | None = None
    sha256: dict[StrictStr, StrictStr]  # of each shard, by its path in the folder
    # SHA-256 of the seed tasks and of each prompt, by path; none in versions before there were any.
    assets: dict[StrictStr, StrictStr] = Field({})
    bytes: StrictInt | None = None
    embedded_teacher: StrictBool = False
    source: Text = None
    source_revision: Text = None
    source_form: Text = None  # which part was read, and how; none of plain Alpaca columns
    prompt_version: Text = None
    seed_tasks_sha256: Text = None
    contamination: Decontamination | None = None
    usage: Usage | None = None
    price_sources: list[StrictStr] = Field([])  # of `cost_usd`: price lists and their dates
    config_changes: list[ConfigChange] = Field([])
    tools: dict[StrictStr, StrictStr] = Field({})
    created_at: Text = None

    @property
    def printed_counts(self) -> str:
        """The rows by config, without the configs that repeat rows of others as messages."""
        return ", ".join(
            f"{name} {count}"
            for name, count in self.counts.items()
            if name not in CONVERSATIONAL_CONFIGS
        )

    def describes_same_dataset(self, other: Manifest | None) -> bool:
        """Return whether two manifests differ only in their time and schema version."""
        same = {"schema_version": None, "created_at": None}
        return other is not None and self.as_dict() | same == other.as_dict() | same
