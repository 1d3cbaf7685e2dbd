"""Write Meta's LLaMA weights as safetensors files in transformers' naming and layout."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from code_alpaca.conversion.llama_checkpoint import WeightSource, load_shard
from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from huggingface_hub import StateDictSplit

    from code_alpaca.conversion.llama_checkpoint import Shards
    from code_alpaca.core.console import Stage


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """Which weights go into which file, and where each comes from."""

    split: StateDictSplit
    shard_files: list[Path]
    sources: dict[str, WeightSource]
    dtype: str

    @property
    def files(self) -> dict[str, list[str]]:
        """The names of the weights in each output file."""
        return self.split.filename_to_tensors

    @property
    def total_bytes(self) -> int:
        return int(self.split.metadata["total_size"])


def plan_weight_files(
    expected: dict[str, torch.Tensor],
    shard_files: list[Path],
    sources: dict[str, WeightSource],
    dtype: str,
    max_shard_size: str,
) -> WeightPlan:
    """Split the weights over files of at most `max_shard_size`.

    Raises:
        InputError: `max_shard_size` is not a size.
    """
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        split = split_torch_state_dict_into_shards(expected, max_shard_size=max_shard_size)
    except ValueError:
        raise InputError(
            f"bad value for 'max_shard_size': {max_shard_size!r}; write it like 5GB or 500MB"
        ) from None
    return WeightPlan(split, shard_files, sources, dtype)


def write_weight_files(folder: Path, plan: WeightPlan, out: Stage) -> None:
    """Write the safetensors files, and their index if there are several.

    Raises:
        InputError: a weight is NaN or infinite in the output dtype.
    """
    import torch
    from safetensors.torch import save_file

    started, done_bytes = time.monotonic(), 0
    for number, (file, names) in enumerate(plan.files.items(), 1):
        # Mapped again for each file: touched pages count as memory until the mapping is closed.
        shards = [load_shard(path) for path in plan.shard_files]
        dtype = getattr(torch, plan.dtype)
        weights = {name: _merge_shards(shards, plan.sources[name], dtype) for name in names}
        save_file(weights, folder / file, metadata={"format": "pt"})
        done_bytes += sum(weight.nbytes for weight in weights.values())
        del shards, weights
        seconds_left = (time.monotonic() - started) * (plan.total_bytes / done_bytes - 1)
        out.print(
            f"file {number}/{len(plan.files)}  {format_bytes(done_bytes)} of "
            f"{format_bytes(plan.total_bytes)}  {seconds_left:.0f} s left"
        )
    if plan.split.is_sharded:
        index = {"metadata": plan.split.metadata, "weight_map": plan.split.tensor_to_filename}
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


def _merge_shards(shards: Shards, source: WeightSource, dtype: torch.dtype) -> torch.Tensor:
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
