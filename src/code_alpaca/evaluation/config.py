"""The keys of `code-alpaca eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveInt, field_validator, model_validator

from code_alpaca.core.config import BaseUrl, NonEmptyStr
from code_alpaca.core.key_roles import Role
from code_alpaca.core.prompts import PROMPT_STYLES
from code_alpaca.evaluation.completions import PromptFormat
from code_alpaca.problems import BENCHMARKS
from code_alpaca.sandbox.backends import BACKENDS
from code_alpaca.teacher.request_body import ExtraBody, ExtraHeaders
from code_alpaca.teacher.serving.engines import ENGINES
from code_alpaca.teacher.serving.keys import ServingKeys

COMPARABLE = (Role.REPRODUCED, Role.COMPARABLE)
IN_PROCESS = "transformers"


class EvalConfig(ServingKeys):
    """The configuration of `code-alpaca eval`."""

    benchmark: str = Field(
        "mini",
        description=f"{', '.join(BENCHMARKS)}; a .jsonl[.gz] file; or FILE.py:FUNCTION, which "
        "returns problems",
    )
    model: str | None = Field(
        None, description="model folder or Hub id; with base_url the name of a served model"
    )
    revision: NonEmptyStr | None = Field(None, description="branch, tag or commit of a Hub id")
    base_url: BaseUrl | None = Field(None, description="OpenAI-compatible endpoint of the model")
    engine: Annotated[Literal[IN_PROCESS, *ENGINES], Role.REPRODUCED] = Field(
        IN_PROCESS,
        description="what runs a local model: transformers in this process, or a server that is "
        "started for the evaluation",
    )
    samples: str | None = Field(
        None,
        description="grade this JSONL file of task_id with completion or solution; or reference: "
        "the benchmark's own solutions",
    )
    num_samples: Annotated[PositiveInt, *COMPARABLE] = Field(1, description="samples per problem")
    temperature: Annotated[float | None, *COMPARABLE] = Field(
        0.0,
        ge=0,
        le=2,
        description="0: greedy decoding; the model's generation_config is ignored; null: not sent "
        "to base_url",
    )
    top_p: float | None = Field(
        None, gt=0, le=1, description="nucleus sampling from tokens of this total probability"
    )
    k: Annotated[list[PositiveInt], Role.REPRODUCED] = Field(
        [1], min_length=1, description="values of k for pass@k"
    )
    reasoning_effort: Annotated[NonEmptyStr | None, *COMPARABLE] = Field(
        None,
        description="of a reasoning model at base_url: low, medium, high, ...; unset: not sent",
    )
    extra_body: Annotated[ExtraBody, *COMPARABLE] = Field(
        {}, description="more keys of every request to base_url"
    )
    extra_headers: Annotated[ExtraHeaders, Role.LOCAL] = Field(
        {}, description="HTTP headers of every request; their values are not stored"
    )
    max_new_tokens: Annotated[PositiveInt, *COMPARABLE] = Field(
        512, description="at most this number of tokens per completion"
    )
    batch_size: PositiveInt = Field(16, description="completions generated at the same time")
    prompt_format: Annotated[PromptFormat | None, Role.REPRODUCED] = Field(
        None,
        description=f"{', '.join(PROMPT_STYLES)}: the prompt of a model that sft trained; "
        "completion: the problem's own prompt, for base models; chat: the model's chat template; "
        "unset: the format of the model's training (run.json), else chat if there is a chat "
        "template, else alpaca; chat at an endpoint",
    )
    dtype: Annotated[Literal["auto", "float32", "bfloat16", "float16"], Role.REPRODUCED] = Field(
        "auto",
        description="data type of a local model's weights; auto: bfloat16 if the GPU has it, else "
        "float32",
    )
    sandbox: Literal["auto", *BACKENDS] = Field(
        "auto", description="where generated code runs; auto: the strongest that works here"
    )
    allow_unsafe: bool = Field(
        False, description="accept sandbox rlimit, which protects neither files nor network"
    )
    probe: bool = Field(False, description="report what each sandbox blocks, and exit")
    timeout: Annotated[float, *COMPARABLE] = Field(
        10.0, gt=0, le=3600, description="seconds per program"
    )
    compare: Path | None = Field(
        None, description="output_dir of another run to compare with (McNemar's test)"
    )
    training_data: str | None = Field(
        None,
        description="training data to check for contamination; a second score excludes "
        "contaminated problems; unset: the datasets in the model's run.json; skip: no second score",
    )
    seed: Annotated[int, Role.REPRODUCED] = Field(0, ge=0, lt=2**32, description="RNG seed")
    limit: PositiveInt | None = Field(None, description="evaluate only the first N problems")
    output_dir: Path = Field(
        Path("runs/eval"), description="folder of results.json and samples.jsonl"
    )

    @field_validator("k", mode="before")
    @classmethod
    def _listify_single_k(cls, value: Any) -> Any:
        return [value] if isinstance(value, int) else value

    @model_validator(mode="after")
    def _check_keys_together(self) -> EvalConfig:
        if self.model is not None and self.samples is not None:
            raise ValueError("give either model (with base_url or without) or samples, not both")
        if not (self.model or self.samples or self.probe or self.compare):
            raise ValueError("give either model (with base_url or without) or samples")
        if self.samples is None and max(self.k) > self.num_samples:
            raise ValueError(f"k = {max(self.k)} needs num_samples of at least {max(self.k)}")
        if self.num_samples > 1 and self.temperature == 0 and self.samples is None:
            raise ValueError("num_samples above 1 needs a temperature above 0")
        if self.temperature is None and self.model and not self.base_url:
            raise ValueError("temperature null is for base_url; give a number")
        for key in ("reasoning_effort", "extra_body", "extra_headers"):
            if getattr(self, key) and not self.base_url:
                raise ValueError(f"{key} is for base_url; leave it out")
        if self.temperature and self.temperature < 0.01:
            raise ValueError("temperature is 0 (greedy), or from 0.01 to 2")
        if self.top_p is not None and self.temperature == 0:
            raise ValueError("top_p needs a temperature above 0")
        if self.revision is not None and (self.model is None or self.base_url):
            raise ValueError("revision is for a model on the Hub; leave it out")
        if self.engine != IN_PROCESS:
            self._check_engine()
        return self

    def _check_engine(self) -> None:
        """Refuse keys that have no meaning for a server that is started for the evaluation."""
        if self.model is None or self.base_url:
            raise ValueError(f"engine {self.engine} needs a model to serve, and no base_url")
        if self.dtype != "auto":
            raise ValueError(
                f"dtype is for engine {IN_PROCESS}; set the argument of {self.engine} in "
                f"serving_args, such as '--dtype {self.dtype}'"
            )
