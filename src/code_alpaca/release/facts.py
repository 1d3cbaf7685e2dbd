"""What a release is of: a training and its results, read from their files and held together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import weights_sha256
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.prompts import PromptStyle, format_prompt
from code_alpaca.evaluation.compare import compare_runs
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.inference import encode_prompt
from code_alpaca.hub.cards import strip_local_paths
from code_alpaca.training.trl_keys import TRL_KEYS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_SCRATCH = "from scratch"
TRIED = (("Add 1 to x.", ""), ("Sort these:\n  numbers", "[3, 1]\n"))  # for the chat template


@dataclass(frozen=True, slots=True)
class Compared:
    """Whether the problems of a benchmark were looked for in the data that the model learned."""

    trained_on: bool  # else in other data, about which the card must say so
    missing: list[str]  # datasets of the training that were left out

    @classmethod
    def of(cls, result: dict[str, Any], training: dict[str, Any]) -> Compared:
        """Hold what an evaluation compared with against what the training recorded.

        Datasets are the same by their revisions: the commit on the Hub, or the hash of a file.
        """
        clean = result["uncontaminated"]
        whole = {"config": "default", "revision": clean.get("revision")}
        found = {_identity(source) for source in clean.get("sources") or [whole]}
        learned = {_identity(source): str(source.get("name")) for source in training["datasets"]}
        missing = [name for identity, name in learned.items() if identity not in found]
        return cls(bool(found) and found <= learned.keys(), strip_local_paths(missing))


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a card tells: every number in it comes from here."""

    training: dict[str, Any]  # the run.json of sft, without the folders of this machine
    results: dict[str, dict[str, Any]]  # the results.json of each benchmark, likewise
    comparisons: dict[str, dict[str, Any]]  # against the base model, by benchmark
    compared: dict[str, Compared]  # with the training data, by benchmark
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
        InputError: a file is missing or broken, results are of other weights or of a part of the
            benchmark, or the chat template renders another prompt than that of training.
    """
    training = _training(model_dir)
    weights = weights_sha256(str(model_dir))
    if weights is None:
        raise InputError(f"{model_dir} holds no weights (*.safetensors)")
    found, folders = {}, {}
    for path in map(_results_path, results):
        result = _results(path)
        _require_results_of(result, path, model_dir, weights)
        name = result["benchmark"] = _name_of(result["benchmark"])
        if name in found:
            raise InputError(f"{path} is a second result on {name}; leave one out")
        found[name], folders[name] = result, path.parent
    comparisons = {}
    for path in map(_results_path, base_results):
        theirs = _results(path)
        name = _name_of(theirs["benchmark"])
        if name not in folders:
            raise InputError(f"{path} is on {name}, of which `results` holds nothing")
        _require_results_of_base(theirs, found[name], path, training, base_model)
        comparisons[name] = compare_runs(folders[name], path.parent).as_dict()
    _require_chat_template(model_dir, training)
    alone = (model_dir / "adapter_model.safetensors").exists()
    return Facts(
        training=strip_local_paths(training),
        results=strip_local_paths(found),
        comparisons=comparisons,
        compared={
            name: Compared.of(result, training)
            for name, result in found.items()
            if isinstance(result.get("uncontaminated"), dict)
        },
        base_model=_base(training, base_model),
        started_from=str(training["base_model"]),
        adapter="alone" if alone else "beside" if (model_dir / "adapter").is_dir() else "",
        weights=weights,
    )


def _identity(source: dict[str, Any]) -> tuple[str, str]:
    return str(source.get("config") or "default"), str(source.get("revision"))


def _training(model_dir: Path) -> dict[str, Any]:
    training = _json(model_dir / "run.json", ("base_model", "dataset", "datasets", "config"), "sft")
    if not all(isinstance(source, dict) for source in training["datasets"]):
        raise InputError(f"{model_dir / 'run.json'} does not name its datasets; train again")
    config = training["config"]
    if not isinstance(config, dict) or config.get("prompt_style") not in get_args(PromptStyle):
        raise InputError(f"{model_dir / 'run.json'} names no prompt_style; train again")
    secret = keys_with(Role.SECRET, TRL_KEYS)
    kept = {key: value for key, value in config.items() if key not in secret}
    return {**training, "config": kept}


def _results(path: Path) -> dict[str, Any]:
    result = _json(path, ("benchmark", "config", "model", "problems"), "eval")
    if not any(key.startswith("pass@") for key in result) or not result["problems"]:
        raise InputError(f"{path} holds no pass@k; run eval again")
    if result["config"].get("limit") is not None:
        raise InputError(
            f"{path} is of the first {result['problems']} problems alone; run eval without limit"
        )
    return result


def _name_of(benchmark: object) -> str:
    """A benchmark by its name; by the name of its file, not by where it is on this machine."""
    return PurePath(str(benchmark)).name


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


def _require_results_of_base(
    theirs: dict[str, Any],
    ours: dict[str, Any],
    path: Path,
    training: dict[str, Any],
    base_model: str | None,
) -> None:
    """Refuse a comparison with anything but the base model, or with one measured otherwise."""
    model, known = theirs["model"], training["config"].get("base_sha256")
    if known and model.get("sha256"):
        same = model["sha256"] == known
    else:
        same = model.get("name") in (training["base_model"], base_model)
    if not same:
        raise InputError(
            f"{path} holds results of {model.get('name')}, and training began from "
            f"{training['base_model']}; run eval with that as --model"
        )
    for key in sorted(keys_with(Role.COMPARABLE, EvalConfig)):
        if theirs["config"].get(key) != ours["config"].get(key):
            raise InputError(
                f"{path} was measured with {key} {theirs['config'].get(key)}, the tuned model with "
                f"{ours['config'].get(key)}; run eval alike for both"
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
            rendered = encode_prompt(tokenizer, instruction, input)
        except Exception as error:  # jinja2's, or whatever the template raises
            rendered = error_message(error)
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
        raise InputError(
            f"cannot load the tokenizer of {model_dir}: {error_message(error)}"
        ) from None


def _json(path: Path, keys: Sequence[str], stage: str) -> dict[str, Any]:
    """An object with these keys and without numbers that are none."""

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"it holds {name}")

    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} ({error}); expected what {stage} writes") from None
    missing = [key for key in keys if not isinstance(found, dict) or not found.get(key)]
    if missing:
        raise InputError(f"{path} has no {missing[0]}; expected what {stage} writes")
    return found
