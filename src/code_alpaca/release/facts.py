"""Read run.json and results.json of a model, and check that they belong to the same weights.

Every number on the model card comes from them.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from code_alpaca.core.console import plural
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import weights_sha256
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.prompts import CHAT, format_prompt
from code_alpaca.core.records import EvalResults, RunRecord, TrainingDataset, Uncontaminated
from code_alpaca.evaluation.compare import compare_runs
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.inference import encode_prompt
from code_alpaca.hub.cards import strip_local_paths
from code_alpaca.training.arguments import TRL_KEYS

FROM_SCRATCH = "from scratch"
# Tasks whose prompt the chat template must render as in training, without and with an input.
PROBE_TASKS = (("Add 1 to x.", ""), ("Sort these:\n  numbers", "[3, 1]\n"))


@dataclass(frozen=True, slots=True)
class ContaminationCheck:
    """The data that an evaluation searched for the problems of its benchmark."""

    is_training_data: bool  # the model was trained on all of it
    not_compared: list[str]  # datasets of the training that were not searched


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """The measurements of a model to release, without local paths and secrets."""

    training: RunRecord
    results: dict[str, EvalResults]  # by benchmark, as the next two
    comparisons: dict[str, dict[str, Any]]  # with the base model
    contamination: dict[str, ContaminationCheck]  # if the evaluation searched for it
    base_model: str | None  # Hub id or folder; None if trained from scratch
    trained_from: str  # the base model as it was passed to training
    adapter: Literal["", "alone", "beside"]  # beside: next to merged weights

    @property
    def prompt_style(self) -> str:
        return self.training.prompt_style


def read_facts(
    model_dir: Path,
    results: Sequence[Path],
    base_results: Sequence[Path] = (),
    base_model: str | None = None,
) -> ReleaseFacts:
    """Read the facts of a model folder and its results; the arguments are keys of ReleaseConfig.

    Raises:
        InputError: a file is missing or damaged; the results measure other weights or only a part
            of a benchmark; or the chat template does not render the training prompt.
    """
    training = _read_training(model_dir)
    weights = weights_sha256(model_dir)
    if weights is None:
        raise InputError(f"{model_dir} contains no weights (*.safetensors); run sft first")
    measured: dict[str, EvalResults] = {}
    folders: dict[str, Path] = {}
    for path, result in map(_read_results, results):
        if result.model.sha256 != weights:
            raise InputError(
                f"{path} does not measure the weights in {model_dir}; run eval with "
                f"--model {shlex.quote(str(model_dir))}"
            )
        if result.benchmark in measured:
            raise InputError(f"{path} is a second result on {result.benchmark}; leave one out")
        measured[result.benchmark], folders[result.benchmark] = result, path.parent
    comparisons = {}
    for path, result in map(_read_results, base_results):
        name = result.benchmark
        if name not in measured:
            raise InputError(f"{path} measures {name}, and `results` does not; leave it out")
        _require_base_model(result, path, training, base_model)
        _require_same_conditions(result, measured[name], path)
        comparisons[name] = compare_runs(folders[name], path.parent).as_dict()
    _require_chat_template(model_dir, training.prompt_style)
    adapter: Literal["", "alone", "beside"] = "beside" if (model_dir / "adapter").is_dir() else ""
    if (model_dir / "adapter_model.safetensors").exists():
        adapter = "alone"
    return ReleaseFacts(
        training=RunRecord.parse(strip_local_paths(training.as_dict()), RunRecord.FILE),
        results={
            name: EvalResults.parse(strip_local_paths(result.as_dict()), EvalResults.FILE)
            for name, result in measured.items()
        },
        comparisons=comparisons,
        contamination={
            name: _check_contamination(result.uncontaminated, training.datasets)
            for name, result in measured.items()
            if result.uncontaminated
        },
        base_model=_base_model(training, base_model),
        trained_from=str(training.base_model),
        adapter=adapter,
    )


def _read_training(model_dir: Path) -> RunRecord:
    training = RunRecord.load(model_dir / RunRecord.FILE, refuse_nan=True)
    if not (training.base_model and training.datasets):
        raise InputError(f"{model_dir / RunRecord.FILE} names no datasets; train again")
    if training.prompt_style is None:
        raise InputError(f"{model_dir / RunRecord.FILE} names no prompt_style; train again")
    secret = keys_with(Role.SECRET, TRL_KEYS)
    config = {key: value for key, value in training.config.items() if key not in secret}
    return training.model_copy(update={"config": config})


def _read_results(path: Path) -> tuple[Path, EvalResults]:
    """Return the path of a results file, which may be given by its folder, and its content."""
    path = path / EvalResults.FILE if path.is_dir() else path
    result = EvalResults.load(path, refuse_nan=True)
    if not result.scores or not result.problems:
        raise InputError(f"{path} contains no pass@k; run eval again")
    if result.config.get("limit") is not None:
        raise InputError(
            f"{path} measures only the first {plural(result.problems, 'problem')}; run eval "
            "without limit"
        )
    # A benchmark from a file is named after it, without the folder.
    return path, result.model_copy(update={"benchmark": PurePath(result.benchmark).name})


def _check_contamination(
    clean: Uncontaminated, datasets: Sequence[TrainingDataset]
) -> ContaminationCheck:
    """Compare the data that an evaluation searched with the training data.

    A dataset is identified by its config and its revision: a commit on the Hub or a file's hash.
    """
    searched = {(source.config, source.revision) for source in clean.sources}
    searched = searched or {("default", clean.revision)}  # older results name one dataset
    trained = {(source.config, source.revision): source.name for source in datasets}
    not_compared = [name for key, name in trained.items() if key not in searched]
    return ContaminationCheck(searched <= trained.keys(), strip_local_paths(not_compared))


def _base_model(training: RunRecord, hub_id: str | None) -> str | None:
    if training.base_model == FROM_SCRATCH:
        if hub_id:
            raise InputError(
                f"base_model {hub_id}: this model was trained from scratch; leave base_model out"
            )
        return None
    return hub_id or training.base_model


def _require_base_model(
    result: EvalResults, path: Path, training: RunRecord, hub_id: str | None
) -> None:
    """Refuse results of another model than the one that training started from."""
    model, sha256 = result.model, training.config.get("base_sha256")
    is_base = model.name in (training.base_model, hub_id)
    if sha256 and model.sha256:
        is_base = model.sha256 == sha256
    if not is_base:
        raise InputError(
            f"{path} measures {model.name}, and training started from {training.base_model}; run "
            "eval with that as --model"
        )


def _require_same_conditions(base: EvalResults, tuned: EvalResults, path: Path) -> None:
    for key in sorted(keys_with(Role.COMPARABLE, EvalConfig)):
        if base.config.get(key) != tuned.config.get(key):
            raise InputError(
                f"{path} was measured with {key} {base.config.get(key)}, the fine-tuned model with "
                f"{tuned.config.get(key)}; run eval with the same {key} for both"
            )


def _require_chat_template(model_dir: Path, style: str) -> None:
    """Refuse a chat template that is missing or does not render the training prompt."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # transformers, tokenizers and json raise their own
        message = f"cannot load the tokenizer of {model_dir}: {error_message(error)}"
        raise InputError(message) from None
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer in {model_dir} has no EOS token, so responses would not end; restore "
            "the one of sft"
        )
    if tokenizer.chat_template is None:
        raise InputError(f"{model_dir} has no chat template; restore the one of sft")
    if style == CHAT:  # the template itself is the training prompt
        return
    for instruction, input in PROBE_TASKS:
        expected = tokenizer(format_prompt(instruction, input, style=style))["input_ids"]
        try:
            actual = encode_prompt(tokenizer, instruction, input)
        except Exception as error:  # any of the template
            actual = error_message(error)
        if actual != expected:
            raise InputError(
                f"the chat template in {model_dir} does not render the training prompt ({style}); "
                "restore the chat_template.jinja that sft wrote"
            )
