"""Resolve what is evaluated: a local model, an endpoint, or a file of samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from code_alpaca.core.errors import InputError
from code_alpaca.core.records import RecordFormatError, RunRecord
from code_alpaca.evaluation.completions import CompletionBackend, GenerationSettings, PromptFormat
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.endpoint import EndpointBackend
from code_alpaca.evaluation.local_model import LocalModelBackend
from code_alpaca.evaluation.text_generation import resolve_dtype
from code_alpaca.hub.model_source import Fingerprint, ModelSource, find_model


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    """What is evaluated.

    Attributes:
        settings: None for a file of samples.
        source: the local folder of a model; None for an endpoint.
        fingerprint: identifies the content of the model's files.
        dtype: of the weights during the evaluation.
        training: the model's run.json; None if it has none that code-alpaca can read.
        training_error: why run.json cannot be used.
    """

    settings: GenerationSettings | None = None
    source: ModelSource | None = None
    fingerprint: Fingerprint = field(default_factory=dict)
    dtype: str | None = None
    training: RunRecord | None = None
    training_error: str = ""

    @property
    def prompt_format(self) -> PromptFormat | None:
        """The format of the prompts; None for a file of samples."""
        return self.settings.prompt_format if self.settings else None


def resolve_target(config: EvalConfig) -> EvaluationTarget:
    """Locate the model and its training record; a file of samples needs neither.

    Raises:
        InputError: there is no such model, or its run.json is damaged.
    """
    if config.model is None:
        return EvaluationTarget()
    source, fingerprint, dtype = None, {}, None
    training, training_error = None, ""
    default_format: PromptFormat = "chat"
    if config.base_url is None:
        source = find_model(config.model, config.revision)
        fingerprint, dtype = source.fingerprint(), resolve_dtype(config.dtype)
        training, training_error = _read_training(source.folder)
        default_format = _training_format(training)
    settings = GenerationSettings(
        prompt_format=config.prompt_format or default_format,
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens,
        seed=config.seed,
        top_p=config.top_p,
    )
    return EvaluationTarget(settings, source, fingerprint, dtype, training, training_error)


def make_backend(
    target: EvaluationTarget, config: EvalConfig, *, has_responded: bool
) -> CompletionBackend:
    """Return the backend that completes prompts.

    Args:
        has_responded: whether the same endpoint completed prompts in an earlier start.
    """
    settings, size = target.settings, config.batch_size
    assert settings is not None
    if target.source is not None:
        return LocalModelBackend(target.source, settings, size, str(target.dtype))
    return EndpointBackend(str(config.base_url), str(config.model), settings, size, has_responded)


def describe_model(target: EvaluationTarget, config: EvalConfig) -> dict[str, Any]:
    """Return `model` of results.json: its Hub commit, or the hashes of its files."""
    dataset = target.training.dataset if target.training else None
    return {
        "name": config.model,
        "revision": target.fingerprint.get("commit"),
        "sha256": target.fingerprint.get("weights"),
        "files": target.fingerprint,
        "dtype": target.dtype,
        "base_url": config.base_url,
        "dataset": dataset.model_dump() if dataset else None,
    }


def describe_sampling(target: EvaluationTarget) -> dict[str, Any] | None:
    """Return `sampling` of results.json; of an endpoint only what it was sent is known."""
    if target.settings is None:
        return None
    settings = target.settings
    sent = {
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "max_new_tokens": settings.max_new_tokens,
    }
    if target.source is None:
        return {**sent, "others": "defaults of the server"}
    return {
        "do_sample": settings.temperature > 0,
        **sent,
        "seed": settings.seed,
        "top_k": None,
        "repetition_penalty": None,
        "num_beams": 1,
    }


def _read_training(folder: Path) -> tuple[RunRecord | None, str]:
    """Return a model's run.json, or why it cannot be used."""
    if not (folder / RunRecord.FILE).exists():
        return None, ""
    try:
        return RunRecord.load(folder / RunRecord.FILE), ""
    except RecordFormatError as error:  # another tool's run.json
        return None, str(error)


def _training_format(training: RunRecord | None) -> PromptFormat:
    """Return the prompt style that a model was trained on; alpaca if unknown."""
    style = training.config.get("prompt_style") if training else None
    if style is not None and style not in get_args(PromptFormat):
        raise InputError(
            f"run.json of the model names prompt_style {style!r}; set prompt_format to one of "
            f"{', '.join(get_args(PromptFormat))}"
        )
    return style or "alpaca"
