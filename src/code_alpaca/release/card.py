"""The model card: a Jinja template, and every number in it from run.json and results.json."""

from __future__ import annotations

from importlib import resources
from typing import Any

import jinja2
import yaml

from code_alpaca.formatting import PROMPT_WITH_INPUT, PROMPT_WITHOUT_INPUT

SHOWN = ("learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
         "gradient_accumulation_steps", "max_length", "lr_scheduler_type", "warmup_steps",
         "weight_decay", "prompt_style", "mask", "seed")  # fmt: skip


def render(training: dict[str, Any], results: dict[str, Any], *, version: str, license: str) -> str:
    """The README.md of a model release.

    Args:
        training: the `run.json` of sft.
        results: the `results.json` of eval.
    """
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=False
    )
    template = environment.from_string(
        resources.files("code_alpaca").joinpath("release/model_card.md.jinja").read_text("utf-8")
    )
    scores = _scores(results)
    body = template.render(
        version=version,
        license=license,
        training=training,
        hyperparameters={k: training["config"][k] for k in SHOWN if k in training["config"]},
        results=results,
        scores=scores,
        prompt_without_input=PROMPT_WITHOUT_INPUT,
        prompt_with_input=PROMPT_WITH_INPUT,
    )
    metadata = yaml.safe_dump(_metadata(training, results, scores, license), sort_keys=False)
    return f"---\n{metadata}---\n\n{body}"


def _scores(results: dict[str, Any]) -> list[dict[str, Any]]:
    """k, value, low and high of every pass@k in the results."""
    return [
        {"k": int(key.removeprefix("pass@")), "value": float(results[key]),
         "low": float(results[f"{key}_interval"][0]), "high": float(results[f"{key}_interval"][1])}
        for key in results
        if key.startswith("pass@") and not key.endswith("_interval")
    ]  # fmt: skip


def _metadata(
    training: dict[str, Any], results: dict[str, Any], scores: list[dict[str, Any]], license: str
) -> dict[str, Any]:
    """What the Hub reads, `model-index` included, in plain Python numbers."""
    base = training["base_model"]
    return {
        "language": ["en", "code"],
        "license": license,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["code", "code-alpaca", "instruction-tuning"],
        **({} if base == "from scratch" else {"base_model": base}),
        "model-index": [
            {
                "name": "code-alpaca",
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {"type": results["benchmark"], "name": results["benchmark"]},
                        "metrics": [
                            {
                                "type": "pass@k",
                                "name": f"pass@{score['k']}",
                                "value": score["value"],
                            }
                            for score in scores
                        ],
                    }
                ],
            }
        ],
    }
