"""Render the model card: a Jinja template filled from the files of the release."""

from __future__ import annotations

import json
import math
import re
from importlib import resources
from typing import Any

from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.markdown import Markdown, shell
from code_alpaca.core.prompts import PROMPT_STYLES
from code_alpaca.core.records import DatasetOrigin, EvalResults, TrainingDataset
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.hub import cards
from code_alpaca.release.config import ReleaseConfig
from code_alpaca.release.facts import ReleaseFacts
from code_alpaca.release.space import SAFETY_NOTE, hub_url
from code_alpaca.training.arguments import TRL_KEYS, SFTArguments


def render_model_card(
    config: ReleaseConfig, facts: ReleaseFacts, loss_plot: str | None = None
) -> str:
    """Return the README.md of a model release; `loss_plot` is a path in it."""
    training = facts.training
    install = cards.install_command()
    return cards.render_card(
        "model_card.md.jinja",
        lambda name: resources.files("code_alpaca").joinpath("release", name).read_text("utf-8"),
        _metadata(config, facts),
        config=config,
        loss_plot=loss_plot,
        facts=facts,
        training=training,
        base_url=hub_url(facts.base_model or "", training.base_revision),
        datasets=[_describe_dataset(dataset) for dataset in training.datasets],
        hyperparameters=_hyperparameters(facts),
        eval_options={name: _eval_options(result) for name, result in facts.results.items()},
        location=config.hub_model_id or "path/to/this/folder",
        revision=f"v{config.model_version}" if config.hub_model_id else None,
        safety_note=SAFETY_NOTE,
        install=install,
        install_comment=Markdown(f"# {install.removeprefix('# ')}"),
        prompt=PROMPT_STYLES.get(facts.prompt_style),  # None: the chat template
        duration=_format_duration(training.seconds),
        # vLLM accepts powers of two from 16.
        lora_rank=max(16, 2 ** math.ceil(math.log2(training.config.get("lora_r") or 1))),
    )


def is_commit(revision: object) -> bool:
    """Return whether a revision is a Hub commit, and not the hash of a file or folder."""
    return bool(re.fullmatch(r"[0-9a-f]{40}", str(revision)))


def results_file(number: int) -> str:
    """Return the file name of the first, second, ... results in a release."""
    return "results.json" if number == 1 else f"results-{number}.json"


def _metadata(config: ReleaseConfig, facts: ReleaseFacts) -> dict[str, Any]:
    from huggingface_hub import ModelCardData

    is_adapter = facts.adapter == "alone"
    on_hub = [source.name for source in facts.training.datasets if is_commit(source.revision)]
    base = {"base_model_relation": "adapter" if is_adapter else "finetune"}
    tags = ["code", "code-alpaca", "instruction-tuning"]
    return ModelCardData(
        base_model=facts.base_model,
        **(base if facts.base_model else {}),
        datasets=on_hub or None,
        language=["en", "code"],
        library_name="peft" if is_adapter else "transformers",
        license=config.license,
        pipeline_tag=None if config.weight_diff else "text-generation",
        tags=[*tags, "weight-diff"] if config.weight_diff else tags,
        model_name=config.name,
        eval_results=_eval_results(config, facts),
    ).to_dict()


def _eval_results(config: ReleaseConfig, facts: ReleaseFacts) -> list[Any]:
    from huggingface_hub import EvalResult

    results = []
    for number, (benchmark, result) in enumerate(facts.results.items(), 1):
        file, source = results_file(number), result.source
        url = hub_url(f"{config.hub_model_id}/blob/v{config.model_version}/{file}")
        results += [
            EvalResult(
                task_type="text-generation",
                dataset_type=(source and source.dataset) or benchmark,
                dataset_name=benchmark,
                dataset_config=source and source.config,
                dataset_revision=source and source.revision,
                metric_type="pass@k",
                metric_name=f"pass@{score.k}",
                metric_value=score.value,
                source_name=f"code-alpaca eval, {file}" if config.hub_model_id else None,
                source_url=url if config.hub_model_id else None,
            )
            for score in result.scores
        ]
    return results


def _describe_dataset(dataset: TrainingDataset) -> dict[str, Any]:
    on_hub = is_commit(dataset.revision)
    url = hub_url(f"datasets/{dataset.name}", dataset.revision) if on_hub else ""
    return {**dict(dataset), "origin": dataset.origin or DatasetOrigin(), "url": url}


def _hyperparameters(facts: ReleaseFacts) -> dict[str, Any]:
    """Return the config keys that influenced the weights."""
    config = facts.training.config
    unused = () if config.get("use_peft") else ("lora_", "merge_adapter")
    if facts.base_model:
        unused += ("scratch_", "from_scratch")
    if config.get("max_steps", 0) > 0:
        unused += ("num_train_epochs",)
    roles = (Role.DERIVED, Role.LOCAL, Role.OFF_CARD)
    left_out = {key for role in roles for key in keys_with(role, SFTArguments, TRL_KEYS)}
    return {
        key: value
        for key, value in config.items()
        if key not in left_out and value not in (None, [], {}, "") and not key.startswith(unused)
    }


def _eval_options(result: EvalResults) -> Markdown:
    """Return the options of `code-alpaca eval` that repeat a measurement, without defaults."""
    options = []
    reproduced = keys_with(Role.REPRODUCED, EvalConfig)
    for key, field in EvalConfig.model_fields.items():
        value = result.config.get(key, field.default)
        if key in reproduced and value not in (None, field.default):
            options.append(f"--{key} {shell(_format_option(value))}")
    return Markdown(" ".join(options))


def _format_option(value: Any) -> Any:
    """Return a value as the command line takes it: a list as `a,b`, of arguments as `["--a"]`."""
    if not isinstance(value, list):
        return value
    text = ",".join(map(str, value))
    return json.dumps(value) if text.startswith("-") else text


def _format_duration(seconds: float | None) -> str:
    if seconds is None:
        raise ValueError("run.json has no seconds")
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"
