"""What a release is of: a training and its results, read from their files and held together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.cards import public
from code_alpaca.errors import InputError, one_line
from code_alpaca.evaluation.compare import compare
from code_alpaca.formatting import format_prompt
from code_alpaca.inference import prompt_ids
from code_alpaca.weights import weights_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_SCRATCH = "from scratch"
TRIED = (("Add 1 to x.", ""), ("Sort these:\n  numbers", "[3, 1]\n"))  # for the chat template


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card tells: every number in it comes from here."""

    training: dict[str, Any]  # the run.json of sft, without the folders of this machine
    results: dict[str, dict[str, Any]]  # the results.json of each benchmark, likewise
    comparisons: dict[str, dict[str, Any]]  # against the base model, by benchmark
    base_model: str | None  # its Hub id, or its folder; None where training began from nothing
    started_from: str  # the base model where it was for training
    adapter: str  # "" for whole weights, "alone" for an adapter, "beside" for both
    weights: str  # hash of the safetensors


def read(
    model_dir: Path,
    results: Sequence[Path],
    base_results: Sequence[Path] = (),
    base_model: str | None = None,
) -> Facts:
    """The facts of a model folder and its results.

    Args:
        results: files or output folders of eval, one for each benchmark.
        base_results: those of the model that training began from, on the same benchmarks.
        base_model: what to call that model, where training read it from a folder.

    Raises:
        InputError: a file is missing or broken, the results are of other weights, or the chat
            template renders another prompt than that of training.
    """
    training = _training(model_dir)
    weights = weights_sha256(str(model_dir))
    if weights is None:
        raise InputError(f"{model_dir} holds no weights (*.safetensors)")
    found, folders = {}, {}
    for path in map(_results_path, results):
        result = _json(path, "results of eval")
        _require_results_of(result, path, model_dir, weights)
        if result["benchmark"] in found:
            raise InputError(f"{path} is a second result on {result['benchmark']}; leave one out")
        found[result["benchmark"]], folders[result["benchmark"]] = result, path.parent
    comparisons = {}
    for path in map(_results_path, base_results):
        benchmark = _json(path, "results of eval").get("benchmark")
        if benchmark not in folders:
            raise InputError(f"{path} is on {benchmark}, of which `results` holds nothing")
        comparisons[benchmark] = compare(folders[benchmark], path.parent).as_dict()
    _require_chat_template(model_dir, training)
    alone = (model_dir / "adapter_model.safetensors").exists()
    return Facts(
        training=public(training),
        results=public(found),
        comparisons=comparisons,
        base_model=_base(training, base_model),
        started_from=str(training["base_model"]),
        adapter="alone" if alone else "beside" if (model_dir / "adapter").is_dir() else "",
        weights=weights,
    )


def _training(model_dir: Path) -> dict[str, Any]:
    what = "a model folder made by sft"
    training = _json(model_dir / "run.json", what)
    for key in ("base_model", "dataset", "datasets", "config", "versions", "hardware"):
        if key not in training:
            raise InputError(f"{model_dir / 'run.json'} has no {key}; expected {what}")
    return training


def _base(training: dict[str, Any], named: str | None) -> str | None:
    base = str(training["base_model"])
    if base == FROM_SCRATCH:
        if named:
            raise InputError(f"base_model {named}: this model was trained from nothing; leave out")
        return None
    return named or base


def _results_path(path: Path) -> Path:
    return path / "results.json" if path.is_dir() else path


def _require_results_of(result: dict[str, Any], path: Path, model_dir: Path, weights: str) -> None:
    measured = result.get("model")
    if not isinstance(measured, dict) or measured.get("sha256") != weights:
        raise InputError(
            f"{path} holds no results of the weights in {model_dir}; run eval with "
            f"--model {model_dir}"
        )


def _require_chat_template(model_dir: Path, training: dict[str, Any]) -> None:
    """Refuse a template that chat servers would render to another prompt than that of training."""
    tokenizer = _tokenizer(model_dir)
    style = training["config"].get("prompt_style", "alpaca")
    if tokenizer.eos_token_id is None:
        raise InputError(f"the tokenizer in {model_dir} has no EOS token; no answer would end")
    if tokenizer.chat_template is None:
        raise InputError(f"{model_dir} has no chat template; train again, or copy the one of sft")
    for instruction, input in TRIED:
        trained = tokenizer(format_prompt(instruction, input, style=style))["input_ids"]
        try:
            rendered = prompt_ids(tokenizer, instruction, input)
        except Exception as error:  # jinja2's, or whatever the template raises
            rendered = one_line(error)
        if rendered != trained:
            raise InputError(
                f"the chat template in {model_dir} does not render the prompt of training "
                f"({style}); put back the chat_template.jinja that sft wrote"
            )


def _tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # transformers, tokenizers and json each have their own
        raise InputError(f"cannot load the tokenizer of {model_dir}: {one_line(error)}") from None


def _json(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); expected {what}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} holds no JSON object; expected {what}")
    return found
