"""Read and validate LLaMA 1 and 2 checkpoints in Meta's format, and write them for transformers."""

from __future__ import annotations

import json
import pickle
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, ValidationError

from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from huggingface_hub import StateDictSplit

# transformers' name: (Meta's name, dimension that model parallelism shards; None: replicated)
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
ROTARY_TABLE = "rope.freqs"  # follows from rope_theta; transformers computes it
MAX_NAMES_IN_ERROR = 3


class LlamaParams(BaseModel):
    """Meta's params.json."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    dim: PositiveInt
    n_layers: PositiveInt
    n_heads: PositiveInt
    n_kv_heads: PositiveInt | None = None
    vocab_size: int = -1  # -1: as the tokenizer
    multiple_of: PositiveInt = 256
    ffn_dim_multiplier: PositiveFloat | None = None
    norm_eps: PositiveFloat = 1e-5
    rope_theta: PositiveFloat = 10_000.0
    max_batch_size: int | None = None
    max_seq_len: int | None = None

    @property
    def num_kv_heads(self) -> int:
        """Key and value heads; fewer than `n_heads` with grouped-query attention."""
        return self.n_kv_heads or self.n_heads

    @property
    def ffn_dim(self) -> int:
        """Width of the feed-forward layer: 8/3 * dim, scaled and rounded up to `multiple_of`."""
        width = int(2 * (4 * self.dim) / 3)
        if self.ffn_dim_multiplier:
            width = int(self.ffn_dim_multiplier * width)
        return -(-width // self.multiple_of) * self.multiple_of


class WeightSource(NamedTuple):
    """Where a transformers weight comes from in Meta's checkpoint."""

    name: str  # in Meta's checkpoint
    shard_dim: int | None  # shards are concatenated along it; None: replicated in every shard
    num_heads: int | None  # of a query or key projection, whose rows are permuted


def list_shards(folder: Path) -> list[Path]:
    """Return the files consolidated.NN.pth in order."""
    if not folder.is_dir():
        raise InputError(f"input_dir {folder} is not a folder; give one with Meta's LLaMA weights")
    shards = {
        int(match[1]): file
        for file in folder.iterdir()
        if (match := re.fullmatch(r"consolidated\.(\d+)\.pth", file.name))
    }
    if not shards:
        raise InputError(f"{folder} contains no consolidated.00.pth; give Meta's LLaMA weights")
    missing = [f"consolidated.{n:02}.pth" for n in range(max(shards)) if n not in shards]
    if missing:
        raise InputError(f"{folder} is missing {_list_names(missing)}; download every shard")
    return [shards[number] for number in sorted(shards)]


def read_params(path: Path, num_shards: int) -> LlamaParams:
    """Read params.json, and check its values against each other and the number of shards."""
    try:
        params = LlamaParams.model_validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(
            f"cannot read {path}: {error.strerror}; it is distributed with the weights"
        ) from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = ": ".join([*map(str, first["loc"]), first["msg"]])
        raise InputError(f"{path} is not of LLaMA 1 or 2: {reason}") from None
    if params.dim % (2 * params.n_heads) or params.n_heads % params.num_kv_heads:
        raise InputError(
            f"{path} is inconsistent: dim {params.dim}, n_heads {params.n_heads}, "
            f"n_kv_heads {params.num_kv_heads}; get the file that belongs to the weights"
        )
    for name, count in (("heads", params.n_heads), ("key and value heads", params.num_kv_heads)):
        if count % num_shards:
            raise InputError(
                f"{path.parent} has {num_shards} shards, which do not divide the {count} {name} of "
                "params.json; a shard is missing or belongs to another model"
            )
    return params


def load_shard(file: Path) -> dict[str, torch.Tensor]:
    """Memory-map the tensors of one shard (`weights_only`: pickled code is not executed)."""
    import torch

    try:
        shard: Any = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{file} contains more than tensors and was not opened, since it could run code; "
            "get the weights from their publisher"
        ) from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"cannot read {file} ({reason}); truncated? download it again and compare its size"
        ) from None
    if isinstance(shard, dict) and all(
        isinstance(name, str) and isinstance(weight, torch.Tensor) for name, weight in shard.items()
    ):
        return shard
    raise InputError(f"{file} contains no table of named tensors; expected Meta's LLaMA weights")


def map_weights(params: LlamaParams) -> dict[str, WeightSource]:
    """Return the source of every weight, by its name in transformers."""
    num_heads = {"attention.wq": params.n_heads, "attention.wk": params.num_kv_heads}
    return {
        f"{name}.weight".format(layer): WeightSource(
            f"{meta_name}.weight".format(layer),
            shard_dim,
            num_heads.get(meta_name.removeprefix("layers.{}.")),
        )
        for layer in range(params.n_layers)
        for name, (meta_name, shard_dim) in WEIGHTS.items()
    }


def check_weights(
    shards: dict[Path, dict[str, torch.Tensor]],
    sources: dict[str, WeightSource],
    expected: dict[str, torch.Tensor],
) -> None:
    """Check that the shards contain exactly the expected weights, with the expected shapes."""
    names = {source.name for source in sources.values()}
    for file, shard in shards.items():
        actual = {name for name in shard if not name.endswith(ROTARY_TABLE)}
        if missing := [source.name for source in sources.values() if source.name not in actual]:
            raise InputError(
                f"{file} is missing {_list_names(missing)}; does params.json belong to it?"
            )
        if extra := sorted(actual - names):
            raise InputError(
                f"{file} contains {_list_names(extra)}, which LLaMA 1 and 2 do not have; does "
                "params.json belong to it?"
            )
        wrong = []
        for name, source in sources.items():
            weight, expected_shape = shard[source.name], list(expected[name].shape)
            shape = list(weight.shape)
            if source.shard_dim is not None and source.shard_dim < len(shape):
                shape[source.shard_dim] *= len(shards)
            if shape != expected_shape or not weight.is_floating_point():
                dtype = str(weight.dtype).removeprefix("torch.")
                wrong.append(
                    f"{source.name} ({dtype}, {shape} over all shards, expected {expected_shape})"
                )
        if wrong:
            raise InputError(
                f"{file} has wrong shapes or dtypes: {_list_names(wrong)}; check that all shards "
                "are present and params.json belongs to them"
            )


def check_vocab_size(
    params: LlamaParams, shard: dict[str, torch.Tensor], num_pieces: int, tokenizer_file: Path
) -> None:
    """Check that the embedding has one row for each piece of the tokenizer."""
    vocab_size = params.vocab_size
    if vocab_size <= 0 and "tok_embeddings.weight" in shard:
        vocab_size = shard["tok_embeddings.weight"].shape[0]
    if vocab_size > 0 and vocab_size != num_pieces:
        raise InputError(
            f"{tokenizer_file} has {num_pieces} pieces and the model {vocab_size} embeddings; use "
            "the tokenizer that belongs to the model"
        )


def detect_context_length(shard: dict[str, torch.Tensor], params: LlamaParams) -> int:
    """Infer the context length (2048 or 4096) from where the rotary table is stored."""
    if params.rope_theta == 10_000:
        if ROTARY_TABLE in shard:
            return 4096
        if any(name.endswith(f".{ROTARY_TABLE}") for name in shard):
            return 2048
    raise InputError(
        "cannot detect LLaMA 1 or 2 from these weights; give --max_position_embeddings 2048 "
        "(LLaMA 1) or 4096 (LLaMA 2)"
    )


def write_weight_files(
    folder: Path,
    split: StateDictSplit,
    shard_files: list[Path],
    sources: dict[str, WeightSource],
    dtype: str,
) -> Iterator[str]:
    """Write the files of `split`, and their index if there are several; yield lines of progress."""
    import torch
    from safetensors.torch import save_file

    started, done_bytes = time.monotonic(), 0
    files, total_bytes = split.filename_to_tensors, split.metadata["total_size"]
    for number, (file, names) in enumerate(files.items(), 1):
        # Mapped again for each file: touched pages count as memory until the mapping is closed.
        shards = [load_shard(path) for path in shard_files]
        weights = {
            name: _merge_shards(shards, sources[name], getattr(torch, dtype)) for name in names
        }
        save_file(weights, folder / file, metadata={"format": "pt"})
        done_bytes += sum(weight.nbytes for weight in weights.values())
        del shards, weights
        seconds_left = (time.monotonic() - started) * (total_bytes / done_bytes - 1)
        yield (
            f"file {number}/{len(files)}  {format_bytes(done_bytes)} of "
            f"{format_bytes(total_bytes)}  {seconds_left:.0f} s left"
        )
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def permute_rotary_rows(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder the rows of a query or key projection for transformers' rotary embedding.

    Rotary embeddings (https://arxiv.org/abs/2104.09864) rotate pairs of rows. Within a head, Meta
    pairs adjacent rows (0 with 1), transformers pairs row i with row i + head_dim / 2. Queries and
    keys get the same permutation, so their products do not change.

    Args:
        weight: shape (num_heads * head_dim, hidden_size).
    """
    rows, columns = weight.shape
    pairs = weight.view(num_heads, rows // num_heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def _merge_shards(
    shards: list[dict[str, torch.Tensor]], source: WeightSource, dtype: torch.dtype
) -> torch.Tensor:
    import torch

    replicated = source.shard_dim is None
    pieces = [shard[source.name] for shard in (shards[:1] if replicated else shards)]
    weight = torch.empty(0, dtype=dtype)
    torch.cat(pieces, source.shard_dim or 0, out=weight)  # merges and casts without another copy
    if source.num_heads:
        weight = permute_rotary_rows(weight, source.num_heads)
    if not torch.stack(torch.aminmax(weight)).isfinite().all():
        raise InputError(
            f"weight {source.name} contains NaN or infinite values as {dtype}; try --dtype "
            "bfloat16, or check whether the checkpoint is damaged"
        )
    return weight


def format_bytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"


def _list_names(names: list[str]) -> str:
    rest = len(names) - MAX_NAMES_IN_ERROR
    return ", ".join(names[:MAX_NAMES_IN_ERROR]) + (f" and {rest} more" if rest > 0 else "")
