"""The keys of `code-alpaca generate`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from code_alpaca.core.config import (
    TITLE_HELP,
    NonEmptyStr,
    Title,
    Version,
    check_base_urls,
)
from code_alpaca.core.key_roles import Role
from code_alpaca.core.old_spellings import OldSpellings
from code_alpaca.curation.rules import CurationRules
from code_alpaca.generation.model_size import is_small_model
from code_alpaca.generation.strategies import STRATEGIES
from code_alpaca.generation.strategies.mix import OLD_NAMES, parse_mix
from code_alpaca.teacher import offline
from code_alpaca.teacher.request_body import Api, ExtraBody, ExtraHeaders
from code_alpaca.teacher.serving.engines import ServedModel, parse_served_model
from code_alpaca.teacher.serving.keys import ServingKeys

T = TypeVar("T")
Free = Annotated[T, Role.FREE]
PerRequest = Annotated[T, Role.REQUEST]
# A reply of a model on a CPU takes minutes, and a retry would begin again.
SERVED_MODEL_TIMEOUT_S = 3600.0


class GenerateConfig(CurationRules, ServingKeys):
    """The keys of `code-alpaca generate`; a key without a role identifies the run."""

    OLD_SPELLINGS: ClassVar = OldSpellings(
        keys={"seed_compat_defects": "alpaca_2023_defects"},  # old name
        values={**CurationRules.OLD_SPELLINGS.values, "strategy": OLD_NAMES},
    )

    # The run.
    run_dir: Free[Path] = Field(description="folder of this run; the same command resumes it")
    seed_tasks: Path | None = Field(
        None, description="JSONL of seed tasks instead of the built-in ones"
    )
    num_examples: Free[PositiveInt] = Field(1000, description="rows to accept; may be raised later")
    seed: int = Field(0, description="RNG seed of every random choice")
    dry_run: Free[bool] = Field(False, description="print estimates and one prompt, send nothing")

    # The requests.
    strategy: str = Field(
        "self_instruct",
        description=f"{', '.join(sorted(STRATEGIES))}; your own as FILE.py:NAME; or a mix by "
        "weight: self_instruct=3,evol_instruct=1",
    )
    prompts: Free[Path | None] = Field(  # the hash of the templates identifies the run
        None, description="folder of templates that replace built-in ones, e.g. self_instruct.jinja"
    )
    tasks_per_request: PerRequest[PositiveInt] = Field(
        5,
        description="tasks to request at once; unset: 1 for a teacher with less than 4B parameters "
        "in its name, such as qwen2.5-coder-1.5b",
    )
    seeds_per_request: PerRequest[PositiveInt] = Field(6, description="seed tasks in one prompt")
    pool_per_request: PerRequest[int] = Field(2, ge=0, description="accepted rows in one prompt")
    snippets: str | None = Field(None, description="oss_instruct: folder, file or dataset of code")
    snippets_column: str = Field(
        "content", description="column that holds the code, if snippets is a dataset"
    )
    quotas: dict[str, dict[str, float]] = Field(
        {}, description="fractions of rows by language, task_type and difficulty (in the YAML file)"
    )
    alpaca_2023_defects: bool = Field(False, description="alpaca_2023: reproduce its defects too")

    # The teacher.
    teacher_model: PerRequest[str] = Field(
        "offline-teacher",
        description="name of the model, required for a teacher on another machine; that of its "
        "file, folder or Hub id if it is served here",
    )
    teacher_base_url: Free[str | None] = Field(
        None,
        description="OpenAI-compatible URLs, separated by commas; a model to serve on this machine "
        "as vllm:MODEL, sglang:MODEL, llama-server:FILE.gguf or transformers:MODEL; offline; "
        "unset: OpenAI",
    )
    teacher_api: Literal["chat", "responses", "completions", "batch"] = Field(
        "chat", description="completions is for base models; batch costs half, takes up to a day"
    )
    temperature: PerRequest[float | None] = Field(
        1.0, ge=0, le=2, description="sampling temperature; null: not sent"
    )
    top_p: PerRequest[float | None] = Field(
        1.0, gt=0, le=1, description="nucleus sampling mass; null: not sent"
    )
    reasoning_effort: PerRequest[NonEmptyStr | None] = Field(
        None, description="of a reasoning model: low, medium, high, ...; unset: not sent"
    )
    extra_body: PerRequest[ExtraBody] = Field(
        {}, description="more keys of every request, e.g. {chat_template_kwargs: {...}} for vLLM"
    )
    extra_headers: PerRequest[ExtraHeaders] = Field(
        {}, description="HTTP headers of every request; their values are not stored"
    )
    max_completion_tokens: PerRequest[PositiveInt] = Field(4096, description="tokens in one reply")
    max_prompt_tokens: PerRequest[PositiveInt | None] = Field(
        None,
        description="tokens in one prompt, which shows fewer tasks to fit; unset: from the "
        "teacher's context length",
    )
    keep_reasoning: bool = Field(
        False, description="store the teacher's reasoning in a column `reasoning`"
    )

    # Speed and limits.
    lookahead: PositiveInt = Field(
        64, description="how many requests may be sent before the oldest is processed"
    )
    max_concurrency: Free[PositiveInt] = Field(16, description="requests in flight at once")
    requests_per_minute: Free[PositiveFloat | None] = Field(
        None, description="rate limit; unset: from the response headers"
    )
    tokens_per_minute: Free[PositiveFloat | None] = Field(
        None, description="rate limit in tokens; unset: from the response headers"
    )
    request_timeout_s: Free[float] = Field(
        120.0,
        gt=0,
        description="seconds without a response before a request is retried; "
        f"{SERVED_MODEL_TIMEOUT_S:g} unless set if the model is served here",
    )
    batch_poll_s: Free[float] = Field(30.0, gt=0, description="seconds between polls of a batch")
    max_cost_usd: Free[PositiveFloat | None] = Field(
        None, description="hard cap on the cost of the run across all its restarts; unset: no cap"
    )
    price_per_mtok_input: Free[float | None] = Field(
        None, ge=0, description="dollars per million input tokens; unset: from the price list"
    )
    price_per_mtok_output: Free[float | None] = Field(
        None, ge=0, description="dollars per million output tokens; unset: from the price list"
    )
    patience: Free[PositiveInt] = Field(
        50, description="replies without an accepted row before stopping"
    )

    # The dataset.
    checkpoint_every: Free[int] = Field(
        5000, ge=0, description="write dataset/ each time this many rows were added; 0: at the end"
    )
    report_to: Free[Literal["none", "trackio"]] = Field("none", description="where to log metrics")
    dataset_version: Free[Version] = Field("0.1.0", description="SemVer of this run's dataset")
    title: Title = Field(None, description=TITLE_HELP)
    hub_dataset_id: Free[NonEmptyStr | None] = Field(None, description="ORG/NAME for push_to_hub")
    push_to_hub: Free[bool] = Field(
        False, description="release the dataset at the end; full shards are uploaded during the run"
    )
    private: Free[bool] = Field(False, description="create a private Hub repository")

    @property
    def request_api(self) -> Api:
        """The API whose request form is used: the Batch API takes the chat form."""
        return "chat" if self.teacher_api == "batch" else self.teacher_api

    @property
    def served_model(self) -> ServedModel | None:
        """The model that this run serves itself; None for a server that is running already."""
        if (served := parse_served_model(self.teacher_base_url)) is None:
            return None
        return replace(served, name=self.teacher_model)

    def breaks_resume(self, key: str, old: Any, new: Any) -> bool:
        # A real teacher may move to another host; the embedded one is another teacher.
        return key == "teacher_base_url" and offline.is_offline(old) != offline.is_offline(new)

    @model_validator(mode="before")
    @classmethod
    def _set_defaults_of_model(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        url, defaults = values.get("teacher_base_url"), {}
        with contextlib.suppress(ValueError):  # reported by `_check_urls`
            if served := parse_served_model(url if isinstance(url, str) else None):
                defaults["teacher_model"] = served.name
                defaults["request_timeout_s"] = SERVED_MODEL_TIMEOUT_S
        values = {**defaults, **values}
        if is_small_model(str(values.get("teacher_model", ""))):
            values = {"tasks_per_request": 1, **values}
        return values

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
        if parse_served_model(value):
            return value
        return check_base_urls(value) if value else None

    @model_validator(mode="after")
    def _check_served_name(self) -> GenerateConfig:
        served = parse_served_model(self.teacher_base_url)
        if served and not served.engine.takes_any_name and self.teacher_model != served.name:
            raise ValueError(
                f"{served.engine.name} serves the model as {served.name}; leave teacher_model out"
            )
        return self
