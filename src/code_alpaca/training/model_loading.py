"""Load the tokenizer and config of the base model, and the arguments for its weights."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import format_prompt
from code_alpaca.hub.model_source import resolve_commit
from code_alpaca.training.arguments import TrainingSetup
from code_alpaca.training.attention import select_attention
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

# Configs of the models that the recipes train, to plan them without network.
SHIPPED_CONFIGS = "data/shapes"


def pin_revision(setup: TrainingSetup) -> None:
    """Set `model_revision` to the commit that it points at now, so that the commit that is
    trained, recorded and released stays the same. A local folder has none.

    Raises:
        InputError: there is no such model. A dry run continues, since the shipped config may be
            all that it needs.
    """
    name = setup.model.model_name_or_path
    if not name:
        return
    try:
        commit = resolve_commit(name, setup.model.model_revision)
    except InputError:
        if not setup.args.dry_run:
            raise
        return
    setup.model.model_revision = commit or setup.model.model_revision


def build_from_scratch(
    setup: TrainingSetup, rows: Dataset
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Build a random model and train its tokenizer on the rows; equal on every rank."""
    args = setup.args
    shape = ScratchShape(
        args.scratch_vocab_size,
        args.scratch_hidden_size,
        args.scratch_layers,
        args.scratch_heads,
        max_length=setup.training.max_length or 0,
    )
    texts = (format_prompt(row["instruction"], row["input"]) + row["output"] for row in rows)
    return build_scratch_model(texts, shape, setup.training.seed)


def load_tokenizer(setup: TrainingSetup) -> PreTrainedTokenizerBase:
    """Load the tokenizer of the base model."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(setup.model_name, **_source(setup))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the tokenizer of {setup.model_name}: {error_message(error)}"
        ) from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # padding has no label, so no loss
    return tokenizer


def load_model_config(setup: TrainingSetup) -> PretrainedConfig:
    """Load the config of the base model; a dry run prefers the shipped one."""
    from transformers import AutoConfig

    file_name = f"{setup.model_name.replace('/', '--')}.json"
    shipped = resources.files("code_alpaca") / SHIPPED_CONFIGS / file_name
    if setup.args.dry_run and shipped.is_file():
        values = json.loads(shipped.read_text("utf-8"))
        return AutoConfig.for_model(values.pop("model_type"), **values)
    try:
        return AutoConfig.from_pretrained(setup.model_name, **_source(setup))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot load the model {setup.model_name}: {error_message(error)}"
        ) from None


def model_init_kwargs(setup: TrainingSetup, config: PretrainedConfig) -> dict[str, Any]:
    """Return the keyword arguments with which TRL loads the weights."""
    from trl import get_quantization_config

    return {
        "revision": setup.model.model_revision,
        "dtype": setup.model.dtype,
        "attn_implementation": select_attention(setup, config),
        "quantization_config": get_quantization_config(setup.model),
        **(setup.training.model_init_kwargs or {}),
    }


def _source(setup: TrainingSetup) -> dict[str, Any]:
    return {
        "revision": setup.model.model_revision,
        "trust_remote_code": setup.training.trust_remote_code,
    }
