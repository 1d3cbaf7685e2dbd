"""Ask a model that learned Alpaca prompts, in one call."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.prompts import format_prompt
from code_alpaca.hub.model_source import ModelSource, find_model

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextGenerationPipeline

Loaded = tuple["PreTrainedModel", "PreTrainedTokenizerBase"]


def respond(
    model: str | Path | TextGenerationPipeline,
    instruction: str,
    input: str = "",
    *,
    revision: str | None = None,
    max_new_tokens: int = 512,
    temperature: float = 0.0,
) -> str:
    """What the model answers to an instruction, with an input where the task has one.

    The prompt is the one of its training: that of its chat template, or, for a model without one,
    the Alpaca prompt. What the model's generation_config says of sampling does not apply.

    Args:
        model: a folder or Hub id, which is loaded once; or a pipeline of transformers.
        revision: tag, branch or commit of a Hub id.
        max_new_tokens: where an answer ends that does not end by itself.
        temperature: 0 always takes the likeliest token; else of the softmax that is sampled.

    Raises:
        InputError: there is no such model, or the prompt is longer than it can read.
    """
    import torch

    if isinstance(model, str | Path):
        network, tokenizer = _load(str(model), revision, _written(Path(model)))
    else:
        network, tokenizer = model.model, model.tokenizer
    ids = encode_prompt(tokenizer, instruction, input)
    window = getattr(network.config, "max_position_embeddings", None)
    if window and len(ids) >= window:
        raise InputError(
            f"that is {len(ids):,} tokens with the prompt around it; this model reads "
            f"{window:,} at most, its answer included"
        )
    room = window - len(ids) if window else max_new_tokens
    inputs = torch.tensor([ids], device=network.device)
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    with neutral_generation_config(network, tokenizer), torch.inference_mode():
        written = network.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=min(max_new_tokens, room),
            **sampling,
        )
    return decode_response(tokenizer, written[0, len(ids) :].tolist())


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of `ids`, without special tokens and with every space as it is."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """The text of an answer to an instruction, as training tokenizes it: apart from its prompt.

    A LLaMA tokenizer marks the first word of a text with a space, and decoding removes one. The
    later of them add no mark to a text that begins with a space, and still remove it: an answer
    that begins with an indented line needs it back.
    """
    text = decode(tokenizer, ids)
    if not text.startswith(" "):
        return text
    probe = "  a"
    known = tokenizer(probe, add_special_tokens=False)["input_ids"]
    return text if decode(tokenizer, known) == probe else " " + text


def decode_continuation(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], ids: Sequence[int]
) -> str:
    """The text that `ids` add to the text of a prompt.

    Decoded alone, the first token of a LLaMA tokenizer loses its space: an indented line that
    continues a prompt is then indented by one less.
    """
    prompt, text = decode(tokenizer, prompt_ids), decode(tokenizer, [*prompt_ids, *ids])
    if text.startswith(prompt):
        return text[len(prompt) :]
    # The prompt ended within a character, which only the answer completes.
    stable = prompt.rstrip("\N{REPLACEMENT CHARACTER}")
    return text[len(stable) :] if text.startswith(stable) else decode(tokenizer, ids)


@contextmanager
def neutral_generation_config(
    network: Any, tokenizer: PreTrainedTokenizerBase
) -> Iterator[list[int]]:
    """Let `network.generate` do what it is asked and nothing else; gives the ids that end a text.

    `generate` fills in what a call leaves open from the model's generation_config: penalties,
    beams, forced or banned tokens. Only the end and padding tokens of it are used here.
    """
    from transformers import GenerationConfig

    before = network.generation_config
    known = getattr(before, "eos_token_id", None)
    ends = {*(known if isinstance(known, list) else [known]), tokenizer.eos_token_id} - {None}
    padding = [tokenizer.pad_token_id, getattr(before, "pad_token_id", None), *sorted(ends), 0]
    network.generation_config = GenerationConfig(
        eos_token_id=sorted(ends) or None,
        pad_token_id=next(each for each in padding if each is not None),
        bos_token_id=tokenizer.bos_token_id,
    )
    try:
        yield sorted(ends)
    finally:
        network.generation_config = before


def encode_prompt(
    tokenizer: PreTrainedTokenizerBase, instruction: str, input: str = ""
) -> list[int]:
    """The tokens of the prompt, the very ones of training.

    Raises:
        InputError: there is an input, which the chat template has no place for.
    """
    if tokenizer.chat_template is None:
        return tokenizer(format_prompt(instruction, input))["input_ids"]
    messages = [{"role": "user", "content": instruction}]

    def rendered(input: str) -> list[int]:
        return tokenizer.apply_chat_template(
            messages, input=input, add_generation_prompt=True, return_dict=False
        )

    ids = rendered(input)
    if input and ids == rendered(""):
        raise InputError(
            "the chat template of this model has no place for an input; put it into the instruction"
        )
    return ids


def _written(folder: Path) -> float:
    """When the files of a model were written: one that is trained again is loaded again."""
    return max((path.stat().st_mtime for path in folder.glob("*")), default=0.0)


@lru_cache(maxsize=1)
def _load(name: str, revision: str | None, written: float) -> Loaded:
    return load_model(find_model(name, revision), dtype="auto")


def load_model(source: ModelSource, *, dtype: str) -> Loaded:
    """The model and its tokenizer, on the GPU if there is one.

    Args:
        dtype: of the weights; auto: as they are stored.

    Raises:
        InputError: they cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = any(source.folder.glob("tokenizer*"))
    base = source.base or source
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source.folder if own else base.folder, padding_side="left"
        )
        model = AutoModelForCausalLM.from_pretrained(base.folder, dtype=dtype)
        if source.base:
            from peft import PeftModel

            if own and len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
                model.resize_token_embeddings(len(tokenizer))
            model = PeftModel.from_pretrained(model, source.folder)
        return model.to(device).eval(), tokenizer
    except Exception as error:  # transformers, safetensors and tokenizers each have their own
        raise InputError(f"cannot load model {source.name}: {error_message(error)}") from None
