"""The keys of `code-alpaca eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from code_alpaca.core.config import BaseUrl, NonEmptyStr, StageConfig
from code_alpaca.core.key_roles import Role
from code_alpaca.evaluation.completions import PromptFormat
from code_alpaca.problems import BENCHMARKS


class EvalConfig(StageConfig):
    """The keys of `code-alpaca eval`."""

    benchmark: str = Field("mini", description=f"{', '.join(BENCHMARKS)}, or a .jsonl[.gz] file")
    model: str | None = Field(None, description="model folder or Hub id; a name with base_url")
    revision: NonEmptyStr | None = Field(None, description="branch, tag or commit of a Hub id")
    base_url: BaseUrl | None = Field(
        None, description="OpenAI-compatible endpoint that serves model"
    )
    samples: str | None = Field(
        None, description="grade this JSONL of task_id and completion (or solution); or reference"
    )
    num_samples: Annotated[PositiveInt, Role.REPRODUCED, Role.COMPARABLE] = Field(
        1, description="answers for each problem"
    )
    temperature: Annotated[float, Role.REPRODUCED, Role.COMPARABLE] = Field(
        0.0, ge=0, le=2, description="0 is greedy, whatever the model's generation_config says"
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="sample from the most likely tokens of this total probability"
    )
    k: Annotated[list[PositiveInt], Role.REPRODUCED] = Field(
        [1], min_length=1, description="the k of pass@k"
    )
    max_new_tokens: Annotated[PositiveInt, Role.REPRODUCED, Role.COMPARABLE] = Field(
        512, description="limit of one answer, in tokens"
    )
    batch_size: PositiveInt = Field(16, description="answers made at once")
    prompt_format: Annotated[PromptFormat | None, Role.REPRODUCED] = Field(
        None,
        description="alpaca or alpaca_nl for our students, completion (the problem's own prompt) "
        "for base models, chat; none: that of the model's training, and chat at an endpoint",
    )
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Role.REPRODUCED] = Field(
        "auto", description="of a local model's weights; auto: bfloat16 on a GPU that has it"
    )
    sandbox: Literal["auto", "bwrap", "landlock", "rlimit"] = Field(
        "auto", description="where untrusted answers run; auto: the strongest that holds here"
    )
    allow_unsafe: bool = Field(
        False, description="accept sandbox rlimit, which hides neither files nor network"
    )
    probe: bool = Field(False, description="try to break out of each sandbox, print, and end")
    timeout: Annotated[float, Role.REPRODUCED, Role.COMPARABLE] = Field(
        10.0, gt=0, le=3600, description="seconds for one program"
    )
    compare: Path | None = Field(
        None, description="output_dir of another run: is the difference more than luck?"
    )
    training_data: str | None = Field(
        None,
        description="dataset whose matches are left out of a second score; by default that of the "
        "model's run.json at its revision; skip: none",
    )
    seed: Annotated[int, Role.REPRODUCED] = Field(0, ge=0, lt=2**32, description="seed of sampling")
    limit: PositiveInt | None = Field(None, description="measure only the first N problems")
    output_dir: Path = Field(Path("runs/eval"), description="where results.json goes")

    @field_validator("k", mode="before")
    @classmethod
    def _one_k_is_a_list(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @model_validator(mode="after")
    def _one_source(self) -> EvalConfig:
        if self.model is not None and self.samples is not None:
            raise ValueError("give either model (with base_url or without) or samples, not both")
        if not (self.model or self.samples or self.probe or self.compare):
            raise ValueError("give either model (with base_url or without) or samples")
        if self.samples is None and max(self.k) > self.num_samples:
            raise ValueError(f"k = {max(self.k)} needs num_samples of at least {max(self.k)}")
        if self.num_samples > 1 and self.temperature == 0 and self.samples is None:
            raise ValueError("num_samples above 1 needs a temperature above 0")
        if 0 < self.temperature < 0.01:
            raise ValueError("temperature is 0 (greedy), or from 0.01 to 2")
        if self.top_p is not None and not self.temperature:
            raise ValueError("top_p needs a temperature above 0")
        if self.revision is not None and (self.model is None or self.base_url):
            raise ValueError("revision is of a model on the Hub; leave it out")
        return self
