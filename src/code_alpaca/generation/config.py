"""The keys of `code-alpaca generate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from code_alpaca.core.config import NonEmptyStr, Version, check_base_urls
from code_alpaca.core.key_roles import Role
from code_alpaca.core.old_spellings import OldSpellings
from code_alpaca.curation.rules import CurationRules
from code_alpaca.generation.strategies import STRATEGIES
from code_alpaca.generation.strategies.mix import OLD_NAMES, parse_mix
from code_alpaca.teacher import offline
from code_alpaca.teacher.request_body import Api

STRATEGY_NAMES = ", ".join(sorted(STRATEGIES))


class GenerateConfig(CurationRules):
    """The keys of `code-alpaca generate`; each is described in its own field."""

    OLD_SPELLINGS: ClassVar = OldSpellings(
        keys={"seed_compat_defects": "alpaca_2023_defects"},  # old name
        values={**CurationRules.OLD_SPELLINGS.values, "strategy": OLD_NAMES},
    )

    # What the run is.
    run_dir: Annotated[Path, Role.FREE] = Field(
        description="folder of this run; the same command resumes it"
    )
    seed_tasks: Path | None = Field(None, description="JSONL of seed tasks; none: the built-in")
    num_examples: Annotated[PositiveInt, Role.FREE] = Field(
        1000, description="accepted rows to collect; a larger number extends the run"
    )
    seed: int = Field(0, description="RNG seed of every random choice")
    dry_run: Annotated[bool, Role.FREE] = Field(
        False, description="print the estimated cost and one prompt, send nothing"
    )

    # What is requested.
    strategy: str = Field(
        "self_instruct",
        description=f"{STRATEGY_NAMES}; FILE.py:NAME for your own; or a mix by weight: "
        "self_instruct=3,evol_instruct=1",
    )
    prompts: Annotated[Path | None, Role.FREE] = Field(  # their hash identifies the run
        None, description="folder with your own prompt templates, such as rules.jinja"
    )
    tasks_per_request: Annotated[PositiveInt, Role.REQUEST] = Field(
        5, description="tasks that one request asks for"
    )
    seeds_per_request: Annotated[PositiveInt, Role.REQUEST] = Field(
        6, description="seed tasks shown in one request"
    )
    pool_per_request: Annotated[int, Role.REQUEST] = Field(
        2, ge=0, description="accepted rows shown in one request"
    )
    snippets: str | None = Field(
        None, description="oss_instruct: a folder (such as your repository), a file or a dataset"
    )
    snippets_column: str = Field("content", description="column of that dataset with the code")
    quotas: dict[str, dict[str, float]] = Field(
        {},
        description="fractions of rows by language, task_type and difficulty (in the YAML file)",
    )
    alpaca_2023_defects: bool = Field(
        False, description="alpaca_2023: also reproduce the defects of the original (2023)"
    )

    # The teacher.
    teacher_model: Annotated[str, Role.REQUEST] = Field(
        "offline-teacher", description="model name sent to the teacher"
    )
    teacher_base_url: Annotated[str | None, Role.FREE] = Field(
        None,
        description="OpenAI-compatible URL, or several separated by commas; offline: the embedded "
        "teacher; none: OpenAI",
    )
    teacher_api: Literal["chat", "responses", "completions", "batch"] = Field(
        "chat",
        description="API of the teacher; completions is for base models, batch costs half and "
        "takes up to a day",
    )
    temperature: Annotated[float, Role.REQUEST] = Field(
        1.0, ge=0, le=2, description="sampling temperature"
    )
    top_p: Annotated[float, Role.REQUEST] = Field(
        1.0, gt=0, le=1, description="nucleus sampling mass"
    )
    max_completion_tokens: Annotated[PositiveInt, Role.REQUEST] = Field(
        4096, description="limit of one reply, in tokens"
    )

    # Speed and limits.
    lookahead: PositiveInt = Field(64, description="requests that may be sent before a decision")
    max_concurrency: Annotated[PositiveInt, Role.FREE] = Field(
        16, description="requests in flight at once"
    )
    requests_per_minute: Annotated[PositiveFloat | None, Role.FREE] = Field(
        None, description="limit of requests; none: the one in the server's headers"
    )
    tokens_per_minute: Annotated[PositiveFloat | None, Role.FREE] = Field(
        None, description="limit of tokens; none: the one in the server's headers"
    )
    request_timeout_s: Annotated[float, Role.FREE] = Field(
        120.0, gt=0, description="seconds without a response before a request is retried"
    )
    batch_poll_s: Annotated[float, Role.FREE] = Field(
        30.0, gt=0, description="seconds between two polls of a batch"
    )
    max_cost_usd: Annotated[PositiveFloat | None, Role.FREE] = Field(
        None, description="hard cap on the cost of the run over all its starts; none: no cap"
    )
    price_per_mtok_input: Annotated[float | None, Role.FREE] = Field(
        None, ge=0, description="dollars per million input tokens; none: from the price list"
    )
    price_per_mtok_output: Annotated[float | None, Role.FREE] = Field(
        None, ge=0, description="dollars per million output tokens; none: from the price list"
    )
    patience: Annotated[PositiveInt, Role.FREE] = Field(
        50, description="stop after this many consecutive replies without an accepted row"
    )

    # What is written.
    checkpoint_every: Annotated[int, Role.FREE] = Field(
        5000, ge=0, description="write dataset/ each time this many rows were added; 0: at the end"
    )
    report_to: Annotated[Literal["none", "trackio"], Role.FREE] = Field(
        "none", description="where to log metrics"
    )
    dataset_version: Annotated[Version, Role.FREE] = Field(
        "0.1.0", description="SemVer of the dataset of this run"
    )
    hub_dataset_id: Annotated[NonEmptyStr | None, Role.FREE] = Field(
        None, description="ORG/NAME on the Hub, for push_to_hub"
    )
    push_to_hub: Annotated[bool, Role.FREE] = Field(
        False, description="release the dataset at the end; full shards are uploaded during the run"
    )
    private: Annotated[bool, Role.FREE] = Field(
        False, description="create the Hub repository as a private one"
    )

    @property
    def request_api(self) -> Api:
        """The API whose request form is used: the Batch API takes the chat form."""
        return "chat" if self.teacher_api == "batch" else self.teacher_api

    def breaks_resume(self, key: str, old: Any, new: Any) -> bool:
        # A real teacher may move to another host; the embedded one is another teacher.
        return key == "teacher_base_url" and offline.is_offline(old) != offline.is_offline(new)

    @field_validator("strategy", mode="before")
    @classmethod
    def _check_mix(cls, value: Any) -> Any:
        if isinstance(value, dict):
            value = ",".join(f"{name}={weight}" for name, weight in value.items())
        parse_mix(str(value))
        return value

    @field_validator("teacher_base_url", mode="before")
    @classmethod
    def _join_urls(cls, value: Any) -> Any:
        if value == "" or value == []:
            raise ValueError("is empty; leave it out for OpenAI, or set a URL or offline")
        return ",".join(value) if isinstance(value, list) else value

    @field_validator("teacher_base_url")
    @classmethod
    def _check_urls(cls, value: str | None) -> str | None:
        if offline.is_offline(value):
            offline.parse_options(value)
            return value
        return check_base_urls(value) if value else None
