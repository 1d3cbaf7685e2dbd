"""A model that continues each prompt of a script with scripted tokens.

Its script is part of its config, so it is saved to and loaded from a folder like any model.
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

CERTAIN = 30.0  # logit of the scripted token


class ScriptedConfig(PretrainedConfig):
    """`script` maps the ids of a prompt, joined by spaces, to the ids that continue it."""

    model_type = "scripted"

    def __init__(self, script: dict[str, list[int]] | None = None, **other: Any) -> None:
        super().__init__(**other)
        self.script = script or {}
        self.num_hidden_layers = self.num_attention_heads = 1  # for the cache of transformers
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
            logits[row, -1, self._next_token(ids[mask.bool()].tolist())] = CERTAIN
        return CausalLMOutput(logits=logits)

    def _next_token(self, ids: list[int]) -> int:
        for length in range(len(ids), 0, -1):
            scripted = self.config.script.get(" ".join(map(str, ids[:length])))
            num_new = len(ids) - length
            if scripted is not None and scripted[:num_new] == ids[length:]:
                rest = scripted[num_new:]
                return rest[0] if rest else self.config.eos_token_id
        return self.config.eos_token_id


def save(folder: Path, tokenizer: Any, script: dict[tuple[int, ...], list[int]]) -> None:
    """Write a model folder that continues each prompt of `script` with its ids and an end token."""
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
