"""LLaMA 1 and 2 weights as Meta ships them: what is in them, read safely and held to account.

What is not as it should be is an InputError that names the file.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import torch

    Shards = list[dict[str, torch.Tensor]]

# transformers' name: (Meta's name, the dimension along which Meta's model parallelism cuts it)
WEIGHTS: dict[str, tuple[str, int | None]] = {
    "model.embed_tokens": ("tok_embeddings", 1),
    "model.layers.{}.self_attn.q_proj": ("layers.{}.attention.wq", 0),
    "model.layers.{}.self_attn.k_proj": ("layers.{}.attention.wk", 0),
    "model.layers.{}.self_attn.v_proj": ("layers.{}.attention.wv", 0),
    "model.layers.{}.self_attn.o_proj": ("layers.{}.attention.wo", 1),
    "model.layers.{}.mlp.gate_proj": ("layers.{}.feed_forward.w1", 0),
    "model.layers.{}.mlp.down_proj": ("layers.{}.feed_forward.w2", 1),
    "model.layers.{}.mlp.up_proj": ("layers.{}.feed_forward.w3", 0),
    "model.layers.{}.input_layernorm": ("layers.{}.attention_norm", None),
    "model.layers.{}.post_attention_layernorm": ("layers.{}.ffn_norm", None),
    "model.norm": ("norm", None),
    "lm_head": ("output", 0),
}
ROPE = "rope.freqs"  # a table that follows from rope_theta; transformers computes it
NAMED = 3  # so many weights are named in an error; the rest are counted


class Params(BaseModel):
    """Meta's params.json: the arguments its own model takes, and no others."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dim: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    n_kv_heads: PositiveInt | None = None
    vocab_size: int = -1
    multiple_of: PositiveInt = 256
    ffn_dim_multiplier: PositiveFloat | None = None
    norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10_000.0
    max_batch_size: int | None = None
    max_seq_len: int | None = None

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values; fewer than `n_heads` where queries share them."""
        return self.n_kv_heads or self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Width of the feed-forward layer: two thirds of 4 `dim`, scaled and rounded up."""
        width = int(2 * (4 * self.dim) / 3)
        if self.ffn_dim_multiplier:
            width = int(self.ffn_dim_multiplier * width)
        return -(-width // self.multiple_of) * self.multiple_of


class Source(NamedTuple):
    """Where a weight comes from."""

    name: str  # Meta's
    dim: int | None  # shards are joined along it; None: every shard holds the whole
    heads: int | None  # of a query or key projection, whose rows change places


def load(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of one shard, mapped and not read; a pickle can run nothing here."""
    import torch

    try:
        shard: Any = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{file} holds more than tensors and was not opened, since it could run code; "
            "get the weights from their publisher"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read {file} ({reason}); truncated? fetch it again and compare its size"
        ) from None
    if not isinstance(shard, dict) or not all(
        isinstance(name, str) and isinstance(weight, torch.Tensor) for name, weight in shard.items()
    ):
        raise InputError(f"{file} holds no table of named tensors; expected Meta's LLaMA weights")
    return shard


def shard_files(folder: Path) -> list[Path]:
    """consolidated.00.pth to the last one, in order."""
    if not folder.is_dir():
        raise InputError(f"no such folder: input_dir {folder}")
    found = {
        int(match[1]): file
        for file in folder.iterdir()
        if (match := re.fullmatch(r"consolidated\.(\d+)\.pth", file.name))
    }
    if not found:
        raise InputError(f"{folder} holds no consolidated.00.pth; expected Meta's LLaMA weights")
    missing = [f"consolidated.{n:02}.pth" for n in range(max(found)) if n not in found]
    if missing:
        raise InputError(f"{folder} lacks {_named(missing)}; fetch every shard")
    return [found[number] for number in sorted(found)]


def read_params(path: Path, shards: int) -> Params:
    """params.json, with numbers that fit each other and the number of shards."""
    try:
        params = Params.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; it lies with the weights"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{path} is not of LLaMA 1 or 2: {key + ': ' if key else ''}{first['msg']}"
        ) from None
    if params.dim % (2 * params.n_heads) or params.n_heads % params.kv_heads:
        raise InputError(
            f"{path} does not add up: dim {params.dim}, n_heads {params.n_heads}, "
            f"n_kv_heads {params.kv_heads}"
        )
    for what, count in (("heads", params.n_heads), ("key and value heads", params.kv_heads)):
        if count % shards:
            raise InputError(
                f"{path.parent} has {shards} shards, which do not divide the {count} {what} of "
                "params.json; a shard is missing or of another model"
            )
    return params


def sources_of(params: Params) -> dict[str, Source]:
    """Every weight of the model in transformers' naming, and where it comes from."""
    heads = {"attention.wq": params.n_heads, "attention.wk": params.kv_heads}
    return {
        f"{ours}.weight".format(layer): Source(
            f"{theirs}.weight".format(layer), dim, heads.get(theirs.removeprefix("layers.{}."))
        )
        for layer in range(params.n_layers)
        for ours, (theirs, dim) in WEIGHTS.items()
    }


def check_weights(
    shards: Shards,
    files: list[Path],
    sources: dict[str, Source],
    empty: dict[str, torch.Tensor],
) -> None:
    """Every weight there, none besides, each of the shape that the model has."""
    wanted = {source.name: (source.dim, empty[name].shape) for name, source in sources.items()}
    for file, shard in zip(files, shards, strict=True):
        found = {name for name in shard if not name.endswith(ROPE)}
        if missing := [name for name in wanted if name not in found]:
            raise InputError(f"{file} lacks {_named(missing)}; params.json is of another model?")
        if extra := sorted(found - set(wanted)):
            raise InputError(f"{file} holds {_named(extra)}, which LLaMA 1 and 2 do not have")
        wrong = []
        for name, (dim, shape) in wanted.items():
            weight = shard[name]
            whole = list(weight.shape)
            if dim is not None and dim < len(whole):
                whole[dim] *= len(files)
            if whole != list(shape) or not weight.is_floating_point():
                kind = str(weight.dtype).removeprefix("torch.")
                wrong.append(f"{name} ({kind}, {whole} over all shards, expected {list(shape)})")
        if wrong:
            raise InputError(
                f"{file} holds misshapen {_named(wrong)}: are all shards there, and params.json "
                "their own?"
            )


def vocab_size(params: Params, shard: dict[str, Any], pieces: int, tokenizer: Path) -> int:
    """Rows of the embedding; params.json says -1 where the tokenizer is to decide."""
    size = params.vocab_size
    if size <= 0 and "tok_embeddings.weight" in shard:
        size = shard["tok_embeddings.weight"].shape[0]
    if size > 0 and size != pieces:
        raise InputError(
            f"{tokenizer} has {pieces} pieces and the model {size} embeddings: the tokenizer "
            "belongs to another model"
        )
    return pieces


def told_positions(shard: dict[str, Any], params: Params) -> int:
    """The context length of the generation, by the rotary table it was published with."""
    if params.rope_theta == 10_000:
        if ROPE in shard:
            return 4096
        if any(name.endswith(f".{ROPE}") for name in shard):
            return 2048
    raise InputError(
        "cannot tell LLaMA 1 from 2 by these weights; give --max_position_embeddings 2048 "
        "(LLaMA 1) or 4096 (LLaMA 2)"
    )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
