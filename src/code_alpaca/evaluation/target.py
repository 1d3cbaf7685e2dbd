"""Resolve what is evaluated: a local model, an endpoint, or a file of samples."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.prompts import CHAT, PROMPT_STYLES, contains_style
from code_alpaca.core.records import RecordFormatError, RunRecord
from code_alpaca.evaluation.completions import CompletionBackend, GenerationSettings, PromptFormat
from code_alpaca.evaluation.config import IN_PROCESS, EvalConfig
from code_alpaca.evaluation.local_model import LocalModelBackend
from code_alpaca.evaluation.served_model import ServedModelBackend
from code_alpaca.evaluation.text_generation import resolve_dtype
from code_alpaca.hub.model_source import Fingerprint, ModelSource, find_model
from code_alpaca.teacher.request_body import get_header_values
from code_alpaca.teacher.serving.engines import (
    ENGINES,
    GGUF,
    ServedModel,
    check_model,
    describe_model,
)


@dataclass(frozen=True, slots=True)
class EvaluationTarget:
    """What is evaluated; for a file of samples nothing is set."""

    settings: GenerationSettings | None = None
    source: ModelSource | None = None  # of a local model
    served: ServedModel | None = None  # a local model that a server of this machine runs
    fingerprint: Fingerprint = field(default_factory=dict)  # of a local model's files
    dtype: str | None = None  # of the weights during the evaluation
    training: RunRecord | None = None  # the model's run.json, if code-alpaca can read it
    training_error: str = ""  # why run.json cannot be used
    format_reason: str = ""  # why the prompts have their format

    @property
    def prompt_format(self) -> PromptFormat | None:
        """The format of the prompts; None for a file of samples."""
        return self.settings.prompt_format if self.settings else None


def resolve_target(config: EvalConfig) -> EvaluationTarget:
    """Locate the model and its training record.

    Raises:
        InputError: there is no such model, or its run.json is damaged.
    """
    if config.model is None:
        return EvaluationTarget()
    if config.base_url is not None:
        prompt_format, reason = _choose_format(config)
        return EvaluationTarget(_settings(config, prompt_format), format_reason=reason)
    if config.model.endswith(GGUF):
        return _resolve_gguf(config)
    source = find_model(config.model, config.revision)
    training, training_error = _read_training(source.folder)
    served = _find_served(config, source) if config.engine != IN_PROCESS else None
    prompt_format, reason = _choose_format(config, source, training)
    return EvaluationTarget(
        _settings(config, prompt_format),
        source,
        served,
        source.fingerprint(),
        None if served else resolve_dtype(config.dtype),
        training,
        training_error,
        reason,
    )


def _resolve_gguf(config: EvalConfig) -> EvaluationTarget:
    if config.engine != "llama-server":
        raise InputError(f"{config.model} is a GGUF file; set engine llama-server")
    served = describe_model(ENGINES[config.engine], config.model)
    check_model(served)
    _refuse_several_processes(config)
    prompt_format, reason = _choose_format(config)
    return EvaluationTarget(
        _settings(config, prompt_format),
        served=served,
        fingerprint={"weights": file_sha256(served.path)},
        format_reason=reason,
    )


def _find_served(config: EvalConfig, source: ModelSource) -> ServedModel:
    """Return the model folder as its engine serves it: the very files of the fingerprint."""
    if config.engine == "llama-server":
        raise InputError(f"engine llama-server serves {GGUF} files; {config.model} is none")
    if source.base:
        raise InputError(
            f"{config.model} is an adapter, which {config.engine} does not serve by itself; merge "
            "it (sft with merge_adapter), or leave engine out"
        )
    _refuse_several_processes(config)
    return describe_model(ENGINES[config.engine], str(source.folder))


def _refuse_several_processes(config: EvalConfig) -> None:
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            f"engine {config.engine} uses all GPUs from one process; run eval without "
            "accelerate launch"
        )


def find_prompt_mismatch(target: EvaluationTarget) -> str:
    """Return how the prompts differ from those of the model's training; "" if they do not."""
    trained = target.training.config.get("prompt_style") if target.training else None
    used = target.prompt_format
    if trained is None or used == "chat":  # the model's own template renders the prompt
        return ""
    if used != trained:
        action = "leave prompt_format out to use the prompts of its training"
        if trained not in (*PROMPT_STYLES, CHAT):
            action = "this version does not have the prompts of its training"
        return (
            f"the model was trained with prompt_style {trained} and gets prompt_format {used}; "
            f"{action}"
        )
    path = target.source.folder / "chat_template.jinja"  # written by sft
    if path.exists() and not contains_style(path.read_text("utf-8", "replace"), trained):
        return (
            f"the prompt style {trained} changed after the training, or the model's "
            "chat_template.jinja is not that of sft; set prompt_format chat to use the template"
        )
    return ""


def make_backend(
    target: EvaluationTarget, config: EvalConfig, *, has_responded: bool
) -> CompletionBackend:
    """Return the backend that completes prompts; `has_responded` is that of `EndpointBackend`."""
    settings, size = target.settings, config.batch_size
    if target.served is not None:
        return ServedModelBackend(target.served, config, settings, has_responded)
    if target.source is not None:
        return LocalModelBackend(target.source, settings, size, target.dtype)
    from code_alpaca.evaluation.endpoint import EndpointBackend  # it imports the OpenAI client

    headers = get_header_values(config.extra_headers)
    return EndpointBackend(config.base_url, config.model, settings, size, has_responded, headers)


def _settings(config: EvalConfig, prompt_format: PromptFormat) -> GenerationSettings:
    return GenerationSettings(
        prompt_format,
        config.temperature,
        config.max_new_tokens,
        config.seed,
        config.top_p,
        config.reasoning_effort,
        config.extra_body or None,
    )


def _read_training(folder: Path) -> tuple[RunRecord | None, str]:
    """Return a model's run.json, or why it cannot be used."""
    if not (folder / RunRecord.FILE).exists():
        return None, ""
    try:
        return RunRecord.load(folder), ""
    except RecordFormatError as error:  # another tool's run.json
        return None, str(error)


def _choose_format(
    config: EvalConfig, source: ModelSource | None = None, training: RunRecord | None = None
) -> tuple[PromptFormat, str]:
    """Return the format of the prompts, and why it is used.

    Args:
        source: of a model folder; None for an endpoint or a GGUF file.
        training: the model's run.json.

    Raises:
        InputError: the model was trained on a prompt style that this version does not have.
    """
    if config.prompt_format:
        return config.prompt_format, "set by prompt_format"
    if source is None:
        return "chat", "the server applies the model's chat template"
    if training is not None:
        return _trained_style(training), "that of its training, in run.json"
    if source.has_chat_template():
        return "chat", "the model's chat template"
    return "alpaca", "the model has neither a run.json nor a chat template"


def _trained_style(training: RunRecord) -> PromptFormat:
    """Return the prompt style that a model was trained on; early versions had only alpaca."""
    try:
        return training.prompt_style or "alpaca"
    except InputError as error:
        raise InputError(
            f"{error}; or set prompt_format to measure the model with prompts that it was not "
            "trained on"
        ) from None
