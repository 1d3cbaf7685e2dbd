"""Turn LLaMA 1 or 2 weights as Meta ships them into a model folder that transformers loads.

    code-alpaca convert-llama --input_dir llama-2-7b --output_dir models/llama-2-7b

The input folder holds params.json and consolidated.00.pth, 01 and so on; tokenizer.model lies
in it or in the folder above. Weights are renamed, joined, reordered and cast, nothing else. One
output file is in memory at a time (max_shard_size), and the input pages it was made from, which
the system can take back. The output folder appears when everything is in it.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from code_alpaca.conversion import llama_tokenizer
from code_alpaca.conversion.llama_checkpoint import (
    Params,
    Source,
    check_weights,
    load,
    read_params,
    shard_files,
    sources_of,
    told_positions,
    vocab_size,
)
from code_alpaca.core import fs
from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from huggingface_hub import StateDictSplit
    from rich.console import Console
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaConfig

    from code_alpaca.conversion.llama_checkpoint import Shards


SMALL_FILES = 10_000_000  # bytes, with room to spare: tokenizer, configs, index


class ConvertLlamaConfig(StageConfig):
    """The keys of `code-alpaca convert-llama`.

    Without `max_position_embeddings`, the two generations are told apart by the rotary table
    that Meta left in the weights: LLaMA 1 has one in every layer (2,048 positions), LLaMA 2 one
    for the whole model (4,096). Where there is none, or another rope_theta, you have to say it.
    """

    input_dir: Path = Field(description="folder with params.json and consolidated.*.pth")
    output_dir: Path = Field(description="the model folder to write; new or empty")
    tokenizer: Path | None = Field(
        None, description="tokenizer.model; none: in input_dir or the folder above it"
    )
    dtype: Literal["float16", "bfloat16", "float32"] = Field(
        "float16", description="of the weights written: float16, bfloat16 or float32"
    )
    max_shard_size: str = Field("5GB", description="most that one weight file holds")
    max_position_embeddings: int | None = Field(
        None, gt=0, description="none: 2048 for LLaMA 1, 4096 for LLaMA 2"
    )
    dry_run: bool = Field(False, description="check the input, say what is there, write nothing")


def convert_llama(config: ConvertLlamaConfig) -> None:
    """Convert, or with `dry_run` only check and tell.

    Raises:
        InputError: something is missing, damaged, of another model, or does not fit on the disk.
    """
    from rich.console import Console

    _check_output(config.output_dir)
    files = shard_files(config.input_dir)
    params = read_params(config.input_dir / "params.json", len(files))
    tokenizer_file = _find_tokenizer(config)
    pieces = llama_tokenizer.read_model(tokenizer_file)
    shards = [load(file) for file in files]
    model = transformers_config(
        params,
        vocab_size=vocab_size(params, shards[0], pieces.get_piece_size(), tokenizer_file),
        max_position_embeddings=config.max_position_embeddings or told_positions(shards[0], params),
        bos_token_id=pieces.bos_id(),
        eos_token_id=pieces.eos_id(),
        dtype=config.dtype,
    )
    sources, empty = sources_of(params), _empty_weights(model)
    check_weights(shards, files, sources, empty)
    del shards  # see _write_weights
    tokenizer = llama_tokenizer.build(pieces, model.max_position_embeddings)
    llama_tokenizer.check(tokenizer, pieces)
    plan = _plan(empty, config.max_shard_size)

    size, free = plan.metadata["total_size"], _free_space(config.output_dir)
    console = Console(highlight=False, soft_wrap=True)
    console.print(
        f"convert   {config.input_dir}: {sum(weight.numel() for weight in empty.values()):,} "
        f"parameters in {params.n_layers} layers, {len(files)} shard(s), "
        f"{model.max_position_embeddings} positions"
    )
    console.print(f"convert   {tokenizer_file}: {pieces.get_piece_size():,} pieces")
    console.print(
        f"convert   {'would write' if config.dry_run else 'to'} {config.output_dir}: "
        f"{_gb(size)} as {config.dtype} in {len(plan.filename_to_tensors)} file(s), "
        f"{_gb(free)} free"
    )
    if free < size + SMALL_FILES:
        raise InputError(
            f"{config.output_dir} needs {_gb(size + SMALL_FILES)} and {_gb(free)} are free there; "
            "free some space or choose another output_dir"
        )
    if config.dry_run:
        return
    with fs.lock(config.output_dir), fs.atomic_folder(config.output_dir) as folder:
        _write_configs(folder, model)
        tokenizer.save_pretrained(folder)
        shutil.copyfile(tokenizer_file, folder / "tokenizer.model")  # llama.cpp reads this one
        _check_saved_tokenizer(folder, pieces)
        _write_weights(folder, plan, files, sources, config.dtype, console)
    console.print(f"convert   {config.output_dir} is complete")


def transformers_config(params: Params, **more: Any) -> LlamaConfig:
    """The same model in transformers' words; `more` is what params.json does not know."""
    from transformers import LlamaConfig

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        hidden_size=params.dim,
        intermediate_size=params.ffn_dim,
        num_hidden_layers=params.n_layers,
        num_attention_heads=params.n_heads,
        num_key_value_heads=params.kv_heads,
        rms_norm_eps=params.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": params.rope_theta},
        tie_word_embeddings=False,
        **more,
    )


def halves(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The rows of a query or key projection (heads * size, dim) in transformers' order.

    Both sides rotate pairs of rows (rotary embedding, https://arxiv.org/abs/2104.09864). Meta
    pairs neighbours within a head, 0 with 1; transformers pairs 0 with the first of the head's
    second half. Queries and keys move alike, so their products stay what they were.
    """
    rows, columns = weight.shape
    pairs = weight.view(heads, rows // heads // 2, 2, columns)
    return pairs.transpose(1, 2).reshape(rows, columns)


def _write_configs(folder: Path, model: LlamaConfig) -> None:
    from transformers import GenerationConfig

    model.save_pretrained(folder)
    GenerationConfig(
        bos_token_id=model.bos_token_id, eos_token_id=model.eos_token_id
    ).save_pretrained(folder)


def _check_saved_tokenizer(folder: Path, pieces: SentencePieceProcessor) -> None:
    """Once more as its users will load it: saving and loading can lose parts of a tokenizer."""
    from transformers import AutoTokenizer

    llama_tokenizer.check(AutoTokenizer.from_pretrained(folder), pieces)


def _write_weights(
    folder: Path,
    plan: StateDictSplit,
    files: list[Path],
    sources: dict[str, Source],
    dtype: str,
    console: Console,
) -> None:
    """The planned safetensors files, and their index where there are several."""
    import torch
    from safetensors.torch import save_file

    started, done = time.monotonic(), 0
    total = plan.metadata["total_size"]
    for number, (file, names) in enumerate(plan.filename_to_tensors.items(), 1):
        # Opened anew for each file: pages of a mapping count as memory until it is closed.
        shards = [load(path) for path in files]
        weights = {name: _merge(shards, sources[name], getattr(torch, dtype)) for name in names}
        save_file(weights, folder / file, metadata={"format": "pt"})
        done += sum(weight.nbytes for weight in weights.values())
        del shards, weights
        left = (time.monotonic() - started) / done * (total - done)
        console.print(
            f"convert   file {number}/{len(plan.filename_to_tensors)}  "
            f"{_gb(done)} of {_gb(total)}  {left:.0f} s left"
        )
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _merge(shards: Shards, source: Source, dtype: torch.dtype) -> torch.Tensor:
    """One whole weight, in memory of its own."""
    import torch

    pieces = [shard[source.name] for shard in (shards if source.dim is not None else shards[:1])]
    merged = torch.empty(0, dtype=dtype)
    torch.cat(pieces, source.dim or 0, out=merged)  # joins and casts without a copy in between
    if source.heads:
        merged = halves(merged, source.heads)
    if not torch.stack(torch.aminmax(merged)).isfinite().all():
        raise InputError(
            f"weight {source.name} holds values that are not finite as {dtype}; "
            "try --dtype bfloat16, or the checkpoint is damaged"
        )
    return merged


def _empty_weights(model: LlamaConfig) -> dict[str, torch.Tensor]:
    """The weights that transformers expects: shapes and dtypes without memory."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(model).to(model.dtype).state_dict()


def _plan(empty: dict[str, torch.Tensor], max_shard_size: str) -> StateDictSplit:
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        return split_torch_state_dict_into_shards(empty, max_shard_size=max_shard_size)
    except ValueError:
        raise InputError(
            f"bad value for 'max_shard_size': {max_shard_size!r}; write it like 5GB or 500MB"
        ) from None


def _find_tokenizer(config: ConvertLlamaConfig) -> Path:
    if config.tokenizer:
        return config.tokenizer
    for folder in (config.input_dir, config.input_dir.resolve().parent):
        if (file := folder / "tokenizer.model").is_file():
            return file
    raise InputError(
        f"no tokenizer.model in {config.input_dir} or the folder above it; give --tokenizer FILE"
    )


def _check_output(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"output_dir {folder} is not empty; choose another one")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"output_dir {folder} is a file; choose another one")


def _free_space(folder: Path) -> int:
    """Bytes free where `folder` will be."""
    there = folder.resolve()
    while not there.exists():
        there = there.parent
    return shutil.disk_usage(there).free


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
