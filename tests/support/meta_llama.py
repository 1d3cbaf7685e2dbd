"""Build LLaMA checkpoints in Meta's format: random weights, sharded as Meta shards them.

`reference_logits` implements Meta's model from its description, with complex numbers for the
rotary embedding; it has no code in common with the converter.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sentencepiece
import torch
from torch.nn import functional

import code_alpaca

VOCAB = 600
LLAMA_1 = {"dim": 64, "n_layers": 3, "n_heads": 4, "multiple_of": 16, "norm_eps": 1e-6}
LLAMA_2 = {**LLAMA_1, "norm_eps": 1e-5, "vocab_size": -1}
GROUPED = {**LLAMA_2, "n_heads": 8, "n_kv_heads": 2, "multiple_of": 32, "ffn_dim_multiplier": 1.3}
SOURCES = Path(code_alpaca.__file__).parent
CORPUS = [
    line
    for path in (*sorted(SOURCES.glob("core/*.py")), SOURCES / "data" / "seed_tasks.jsonl")
    for line in path.read_text(encoding="utf-8").splitlines()
]
# Meta's model parallelism shards these along dimension 0 and 1 of their weights.
COLUMN_PARALLEL = ("wq", "wk", "wv", "w1", "w3", "output")
ROW_PARALLEL = ("wo", "w2", "tok_embeddings")
LLAMA_TOKENIZER = dict(
    model_type="bpe", split_digits=True, allow_whitespace_only_pieces=True,
    normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.999,
)  # fmt: skip

Weights = dict[str, torch.Tensor]


def train_sentencepiece(**options: Any) -> bytes:
    """Train a SentencePiece model on the corpus; LLAMA_TOKENIZER has the settings of LLaMA's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=VOCAB, byte_fallback=True,
        minloglevel=2, **options,
    )  # fmt: skip
    return model.getvalue()


def write_checkpoint(
    folder: Path,
    params: dict[str, Any],
    num_shards: int = 1,
    generation: int = 2,
    change: Callable[[list[Weights]], None] = lambda shards: None,
) -> Weights:
    """Write params.json and the shards, and return the weights before sharding.

    Args:
        generation: LLaMA 1 or 2, which store the rotary table in different places.
        change: modifies the shards before they are written.
    """
    folder.mkdir(parents=True)
    weights = random_weights(params)
    shards = [
        {name: shard_weight(name, weight, num_shards, index) for name, weight in weights.items()}
        for index in range(num_shards)
    ]
    table = torch.ones(params["dim"] // params["n_heads"] // 2)
    for shard in shards:
        if generation == 2:
            shard["rope.freqs"] = table
        for layer in range(params["n_layers"] if generation == 1 else 0):
            shard[f"layers.{layer}.attention.inner_attention.rope.freqs"] = table
    change(shards)
    for index, shard in enumerate(shards):
        torch.save(shard, folder / f"consolidated.{index:02}.pth")
    (folder / "params.json").write_text(json.dumps(params))
    return weights


def random_weights(params: dict[str, Any]) -> Weights:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    dim, head_dim = params["dim"], params["dim"] // params["n_heads"]
    kv_dim = head_dim * params.get("n_kv_heads", params["n_heads"])
    ffn = ffn_dim(params)
    weights = {"tok_embeddings.weight": normal(VOCAB, dim), "output.weight": normal(VOCAB, dim)}
    weights["norm.weight"] = 1 + normal(dim)
    for layer in range(params["n_layers"]):
        shapes = {
            "attention.wq": (dim, dim), "attention.wk": (kv_dim, dim),
            "attention.wv": (kv_dim, dim), "attention.wo": (dim, dim),
            "feed_forward.w1": (ffn, dim), "feed_forward.w2": (dim, ffn),
            "feed_forward.w3": (ffn, dim),
        }  # fmt: skip
        for name, shape in shapes.items():
            weights[f"layers.{layer}.{name}.weight"] = 2 * normal(*shape)
        for name in ("attention_norm", "ffn_norm"):
            weights[f"layers.{layer}.{name}.weight"] = 1 + normal(dim)
    return weights


def ffn_dim(params: dict[str, Any]) -> int:
    width = int(8 * params["dim"] / 3)
    width = int(params.get("ffn_dim_multiplier", 1) * width)
    return params["multiple_of"] * ((width + params["multiple_of"] - 1) // params["multiple_of"])


def shard_weight(name: str, weight: torch.Tensor, num_shards: int, index: int) -> torch.Tensor:
    layer = name.split(".")[-2]
    if layer in COLUMN_PARALLEL + ROW_PARALLEL:
        weight = weight.chunk(num_shards, 0 if layer in COLUMN_PARALLEL else 1)[index]
    return weight.clone()


def reference_logits(
    params: dict[str, Any], weights: Weights, tokens: torch.Tensor
) -> torch.Tensor:
    """Return the logits (batch, length, vocabulary) for token ids (batch, length)."""
    w = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
    heads, head = params["n_heads"], params["dim"] // params["n_heads"]
    kv_heads = params.get("n_kv_heads", heads)
    batch, length = tokens.shape
    angles = torch.outer(
        torch.arange(length).float(), 10_000.0 ** (-torch.arange(0, head, 2).float() / head)
    )
    turn = torch.polar(torch.ones_like(angles), angles)[None, :, None, :]

    def norm(x, name):
        return x * (x.pow(2).mean(-1, keepdim=True) + params["norm_eps"]).rsqrt() * w[name]

    def rotate(x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(3)

    h = w["tok_embeddings"][tokens]
    future = torch.full((length, length), float("-inf")).triu(1)
    for layer in range(params["n_layers"]):
        at = f"layers.{layer}."
        x = norm(h, at + "attention_norm")
        q = rotate((x @ w[at + "attention.wq"].T).view(batch, length, heads, head))
        k = rotate((x @ w[at + "attention.wk"].T).view(batch, length, kv_heads, head))
        v = (x @ w[at + "attention.wv"].T).view(batch, length, kv_heads, head)
        k, v = (y.repeat_interleave(heads // kv_heads, dim=2) for y in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / head**0.5 + future
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        h = h + mixed @ w[at + "attention.wo"].T
        x = norm(h, at + "ffn_norm")
        gate = functional.silu(x @ w[at + "feed_forward.w1"].T)
        h = h + (gate * (x @ w[at + "feed_forward.w3"].T)) @ w[at + "feed_forward.w2"].T
    return norm(h, "norm") @ w["output"].T
