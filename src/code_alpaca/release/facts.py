"""Read the facts of a release from run.json and results.json, and check that they belong together.

Every number on the model card comes from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import weights_sha256
from code_alpaca.core.key_roles import Role, keys_with
from code_alpaca.core.prompts import PROMPT_STYLES, format_prompt
from code_alpaca.core.records import EvalResults, RunRecord, TrainingDataset, Uncontaminated
from code_alpaca.evaluation.compare import compare_runs
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.inference import encode_prompt
from code_alpaca.hub.cards import strip_local_paths
from code_alpaca.training.arguments import TRL_KEYS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FROM_SCRATCH = "from scratch"
# Tasks whose prompt the chat template must render as in training, without and with an input.
PROBE_TASKS = (("Add 1 to x.", ""), ("Sort these:\n  numbers", "[3, 1]\n"))


@dataclass(frozen=True, slots=True)
class ContaminationCheck:
    """What an evaluation searched for the problems of its benchmark.

    Attributes:
        is_training_data: the data is what the model was trained on.
        not_compared: datasets of the training that were not searched.
    """

    is_training_data: bool
    not_compared: list[str]


@dataclass(frozen=True, slots=True)
class ReleaseFacts:
    """What is known of a model to release, without local paths and secrets.

    Attributes:
        results: by benchmark.
        comparisons: with the base model, by benchmark.
        contamination: by benchmark, for those that searched for contamination.
        base_model: the Hub id or folder of the base model; None if trained from scratch.
        trained_from: the base model as training was given it.
        adapter: "alone" if the folder contains an adapter, "beside" if merged weights as well.
    """

    training: RunRecord
    results: dict[str, EvalResults]
    comparisons: dict[str, dict[str, Any]]
    contamination: dict[str, ContaminationCheck]
    base_model: str | None
    trained_from: str
    adapter: Literal["", "alone", "beside"]

    @property
    def prompt_style(self) -> str:
        """The prompt style of the training."""
        return self.training.config["prompt_style"]


def read_facts(
    model_dir: Path,
    results: Sequence[Path],
    base_results: Sequence[Path] = (),
    base_model: str | None = None,
) -> ReleaseFacts:
    """Read the facts of a model folder and its results.

    Args:
        results: files or output folders of eval, one per benchmark.
        base_results: those of the base model on the same benchmarks.
        base_model: the Hub id of the base model, if training read it from a folder.

    Raises:
        InputError: a file is missing or damaged; the results belong to other weights or to a part
            of a benchmark; or the chat template renders another prompt than that of training.
    """
    training = _read_training(model_dir)
    weights = weights_sha256(model_dir)
    if weights is None:
        raise InputError(f"{model_dir} contains no weights (*.safetensors); run sft first")
    measured: dict[str, EvalResults] = {}
    folders: dict[str, Path] = {}
    for path in map(_results_file, results):
        result = _read_results(path)
        if result.model.sha256 != weights:
            raise InputError(
                f"{path} does not measure the weights in {model_dir}; run eval with "
                f"--model {model_dir}"
            )
        if result.benchmark in measured:
            raise InputError(f"{path} is a second result on {result.benchmark}; leave one out")
        measured[result.benchmark], folders[result.benchmark] = result, path.parent
    comparisons = {}
    for path in map(_results_file, base_results):
        result = _read_results(path)
        name = result.benchmark
        if name not in measured:
            raise InputError(f"{path} measures {name}, and `results` does not; leave it out")
        _require_base_model(result, path, training, base_model)
        _require_same_conditions(result, measured[name], path)
        comparisons[name] = compare_runs(folders[name], path.parent).as_dict()
    _require_chat_template(model_dir, training.config["prompt_style"])
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
        adapter=_adapter(model_dir),
    )


def _read_training(model_dir: Path) -> RunRecord:
    training = RunRecord.load(model_dir / RunRecord.FILE, refuse_nan=True)
    if not (training.base_model and training.datasets):
        raise InputError(f"{model_dir / RunRecord.FILE} names no datasets; train again")
    if training.config.get("prompt_style") not in PROMPT_STYLES:
        raise InputError(f"{model_dir / RunRecord.FILE} names no prompt_style; train again")
    secret = keys_with(Role.SECRET, TRL_KEYS)
    config = {key: value for key, value in training.config.items() if key not in secret}
    return training.model_copy(update={"config": config})


def _results_file(path: Path) -> Path:
    return path / EvalResults.FILE if path.is_dir() else path


def _read_results(path: Path) -> EvalResults:
    result = EvalResults.load(path, refuse_nan=True)
    if not result.scores or not result.problems:
        raise InputError(f"{path} contains no pass@k; run eval again")
    if result.config.get("limit") is not None:
        raise InputError(
            f"{path} measures only the first {result.problems} problems; run eval without limit"
        )
    # A benchmark from a file is named after it, without the folder.
    return result.model_copy(update={"benchmark": PurePath(result.benchmark).name})


def _check_contamination(
    clean: Uncontaminated, datasets: Sequence[TrainingDataset]
) -> ContaminationCheck:
    """Compare the data that an evaluation searched with the data of the training.

    Datasets are identified by config and revision: the commit on the Hub, or the hash of a file.
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


def _adapter(model_dir: Path) -> Literal["", "alone", "beside"]:
    if (model_dir / "adapter_model.safetensors").exists():
        return "alone"
    return "beside" if (model_dir / "adapter").is_dir() else ""


def _require_base_model(
    result: EvalResults, path: Path, training: RunRecord, hub_id: str | None
) -> None:
    """Refuse results of another model than the one that training started from."""
    model, sha256 = result.model, training.config.get("base_sha256")
    if sha256 and model.sha256:
        is_base = model.sha256 == sha256
    else:
        is_base = model.name in (training.base_model, hub_id)
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
    """Refuse a chat template that renders another prompt than that of training."""
    tokenizer = _load_tokenizer(model_dir)
    if tokenizer.eos_token_id is None:
        raise InputError(
            f"the tokenizer in {model_dir} has no EOS token, so responses would not end; restore "
            "the one of sft"
        )
    if tokenizer.chat_template is None:
        raise InputError(f"{model_dir} has no chat template; restore the one of sft")
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


def _load_tokenizer(model_dir: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(model_dir)
    except Exception as error:  # transformers, tokenizers and json raise their own
        raise InputError(
            f"cannot load the tokenizer of {model_dir}: {error_message(error)}"
        ) from None
