"""Turn LLaMA 1 or 2 weights as Meta ships them into a model folder that transformers loads.

    code-alpaca convert-llama --input_dir llama-2-7b --output_dir models/llama-2-7b

The input folder holds params.json and consolidated.00.pth, 01 and so on; tokenizer.model lies
in it or in the folder above. Weights are renamed, joined, reordered and cast, nothing else. One
output file is in memory at a time (max_shard_size), and the input pages it was made from, which
the system can take back. The output folder appears when everything is in it.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from code_alpaca.config import StageConfig
from code_alpaca.errors import InputError
from code_alpaca.training import llama_tokenizer

if TYPE_CHECKING:
    import torch
    from huggingface_hub import StateDictSplit
    from rich.console import Console
    from sentencepiece import SentencePieceProcessor
    from transformers import LlamaConfig

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
SMALL_FILES = 10_000_000  # bytes, with room to spare: tokenizer, configs, index
NAMED = 3  # so many weights are named in an error; the rest are counted


class Config(StageConfig):
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


def run(config: Config) -> None:
    """Convert, or with `dry_run` only check and tell.

    Raises:
        InputError: something is missing, damaged, of another model, or does not fit on the disk.
    """
    from rich.console import Console

    _check_output(config.output_dir)
    files = _shard_files(config.input_dir)
    params = _read_params(config.input_dir / "params.json", len(files))
    tokenizer_file = _find_tokenizer(config)
    pieces = llama_tokenizer.read_model(tokenizer_file)
    shards = [_load(file) for file in files]
    model = transformers_config(
        params,
        vocab_size=_vocab_size(params, shards[0], pieces.get_piece_size(), tokenizer_file),
        max_position_embeddings=config.max_position_embeddings
        or _told_positions(shards[0], params),
        bos_token_id=pieces.bos_id(),
        eos_token_id=pieces.eos_id(),
        dtype=config.dtype,
    )
    sources, empty = _sources(params), _empty_weights(model)
    _check_weights(shards, files, sources, empty)
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
    with _whole_or_nothing(config.output_dir.resolve()) as folder:
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


@contextmanager
def _whole_or_nothing(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name at the end, or vanishes with an error."""
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
    part.mkdir(parents=True)
    try:
        yield part
        os.rename(part, target)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


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
        shards = [_load(path) for path in files]
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
    whole = torch.empty(0, dtype=dtype)
    torch.cat(pieces, source.dim or 0, out=whole)  # joins and casts without a copy in between
    if source.heads:
        whole = halves(whole, source.heads)
    if not torch.stack(torch.aminmax(whole)).isfinite().all():
        raise InputError(
            f"weight {source.name} holds values that are not finite as {dtype}; "
            "try --dtype bfloat16, or the checkpoint is damaged"
        )
    return whole


def _sources(params: Params) -> dict[str, Source]:
    """Every weight of the model in transformers' naming, and where it comes from."""
    heads = {"attention.wq": params.n_heads, "attention.wk": params.kv_heads}
    return {
        f"{ours}.weight".format(layer): Source(
            f"{theirs}.weight".format(layer), dim, heads.get(theirs.removeprefix("layers.{}."))
        )
        for layer in range(params.n_layers)
        for ours, (theirs, dim) in WEIGHTS.items()
    }


def _empty_weights(model: LlamaConfig) -> dict[str, torch.Tensor]:
    """The weights that transformers expects: shapes and dtypes without memory."""
    import torch
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(model).to(model.dtype).state_dict()


def _check_weights(
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


def _plan(empty: dict[str, torch.Tensor], max_shard_size: str) -> StateDictSplit:
    from huggingface_hub import split_torch_state_dict_into_shards

    try:
        return split_torch_state_dict_into_shards(empty, max_shard_size=max_shard_size)
    except ValueError:
        raise InputError(
            f"bad value for 'max_shard_size': {max_shard_size!r}; write it like 5GB or 500MB"
        ) from None


def _load(file: Path) -> dict[str, torch.Tensor]:
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


def _shard_files(folder: Path) -> list[Path]:
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


def _read_params(path: Path, shards: int) -> Params:
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


def _find_tokenizer(config: Config) -> Path:
    if config.tokenizer:
        return config.tokenizer
    for folder in (config.input_dir, config.input_dir.resolve().parent):
        if (file := folder / "tokenizer.model").is_file():
            return file
    raise InputError(
        f"no tokenizer.model in {config.input_dir} or the folder above it; give --tokenizer FILE"
    )


def _vocab_size(params: Params, shard: dict[str, Any], pieces: int, tokenizer: Path) -> int:
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


def _told_positions(shard: dict[str, Any], params: Params) -> int:
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


def _named(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
