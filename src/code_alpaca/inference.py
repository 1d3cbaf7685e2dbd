"""Ask a model that learned Alpaca prompts, in one call."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.errors import InputError, one_line
from code_alpaca.formatting import format_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextGenerationPipeline


def generate(
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
    the Alpaca prompt.

    Args:
        model: a folder or Hub id, which is loaded once; or a pipeline of transformers.
        revision: tag, branch or commit of a Hub id.
        max_new_tokens: where an answer ends that does not end by itself.
        temperature: 0 always takes the likeliest token.

    Raises:
        InputError: there is no such model, or the prompt is longer than it can read.
    """
    import torch

    if isinstance(model, str | Path):
        network, tokenizer = _load(str(model), revision, _written(Path(model)))
    else:
        network, tokenizer = model.model, model.tokenizer
    ids = prompt_ids(tokenizer, instruction, input)
    window = getattr(network.config, "max_position_embeddings", None)
    if window and len(ids) >= window:
        raise InputError(
            f"that is {len(ids):,} tokens with the prompt around it; this model reads "
            f"{window:,} at most, its answer included"
        )
    room = window - len(ids) if window else max_new_tokens
    inputs = torch.tensor([ids], device=network.device)
    sampling = {"temperature": temperature} if temperature else {}
    with torch.inference_mode():
        written = network.generate(
            inputs,
            attention_mask=torch.ones_like(inputs),
            max_new_tokens=min(max_new_tokens, room),
            do_sample=bool(sampling),
            pad_token_id=tokenizer.pad_token_id,
            **sampling,
        )
    return tokenizer.decode(
        written[0, len(ids) :], skip_special_tokens=True, clean_up_tokenization_spaces=False
    )


def prompt_ids(tokenizer: PreTrainedTokenizerBase, instruction: str, input: str = "") -> list[int]:
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
def _load(
    name: str, revision: str | None, written: float
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import find_adapter_config_file

    if revision and Path(name).is_dir():
        raise InputError(f"{name} is a folder, which has no revision {revision}; leave it out")
    kind = AutoModelForCausalLM
    try:
        if find_adapter_config_file(name, revision=revision):
            # Which knows that a revision of the adapter is none of its base.
            from peft import AutoPeftModelForCausalLM as kind
        tokenizer = AutoTokenizer.from_pretrained(name, revision=revision)
        model = kind.from_pretrained(name, revision=revision, dtype="auto")
    except Exception as error:  # transformers, safetensors and tokenizers each have their own
        raise InputError(f"cannot load the model {name}: {one_line(error)}") from None
    return model.to("cuda" if torch.cuda.is_available() else "cpu").eval(), tokenizer
