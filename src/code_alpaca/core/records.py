"""The JSON files that stages write for each other, as types: manifest.json, run.json,
results.json and release.json.

A record that is read and written again keeps its keys, their order and keys that this version
does not know, so nothing is lost. Files from before `schema_version` are read; files with a newer
one are refused, since their numbers may mean something else.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_serializer,
    model_validator,
)

from code_alpaca.core import fs
from code_alpaca.core.config import Version
from code_alpaca.core.errors import InputError, error_message

Number = StrictInt | StrictFloat  # an int stays one, so that rewriting a file changes no byte
Counts = dict[StrictStr, StrictInt]
Text = StrictStr | None
PASS_AT_K = re.compile(r"pass@(\d+)")


class RecordFormatError(InputError):
    """A JSON file with other fields than the stage writes: it was edited, or is another tool's."""


class Part(BaseModel):
    """An object within a record: typed, immutable, unknown keys kept, only given keys written."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())
    _keys: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _remember_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        part = handler(data)
        if isinstance(data, dict):
            part._keys = tuple(data)
        return part

    @model_serializer(mode="wrap")
    def _given_keys_in_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        names = {key: self._field_of(key) for key in self._keys}
        names |= {
            key: key for key in values if key in self.model_fields_set and key not in names.values()
        }
        return {key: values[name] for key, name in names.items()}

    @classmethod
    def _field_of(cls, key: str) -> str:
        """Return the field that an older version wrote under `key`."""
        for name, field in cls.model_fields.items():
            alias = field.validation_alias
            if isinstance(alias, AliasChoices) and key in alias.choices:
                return name
        return key


class Record(Part):
    """A JSON file that one stage writes and others read.

    Subclasses name the file and the stage that writes it.
    """

    SCHEMA_VERSION: ClassVar[int] = 1
    FILE: ClassVar[str]
    STAGE: ClassVar[str]

    schema_version: StrictInt = 1  # 0: the file is from before there were versions

    @classmethod
    def load(cls, path: Path, *, refuse_nan: bool = False) -> Self:
        """Return the record in a file, or in the file of its usual name in a folder.

        Args:
            refuse_nan: also refuse NaN and infinity, which JSON does not have.

        Raises:
            InputError: the file is missing, is not JSON, or has a newer schema version.
            RecordFormatError: it lacks a field, or a field has another type.
        """
        path = path / cls.FILE if path.is_dir() else path

        def constant(name: str) -> float:
            if refuse_nan:
                raise ValueError(f"it contains {name}")
            return float(name)

        try:
            values = json.loads(path.read_text(encoding="utf-8"), parse_constant=constant)
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error_message(error)
            raise InputError(
                f"cannot read {path} ({reason}); code-alpaca {cls.STAGE} writes it"
            ) from None
        return cls.parse(values, str(path))

    @classmethod
    def parse(cls, values: Any, name: str) -> Self:
        """Return the record in parsed JSON; `name` is what error messages call it.

        Raises:
            InputError, RecordFormatError: as `load`.
        """
        if not isinstance(values, dict):
            raise RecordFormatError(
                f"{name} is not a JSON object; restore what code-alpaca {cls.STAGE} wrote"
            )
        found = values.get("schema_version", 0)
        if isinstance(found, int) and found > cls.SCHEMA_VERSION:
            raise InputError(
                f"{name} was written by {_writer(values)} with schema version {found}, and this "
                f"version reads up to {cls.SCHEMA_VERSION}; upgrade code-alpaca"
            )
        try:
            return cls.model_validate({"schema_version": 0, **values})
        except ValidationError as error:
            raise RecordFormatError(
                f"{name} was edited or damaged ({_first_problem(error)}); restore what "
                f"code-alpaca {cls.STAGE} wrote"
            ) from None

    def save(self, path: Path) -> None:
        """Write the record atomically, keys in the order in which they were given."""
        fs.write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the record as the JSON object of its file."""
        values = self.model_dump()
        values.pop("schema_version", None)
        return {"schema_version": self.schema_version, **values} if self.schema_version else values


def _writer(values: dict[str, Any]) -> str:
    for key in ("tools", "versions"):
        versions = values.get(key)
        if isinstance(versions, dict) and isinstance(versions.get("code-alpaca"), str):
            return f"code-alpaca {versions['code-alpaca']}"
    return "a newer code-alpaca"


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


# -- manifest.json of a dataset ----------------------------------------------------------------


class Lengths(Part):
    """Histograms of field lengths, in words and punctuation marks."""

    edges: list[StrictInt]  # each bin begins at its edge; the last is open
    instruction: list[StrictInt]
    input: list[StrictInt]
    output: list[StrictInt]


class VerbCount(Part):
    """How many instructions have a root verb, and its most common objects."""

    verb: StrictStr
    rows: StrictInt
    objects: Counts


class Verbs(Part):
    """Root verbs of the instructions."""

    rows: StrictInt  # with a verb and an object
    common: list[VerbCount]


class Statistics(Part):
    """Counts over the accepted rows."""

    languages: Counts = {}
    verification: Counts = {}
    with_input: StrictInt = 0
    output_characters: StrictInt = 0  # a sum
    lengths: Lengths | None = None
    nearest: list[StrictInt] = []  # rows by similarity to the nearest one, in equal bins of [0, 1]
    verbs: Verbs | None = None


class RunSummary(Part):
    """What plots and report pages show of a run."""

    name: Text = None
    teacher: Text = None
    strategy: Text = None
    counts: Counts = {}  # rows by dataset config
    candidates: StrictInt = 0
    rejected_by_reason: Counts = {}
    cost_usd: Number | None = None
    config: dict[str, Any] | None = None  # None: imported, there is no run
    pace: list[list[StrictInt]] | None = None  # [candidates, accepted] of equal slices, in order
    statistics: Statistics = Statistics()


class Decontamination(Part):
    """Which benchmarks the rows were compared with."""

    benchmarks: list[StrictStr] = []
    problems: StrictInt = 0
    missing: list[StrictStr] = []
    policy: Text = None  # drop or mark


class Usage(Part):
    """Requests to the teacher, and the tokens that it counted."""

    requests: StrictInt
    replies: StrictInt
    prompt_tokens: StrictInt
    completion_tokens: StrictInt


class ConfigChange(Part):
    """Config keys that were changed between two starts of a run: [old, new] of each."""

    from_request: StrictInt
    at: Text = None
    changed: dict[StrictStr, list[Any]]


class Manifest(RunSummary, Record):
    """manifest.json of a dataset folder."""

    FILE = "manifest.json"
    STAGE = "publish"

    version: Version
    license: StrictStr
    repository: Text = None
    counts: Counts
    splits: dict[StrictStr, Counts] = {}
    validation_fraction: Number = 0.0
    columns: dict[StrictStr, StrictStr] | None = None
    sha256: dict[StrictStr, StrictStr]  # of each shard, by its path in the folder
    bytes: StrictInt | None = None
    embedded_teacher: StrictBool = False
    source: Text = None
    source_revision: Text = None
    prompt_version: Text = None
    seed_tasks_sha256: Text = None
    contamination: Decontamination | None = None
    usage: Usage | None = None
    config_changes: list[ConfigChange] = []
    tools: dict[StrictStr, StrictStr] = {}
    created_at: Text = None

    def describes_same_dataset(self, other: Manifest | None) -> bool:
        """Whether two manifests differ at most in when and in which format they were written."""
        return other is not None and self._content() == other._content()

    def _content(self) -> dict[str, Any]:
        ignored = ("schema_version", "created_at")
        return {key: value for key, value in self.as_dict().items() if key not in ignored}


# -- run.json of a training --------------------------------------------------------------------


class DatasetName(Part):
    """The training data under one name."""

    name: Text = None
    config: Text = None
    revision: Text = None


class DatasetOrigin(Part):
    """How the rows of a dataset were made, from its manifest."""

    version: Text = None
    license: Text = None
    teacher: Text = None
    strategy: Text = None
    prompt_version: Text = None
    embedded_teacher: StrictBool | None = None
    source: Text = None
    decontaminated: list[StrictStr] = []


class TrainingDataset(Part):
    """One dataset of a training."""

    name: StrictStr
    config: StrictStr = "default"
    revision: Text = None
    weight: Number = 1.0
    column_map: dict[StrictStr, Any] | None = None
    origin: DatasetOrigin | None = None


class TokenCounts(Part):
    """Rows and tokens of the training split."""

    rows: StrictInt
    dropped: StrictInt
    truncated: Annotated[StrictInt, Field(validation_alias=AliasChoices("truncated", "cut"))]
    tokens: StrictInt
    loss_tokens: Annotated[
        StrictInt, Field(validation_alias=AliasChoices("loss_tokens", "learned_tokens"))
    ]
    longest: StrictInt


class Hardware(Part):
    """What a training ran on."""

    gpus: list[StrictStr]
    machines: StrictInt
    cpu: StrictStr
    cores: StrictInt | None
    host_memory_gib: StrictInt


class RunRecord(Record):
    """run.json, which sft writes when a training has finished."""

    FILE = "run.json"
    STAGE = "sft"

    base_model: Text = None
    base_revision: Text = None
    dataset: DatasetName | None = None
    datasets: list[TrainingDataset] = []
    config: dict[str, Any] = {}
    parameters: StrictInt | None = None
    trainable_parameters: StrictInt | None = None
    rows: StrictInt | None = None
    tokens: StrictInt | None = None
    counts: TokenCounts | None = None
    padded_share: Number | None = None
    steps: StrictInt | None = None
    epochs: Number | None = None
    first_loss: Number | None = None
    last_loss: Number | None = None
    loss_curve: list[list[Number]] = []  # [step, loss]
    eval_loss_curve: list[list[Number]] = []
    seconds: Number | None = None
    seconds_to_first_step: Number | None = None
    tokens_per_second: Number | None = None
    mfu: Number | None = None
    peak_memory_gib: Number | None = None
    preflight_memory_gib: Number | None = None  # None: not estimated
    layout: Text = None
    processes: StrictInt | None = None
    hardware: Hardware | None = None
    git_sha: Text = None
    versions: dict[StrictStr, StrictStr] = {}


# -- results.json of an evaluation -------------------------------------------------------------


class Score(NamedTuple):
    """pass@k with its 95% interval."""

    k: int
    value: float
    low: float
    high: float


class Scored(Part):
    """Scores under keys of their own: `pass@1` and `pass@1_interval`."""

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
        """Return pass@k.

        Raises:
            ValueError: it was not measured, or is not a number with an interval.
        """
        extra = self.model_extra or {}
        try:
            low, high = extra[f"pass@{k}_interval"]
            return Score(k, *map(float, (extra[f"pass@{k}"], low, high)))
        except (KeyError, TypeError, ValueError):
            raise ValueError(f"pass@{k} or its interval is missing or not a number") from None


class BenchmarkSource(Part):
    """Where the problems came from."""

    name: StrictStr
    dataset: Text = None
    config: Text = None
    revision: Text = None
    sha256: Text = None  # of a user's Python file


class ComparedDataset(Part):
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
    sources: list[ComparedDataset] = []
    is_training_data: StrictBool | None = None  # None: the model has no run.json
    matched: list[StrictStr] = []
    problems: StrictInt = 0


class ResponseCounts(Part):
    """How the responses ended."""

    truncated: StrictInt = 0
    empty: StrictInt = 0
    missing: StrictInt = 0
    finish_reasons: Counts = {}


class JudgeCounts(Part):
    """Which verdicts rest on one process, and which passes were refused."""

    samples_judged_in_one_process: StrictInt = 0
    problems_judged_in_one_process: list[StrictStr] = []
    refused_by_values: StrictInt = 0
    refused_as_forged: StrictInt = 0


class SandboxRecord(Part):
    """The sandbox that ran the programs."""

    backend: StrictStr
    canary_escaped: list[StrictStr] = []


class MeasuredModel(Part):
    """The model that was measured: a commit of the Hub, or hashes of its files."""

    name: Text = None
    revision: Text = None
    sha256: Text = None  # of the weights
    files: dict[StrictStr, StrictStr] = {}
    dtype: Text = None
    base_url: Text = None
    dataset: DatasetName | None = None


class EvalResults(Scored, Record):
    """results.json of an evaluation."""

    FILE = "results.json"
    STAGE = "eval"

    benchmark: StrictStr
    source: BenchmarkSource | None = None
    problems: StrictInt
    task_ids: list[StrictStr] = []
    samples: StrictInt = 0
    problems_without_samples: StrictInt = 0
    uncontaminated: Uncontaminated | None = None
    training_data_not_checked: Text = None
    statuses: Counts = {}
    answers: ResponseCounts = ResponseCounts()
    failing_references: dict[StrictStr, StrictStr] = {}
    sandbox: SandboxRecord | None = None
    judges: JudgeCounts = JudgeCounts()
    model: MeasuredModel = MeasuredModel()
    prompt_format: Text = None
    sampling: dict[str, Any] | None = None
    config: dict[str, Any] = {}
    versions: dict[StrictStr, StrictStr] = {}


# -- release.json of a model release -----------------------------------------------------------


class ReleaseRecord(Record):
    """release.json of a model release or of its Space."""

    FILE = "release.json"
    STAGE = "release"

    version: StrictStr
    sha256: dict[StrictStr, StrictStr]  # of every file but the card and this one
