"""Load a causal language model and generate text, for evaluation, `respond` and the demo.

This file imports nothing else of code_alpaca, because a Hugging Face Space contains it beside its
app.py. torch and transformers are imported on first use.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


class Generated(NamedTuple):
    """The new token ids of one prompt, up to its end token."""

    ids: list[int]
    ended: bool  # false: a limit or a stopping criterion ended it


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model whose generation config contains only end and padding tokens, and its tokenizer."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def end_ids(self) -> list[int]:
        """The token ids that end a text."""
        return self.model.generation_config.eos_token_id or []

    @property
    def window(self) -> int | None:
        """The number of tokens that prompt and response may have together; None: unknown."""
        return getattr(self.model.config.get_text_config(), "max_position_embeddings", None)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        max_new_tokens: int,
        temperature: float = 0.0,
        **options: Any,
    ) -> list[Generated]:
        """Continue a batch of prompts.

        Args:
            prompts: the token ids of each; shorter prompts are padded on the left.
            temperature: 0 for greedy decoding; else of the softmax to sample from.
            options: of transformers' `generate`, such as `streamer` or `stopping_criteria`.
        """
        import torch

        width, padding = max(map(len, prompts)), self.model.generation_config.pad_token_id
        ids = [[padding] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        inputs, attention_mask = torch.tensor([ids, mask], device=self.model.device)
        options |= {"attention_mask": attention_mask, "max_new_tokens": max_new_tokens}
        if temperature:
            options |= {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        else:
            options["do_sample"] = False
        with torch.inference_mode():
            output = self.model.generate(inputs, **options)
        return [self._until_end(row) for row in output[:, width:].tolist()]

    def _until_end(self, ids: list[int]) -> Generated:
        end = next((index for index, token in enumerate(ids) if token in self.end_ids), None)
        return Generated(ids[:end], end is not None)


def load(
    model: str | os.PathLike[str],
    *,
    dtype: str,
    revision: str | None = None,
    adapter: str | os.PathLike[str] | None = None,
    tokenizer: str | os.PathLike[str] | None = None,
) -> LoadedModel:
    """Load a model and its tokenizer, on the GPU if there is one.

    `model` is a folder or Hub id, `adapter` the folder of a PEFT adapter, `tokenizer` a folder if
    it is not the model's. Exceptions are those of transformers, tokenizers, safetensors and peft.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = {"revision": revision} if revision else {}
    loaded_tokenizer = AutoTokenizer.from_pretrained(
        tokenizer or model, padding_side="left", **where
    )
    network = AutoModelForCausalLM.from_pretrained(model, dtype=dtype, **where)
    if adapter:
        from peft import PeftModel

        num_embeddings = network.get_input_embeddings().weight.shape[0]
        if tokenizer and len(loaded_tokenizer) > num_embeddings:
            network.resize_token_embeddings(len(loaded_tokenizer))
        network = PeftModel.from_pretrained(network, adapter)
    rank = os.environ.get("LOCAL_RANK", "0")
    network = network.to(f"cuda:{rank}" if torch.cuda.is_available() else "cpu").eval()
    network.generation_config = neutral_generation_config(network, loaded_tokenizer)
    return LoadedModel(network, loaded_tokenizer)


def resolve_dtype(dtype: str) -> str:
    """Return the data type of the weights: for auto, bfloat16 if the GPU has it, else float32."""
    import torch

    if dtype != "auto":
        return dtype
    has_bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bfloat16" if has_bf16 else "float32"


def neutral_generation_config(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> GenerationConfig:
    """Return a generation config with the model's end and padding tokens and nothing else.

    `generate` takes penalties, beams, and forced or banned tokens from the model's own config,
    unless the call sets them. They would apply to every response.
    """
    from transformers import GenerationConfig

    own = model.generation_config
    own_end = getattr(own, "eos_token_id", None)
    own_ends = own_end if isinstance(own_end, list) else [own_end]
    end_ids = {*own_ends, tokenizer.eos_token_id} - {None}
    padding = [tokenizer.pad_token_id, getattr(own, "pad_token_id", None), *sorted(end_ids), 0]
    return GenerationConfig(
        eos_token_id=sorted(end_ids) or None,
        pad_token_id=next(token for token in padding if token is not None),
        bos_token_id=tokenizer.bos_token_id,
    )


def decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of token ids, without special tokens and with every space unchanged."""
    return tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)


def decode_response(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    """Return the text of a response, which training tokenizes separately from its prompt.

    A LLaMA tokenizer marks the first word of a text with a space, and decoding removes one. Later
    versions add no mark to a text that begins with a space but still remove one on decoding, so a
    response that begins with an indented line gets it back.
    """
    text, indented = decode(tokenizer, ids), "  a"
    if not text.startswith(" "):
        return text
    ids = tokenizer(indented, add_special_tokens=False)["input_ids"]
    return text if decode(tokenizer, ids) == indented else " " + text


def decode_continuation(
    tokenizer: PreTrainedTokenizerBase, prompt_ids: Sequence[int], ids: Sequence[int]
) -> str:
    """Return the text that `ids` add to the text of a prompt.

    Decoded without its prompt, the first token of a LLaMA tokenizer loses its space, and an
    indented line would be indented by one less.
    """
    prompt, text = decode(tokenizer, prompt_ids), decode(tokenizer, [*prompt_ids, *ids])
    if text.startswith(prompt):
        return text[len(prompt) :]
    # The prompt's last token is part of a character that the continuation completes.
    stable = prompt.rstrip("\N{REPLACEMENT CHARACTER}")
    return text[len(stable) :] if text.startswith(stable) else decode(tokenizer, ids)


def truncate_at_stop(text: str, stops: Sequence[str]) -> str:
    """Return the text before the first of the stop strings."""
    ends = [index for stop in stops if (index := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
