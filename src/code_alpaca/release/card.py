"""The model card: a Jinja template, and every number in it from the files of the release."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.markdown import Markdown, shell
from code_alpaca.core.prompts import PROMPT_WITH_INPUT, PROMPT_WITHOUT_INPUT
from code_alpaca.evaluation.command import EvalConfig as Evaluation
from code_alpaca.hub import cards
from code_alpaca.release.facts import Facts
from code_alpaca.release.space import HUB, SAFETY_NOTE
from code_alpaca.training.arguments import SFTArguments
from code_alpaca.training.trl_keys import TRL_KEYS


@dataclass(frozen=True, slots=True)
class About:
    """What the release is called, and the terms it comes under."""

    version: str
    license: str
    base_license: str | None = None
    hub_id: str | None = None
    weight_diff: bool = False  # the weights are the difference to the base model's
    picture: str | None = None  # of the loss, by its path in the release

    @property
    def name(self) -> str:
        return self.hub_id.partition("/")[2] if self.hub_id else "code-alpaca-model"


def render(facts: Facts, about: About) -> str:
    """The README.md of a model release."""
    training = facts.training
    style = training["config"].get("prompt_style", "alpaca")
    install = cards.install_command()
    end = "\n" if style == "alpaca_nl" else ""
    return cards.render_card(
        "model_card.md.jinja",
        lambda name: resources.files("code_alpaca").joinpath("release", name).read_text("utf-8"),
        _metadata(facts, about),
        about=about,
        facts=facts,
        training=training,
        base=_Base.of(facts),
        datasets=[_dataset(source) for source in training["datasets"]],
        hyperparameters=_hyperparameters(facts),
        measuring={name: _eval_keys(result) for name, result in facts.results.items()},
        scores={name: scores(result) for name, result in facts.results.items()},
        here=about.hub_id or "path/to/this/folder",
        revision=f"v{about.version}" if about.hub_id else None,
        safety_note=SAFETY_NOTE,
        install=install,
        as_comment=Markdown(f"# {install.removeprefix('# ')}"),
        style=style,
        prompt_without_input=PROMPT_WITHOUT_INPUT + end,
        prompt_with_input=PROMPT_WITH_INPUT + end,
        time=_time(training["seconds"]),
        lora_rank=_lora_rank(training["config"]),
    )


def _time(seconds: float) -> str:
    """In the unit that people would take."""
    for unit, size in (("hours", 3600), ("minutes", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def _lora_rank(config: dict[str, Any]) -> int:
    """What vLLM is to be told, which knows powers of two and by itself none above 16."""
    return max(16, 2 ** math.ceil(math.log2(config.get("lora_r") or 1)))


def _hyperparameters(facts: Facts) -> dict[str, Any]:
    """The keys of the training that shaped what it learned."""
    config = facts.training["config"]
    moot = [] if config.get("use_peft") else ["lora_", "merge_adapter"]
    if facts.base_model:
        moot += ["scratch_", "from_scratch"]
    if config.get("max_steps", 0) > 0:
        moot.append("num_train_epochs")  # which then decides nothing
    left_out = frozenset().union(
        *(keys_with(r, SFTArguments, TRL_KEYS) for r in (Role.DERIVED, Role.LOCAL, Role.OFF_CARD))
    )
    return {
        key: value
        for key, value in config.items()
        if key not in left_out
        and value not in (None, [], {}, "")
        and not key.startswith(tuple(moot))
    }


def _eval_keys(result: dict[str, Any]) -> Markdown:
    """The words of `code-alpaca eval` that measure alike: every key that is not by default."""
    words = []
    for key, field in Evaluation.model_fields.items():
        value = result["config"].get(key, field.default)
        if key in keys_with(Role.REPRODUCED, Evaluation) and value not in (None, field.default):
            text = ",".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{key} {shell(text)}")
    return Markdown(" ".join(words))


def scores(result: dict[str, Any]) -> list[dict[str, Any]]:
    """k, value, low and high of every pass@k in the results."""
    return [
        {"k": int(key.removeprefix("pass@")), "value": float(result[key]),
         "low": float(result[f"{key}_interval"][0]), "high": float(result[f"{key}_interval"][1])}
        for key in result
        if re.fullmatch(r"pass@\d+", key)
    ]  # fmt: skip


def is_commit(revision: object) -> bool:
    """Whether it is a commit of the Hub, and not the hash of a file or folder."""
    return bool(re.fullmatch(r"[0-9a-f]{40}", str(revision)))


@dataclass(frozen=True, slots=True)
class _Base:
    """The model that training began from."""

    name: str
    revision: str | None
    url: str

    @classmethod
    def of(cls, facts: Facts) -> _Base | None:
        if facts.base_model is None:
            return None
        revision = facts.training.get("base_revision")
        tree = f"/tree/{revision}" if revision else ""
        return cls(facts.base_model, revision, f"{HUB}/{facts.base_model}{tree}")


def _dataset(source: dict[str, Any]) -> dict[str, Any]:
    """A source of the training, with a link where it is on the Hub."""
    on_hub = is_commit(source["revision"])
    url = f"{HUB}/datasets/{source['name']}/tree/{source['revision']}" if on_hub else ""
    return {**source, "origin": source.get("origin") or {}, "url": url}


def results_name(number: int) -> str:
    """The file of the first, second, ... results in a release."""
    return "results.json" if number == 1 else f"results-{number}.json"


def _source(about: About, number: int) -> dict[str, Any]:
    """Where the results are to be seen, for the Hub's page."""
    if not about.hub_id:
        return {}
    url = f"{HUB}/{about.hub_id}/blob/v{about.version}/{results_name(number)}"
    return {"source": {"name": f"code-alpaca eval, {results_name(number)}", "url": url}}


def _metadata(facts: Facts, about: About) -> dict[str, Any]:
    """What the Hub reads, `model-index` included, in plain Python numbers."""
    on_hub = [each["name"] for each in facts.training["datasets"] if is_commit(each["revision"])]
    base = {}
    if facts.base_model:
        relation = "adapter" if facts.adapter == "alone" else "finetune"
        base = {"base_model": facts.base_model, "base_model_relation": relation}
    loads = not about.weight_diff
    return {
        "language": ["en", "code"],
        "license": about.license,
        "library_name": "peft" if facts.adapter == "alone" else "transformers",
        **({"pipeline_tag": "text-generation"} if loads else {}),
        "tags": ["code", "code-alpaca", "instruction-tuning", *([] if loads else ["weight-diff"])],
        **base,
        **({"datasets": on_hub} if on_hub else {}),
        "model-index": [
            {
                "name": about.name,
                "results": [
                    {
                        "task": {"type": "text-generation"},
                        "dataset": {
                            "type": result.get("source", {}).get("dataset", benchmark),
                            "name": benchmark,
                        },
                        **_source(about, number),
                        "metrics": [
                            {
                                "type": "pass@k",
                                "name": f"pass@{score['k']}",
                                "value": score["value"],
                            }
                            for score in scores(result)
                        ],
                    }
                    for number, (benchmark, result) in enumerate(facts.results.items(), 1)
                ],
            }
        ],
    }
