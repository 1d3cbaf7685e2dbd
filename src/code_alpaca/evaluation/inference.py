"""Ask a model trained on Alpaca prompts a question: `code_alpaca.respond(model, instruction)`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import format_prompt, user_message
from code_alpaca.evaluation import text_generation
from code_alpaca.evaluation.text_generation import LoadedModel, decode_response
from code_alpaca.hub.model_source import ModelSource, find_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase, TextGenerationPipeline


def respond(  # six parameters: the public interface, all but two of them optional
    model: str | Path | TextGenerationPipeline,
    instruction: str,
    input: str = "",
    *,
    revision: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
) -> str:
    """Return a model's response to an instruction.

    The prompt is that of the model's training: of its chat template, or the Alpaca prompt if it
    has none. Sampling settings in the model's generation_config do not apply.

    Args:
        model: a folder or Hub id, which is loaded once; or a transformers pipeline.
        input: what the instruction is about, for tasks that have an input.
        revision: branch, tag or commit of a Hub id.
        max_new_tokens: the response is truncated after this number of tokens.
        temperature: 0 for greedy decoding; else of the softmax to sample from.

    Raises:
        InputError: there is no such model, or the prompt is longer than its context window.
    """
    with _ready_model(model, revision) as loaded:
        prompt, window = encode_prompt(loaded.tokenizer, instruction, input), loaded.window
        if window and len(prompt) >= window:
            raise InputError(
                f"the prompt has {len(prompt):,} tokens and the model's context window "
                f"{window:,}, response included; shorten the instruction or input"
            )
        if window:
            max_new_tokens = min(max_new_tokens, window - len(prompt))
        options = {"max_new_tokens": max_new_tokens, "temperature": temperature}
        (generated,) = loaded.generate([prompt], **options)
        return decode_response(loaded.tokenizer, generated.ids)


def load_model(source: ModelSource, *, dtype: str) -> LoadedModel:
    """Load a model, an adapter on its base model; dtype `auto` is that of the stored weights.

    Raises:
        InputError: the model cannot be loaded.
    """
    folder, tokenizer = (source.base or source).folder, source.tokenizer_folder
    try:
        return text_generation.load(
            folder,
            dtype=dtype,
            adapter=source.folder if source.base else None,
            tokenizer=tokenizer if tokenizer != folder else None,
        )
    except Exception as error:  # of transformers, safetensors, tokenizers or peft
        raise InputError(f"cannot load model {source.name}: {error_message(error)}") from None


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, instruction: str, input: str = ""
) -> list[int]:
    """Return the token ids of a prompt, equal to those of training.

    A chat template without a place for an input gets it in the user's message.
    """
    if tokenizer.chat_template is None:
        return tokenizer(format_prompt(instruction, input))["input_ids"]
    ids = encode_chat(tokenizer, instruction, input=input)
    if input and ids == encode_chat(tokenizer, instruction, input=""):
        return encode_chat(tokenizer, user_message(instruction, input))
    return ids


def encode_chat(tokenizer: PreTrainedTokenizerBase, message: str, **variables: Any) -> list[int]:
    """Return the token ids of a user's message; `variables` are those of the chat template."""
    chat = [{"role": "user", "content": message}]
    return tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False, **variables
    )


@contextmanager
def _ready_model(
    model: str | Path | TextGenerationPipeline, revision: str | None
) -> Iterator[LoadedModel]:
    """Yield a loaded model; a pipeline gets its own generation config back afterwards."""
    if isinstance(model, str | Path):
        # When its files were last written: a retrained model is reloaded.
        modified_at = max((path.stat().st_mtime for path in Path(model).glob("*")), default=0.0)
        yield _load_once(str(model), revision, modified_at)
        return
    network, tokenizer = model.model, model.tokenizer
    own_config = network.generation_config
    network.generation_config = text_generation.neutral_generation_config(network, tokenizer)
    try:
        yield LoadedModel(network, tokenizer)
    finally:
        network.generation_config = own_config


@lru_cache(maxsize=1)
def _load_once(name: str, revision: str | None, modified_at: float) -> LoadedModel:
    return load_model(find_model(name, revision), dtype="auto")
