"""A model that continues known prompts with known tokens: a perfect student, or any other.

It is loaded from a folder like every model, since its table is in its config.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationMixin,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import CausalLMOutput

CERTAIN = 30.0  # a logit


class ScriptedConfig(PretrainedConfig):
    """`script` maps the ids of a prompt, joined by spaces, to the ids that continue it."""

    model_type = "scripted"

    def __init__(self, script: dict[str, list[int]] | None = None, **other: Any) -> None:
        super().__init__(**other)
        self.script = script or {}
        self.num_hidden_layers = self.num_attention_heads = 1  # which the cache asks for
        self.hidden_size = 8


class ScriptedModel(PreTrainedModel, GenerationMixin):
    config_class = ScriptedConfig

    def __init__(self, config: ScriptedConfig) -> None:
        super().__init__(config)
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.post_init()

    def prepare_inputs_for_generation(self, input_ids: Any, **kwargs: Any) -> dict[str, Any]:
        return {"input_ids": input_ids, "attention_mask": kwargs.get("attention_mask")}

    def forward(self, input_ids: Any, attention_mask: Any = None, **_: Any) -> CausalLMOutput:
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        logits = torch.zeros(len(input_ids), 1, self.config.vocab_size)
        for row, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            seen = ids[mask.bool()].tolist()
            logits[row, -1, self._next(seen)] = CERTAIN
        return CausalLMOutput(logits=logits)

    def _next(self, seen: list[int]) -> int:
        for at in range(len(seen), 0, -1):
            following = self.config.script.get(" ".join(map(str, seen[:at])))
            if following is not None and following[: len(seen) - at] == seen[at:]:
                rest = following[len(seen) - at :]
                return rest[0] if rest else self.config.eos_token_id
        return self.config.eos_token_id


def save(folder: Path, tokenizer: Any, script: dict[tuple[int, ...], list[int]]) -> None:
    """Write a model folder that answers each prompt of `script` with its ids and an end token."""
    config = ScriptedConfig(
        {" ".join(map(str, prompt)): ids for prompt, ids in script.items()},
        vocab_size=len(tokenizer),
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    ScriptedModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


AutoConfig.register("scripted", ScriptedConfig)
AutoModelForCausalLM.register(ScriptedConfig, ScriptedModel)
