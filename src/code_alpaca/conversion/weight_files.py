"""Write Meta's LLaMA weights as safetensors files in transformers' naming and layout."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.conversion.llama_checkpoint import WeightSource, load_shard
from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from huggingface_hub import StateDictSplit


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
    """Return one weight, merged across shards and cast."""
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
    """Return a size in MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
