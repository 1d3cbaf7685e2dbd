"""Convert Meta's LLaMA 1 or 2 weights to a model folder that transformers loads.

    code-alpaca convert-llama --input_dir llama-2-7b --output_dir models/llama-2-7b

The input folder contains params.json and the shards consolidated.00.pth, consolidated.01.pth and
so on; tokenizer.model is in it or in its parent. Weights are merged across shards, permuted for
transformers' rotary embedding and cast; the tokenizer is compared with SentencePiece; the output
folder is written atomically. Unlike the script in transformers' repository, which loads all
shards, this needs memory for one output file (`max_shard_size`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from code_alpaca.conversion import llama_checkpoint, llama_tokenizer
from code_alpaca.conversion.llama_checkpoint import format_bytes, write_weight_files
from code_alpaca.core import console, fs
from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from huggingface_hub import StateDictSplit
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaConfig, PreTrainedTokenizerFast

SMALL_FILES_BYTES = 10_000_000  # upper bound for tokenizer, configs and index


class ConvertLlamaConfig(StageConfig):
    """The keys of `code-alpaca convert-llama`.

    Without `max_position_embeddings`, the context length is detected from the rotary table in the
    weights: LLaMA 1 has one in each layer (2,048 positions), LLaMA 2 one for the model (4,096).
    Weights without such a table, or with another rope_theta, need the key.
    """

    input_dir: Path = Field(description="folder with params.json and consolidated.*.pth")
    output_dir: Path = Field(description="model folder to write; new or empty")
    tokenizer: Path | None = Field(
        None, description="tokenizer.model; unset: in input_dir or its parent"
    )
    dtype: Literal["float16", "bfloat16", "float32"] = Field(
        "float16", description="dtype of the written weights: float16, bfloat16 or float32"
    )
    max_shard_size: str = Field("5GB", description="maximum size of one weight file")
    max_position_embeddings: int | None = Field(
        None, gt=0, description="context length; unset: 2048 for LLaMA 1, 4096 for LLaMA 2"
    )
    dry_run: bool = Field(False, description="check the input and report it; write nothing")


def convert_llama(config: ConvertLlamaConfig) -> None:
    """Convert a checkpoint; with `dry_run`, only check it and report."""
    out = console.stage("convert")
    if config.output_dir.is_dir() and any(config.output_dir.iterdir()):
        raise InputError(f"output_dir {config.output_dir} is not empty; choose another folder")
    if config.output_dir.exists() and not config.output_dir.is_dir():
        raise InputError(f"output_dir {config.output_dir} is a file; choose a folder")
    files = llama_checkpoint.list_shards(config.input_dir)
    params = llama_checkpoint.read_params(config.input_dir / "params.json", len(files))
    tokenizer_file = _find_tokenizer(config)
    sentencepiece = llama_tokenizer.load_sentencepiece(tokenizer_file)
    num_pieces = sentencepiece.get_piece_size()
    shards = {file: llama_checkpoint.load_shard(file) for file in files}
    llama_checkpoint.check_vocab_size(params, shards[files[0]], num_pieces, tokenizer_file)
    model_config = _build_model_config(config, params, shards[files[0]], sentencepiece)
    sources, expected = llama_checkpoint.map_weights(params), _expected_weights(model_config)
    llama_checkpoint.check_weights(shards, sources, expected)
    del shards  # write_weight_files maps them again
    tokenizer = llama_tokenizer.build_tokenizer(sentencepiece, model_config.max_position_embeddings)
    llama_tokenizer.check_tokenizer(tokenizer, sentencepiece)
    split = _split_weights(expected, config.max_shard_size)

    num_parameters = sum(weight.numel() for weight in expected.values())
    out.print(
        f"{config.input_dir}: {num_parameters:,} parameters in {params.n_layers} layers, "
        f"{console.plural(len(files), 'shard')}, {model_config.max_position_embeddings} positions"
    )
    out.print(f"{tokenizer_file}: {num_pieces:,} pieces")
    _report_output(out, config, split)
    if config.dry_run:
        return
    with fs.lock(config.output_dir), fs.atomic_folder(config.output_dir) as folder:
        shutil.copyfile(tokenizer_file, folder / "tokenizer.model")  # llama.cpp reads this one
        _save_configs_and_tokenizer(folder, model_config, tokenizer, sentencepiece)
        for line in write_weight_files(folder, split, files, sources, config.dtype):
            out.print(line)
    out.print(f"{config.output_dir} is complete")


def _find_tokenizer(config: ConvertLlamaConfig) -> Path:
    if config.tokenizer:
        return config.tokenizer
    for folder in (config.input_dir, config.input_dir.resolve().parent):
        if (file := folder / "tokenizer.model").is_file():
            return file
    raise InputError(
        f"no tokenizer.model in {config.input_dir} or its parent; give --tokenizer FILE"
    )


def _build_model_config(
    config: ConvertLlamaConfig,
    params: llama_checkpoint.LlamaParams,
    shard: dict[str, torch.Tensor],
    sentencepiece: SentencePieceProcessor,
) -> LlamaConfig:
    from transformers import LlamaConfig

    return LlamaConfig(
        architectures=["LlamaForCausalLM"],
        hidden_size=params.dim,
        intermediate_size=params.ffn_dim,
        num_hidden_layers=params.n_layers,
        num_attention_heads=params.n_heads,
        num_key_value_heads=params.num_kv_heads,
        rms_norm_eps=params.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": params.rope_theta},
        tie_word_embeddings=False,
        vocab_size=sentencepiece.get_piece_size(),
        max_position_embeddings=(
            config.max_position_embeddings or llama_checkpoint.detect_context_length(shard, params)
        ),
        bos_token_id=sentencepiece.bos_id(),
        eos_token_id=sentencepiece.eos_id(),
        dtype=config.dtype,
    )


def _expected_weights(model_config: LlamaConfig) -> dict[str, torch.Tensor]:
    """Return the weights of the transformers model on the meta device: shapes without memory."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(model_config).to(model_config.dtype).state_dict()


def _split_weights(expected: dict[str, torch.Tensor], max_shard_size: str) -> StateDictSplit:
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        return split_torch_state_dict_into_shards(expected, max_shard_size=max_shard_size)
    except ValueError:
        raise InputError(
            f"bad value for 'max_shard_size': {max_shard_size!r}; write it like 5GB or 500MB"
        ) from None


def _report_output(out: console.Stage, config: ConvertLlamaConfig, split: StateDictSplit) -> None:
    """Print the size of the output, and refuse a disk that is too small for it."""
    folder = config.output_dir.resolve()
    disk = next(path for path in (folder, *folder.parents) if path.exists())
    total_bytes, free_bytes = split.metadata["total_size"], shutil.disk_usage(disk).free
    out.print(
        f"{'would write' if config.dry_run else 'to'} {config.output_dir}: "
        f"{format_bytes(total_bytes)} as {config.dtype} in "
        f"{console.plural(len(split.filename_to_tensors), 'file')}, {format_bytes(free_bytes)} free"
    )
    if free_bytes < total_bytes + SMALL_FILES_BYTES:
        raise InputError(
            f"{config.output_dir} needs {format_bytes(total_bytes + SMALL_FILES_BYTES)} and its "
            f"disk has {format_bytes(free_bytes)}; free some space or choose another output_dir"
        )


def _save_configs_and_tokenizer(
    folder: Path,
    model_config: LlamaConfig,
    tokenizer: PreTrainedTokenizerFast,
    sentencepiece: SentencePieceProcessor,
) -> None:
    from transformers import AutoTokenizer, GenerationConfig

    bos, eos = model_config.bos_token_id, model_config.eos_token_id
    model_config.save_pretrained(folder)
    GenerationConfig(bos_token_id=bos, eos_token_id=eos).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    # Saving and loading can lose parts of a tokenizer.
    llama_tokenizer.check_tokenizer(AutoTokenizer.from_pretrained(folder), sentencepiece)
