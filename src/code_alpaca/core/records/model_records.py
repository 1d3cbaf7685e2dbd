"""Define run.json, which sft writes next to the weights, and release.json of a released model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AliasChoices, Field, StrictBool, StrictInt, StrictStr

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import CHAT, PROMPT_STYLES
from code_alpaca.core.records.base import Number, Record, RecordSection, Text


class DatasetName(RecordSection):
    """The training data under one name."""

    name: Text = None
    config: Text = None
    revision: Text = None


class DatasetOrigin(RecordSection):
    version: Text = None
    license: Text = None
    teacher: Text = None
    strategy: Text = None
    prompt_version: Text = None
    embedded_teacher: StrictBool | None = None
    source: Text = None
    decontaminated: list[StrictStr] = Field([])


class TrainingDataset(RecordSection):
    name: StrictStr
    config: StrictStr = "default"
    revision: Text = None
    split: StrictStr = "train"
    weight: Number = 1.0
    column_map: dict[StrictStr, Any] | None = None
    first_turn: StrictBool = False
    origin: DatasetOrigin | None = None


class TokenCounts(RecordSection):
    """Rows and tokens of the training split."""

    rows: StrictInt
    dropped: StrictInt
    truncated: Annotated[StrictInt, Field(validation_alias=AliasChoices("truncated", "cut"))]
    tokens: StrictInt
    loss_tokens: Annotated[
        StrictInt, Field(validation_alias=AliasChoices("loss_tokens", "learned_tokens"))
    ]
    longest: StrictInt


class Hardware(RecordSection):
    gpus: list[StrictStr]
    machines: StrictInt
    cpu: StrictStr
    cores: StrictInt | None
    host_memory_gib: StrictInt


class RunRecord(Record):
    FILE = "run.json"
    STAGE = "sft"

    base_model: Text = None
    base_revision: Text = None
    dataset: DatasetName | None = None
    datasets: list[TrainingDataset] = Field([])
    config: dict[str, Any] = Field({})
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
    loss_curve: list[list[Number]] = Field([])  # [step, loss]
    eval_loss_curve: list[list[Number]] = Field([])
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
    versions: dict[StrictStr, StrictStr] = Field({})

    @property
    def prompt_style(self) -> str | None:
        """The prompt style of the training; None if it is not recorded.

        Raises:
            InputError: this version does not have it.
        """
        style = self.config.get("prompt_style")
        if style is not None and style not in (*PROMPT_STYLES, CHAT):
            version = f" ({self.versions['code-alpaca']})" if "code-alpaca" in self.versions else ""
            raise InputError(
                f"this version has no prompt style {style!r}, which {self.FILE} of the model "
                f"names; install the version of code-alpaca that trained the model{version}, or "
                "add the style to core/prompts.py"
            )
        return style


class ReleaseRecord(Record):
    FILE = "release.json"
    STAGE = "release"

    version: StrictStr
    sha256: dict[StrictStr, StrictStr]  # of every file but the card and this one
