"""Compute the difference between a fine-tuned model and its base, and apply it again.

It is for base models whose license forbids redistributing the weights: only people who have the
base model can restore the fine-tuned one. Stanford Alpaca did this for LLaMA
(https://github.com/tatsu-lab/stanford_alpaca, weight_diff.py) with floating-point differences,
which are rounded. Here the bit patterns are subtracted as integers modulo 2**width, so that every
bit is restored.
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ValidationError, model_validator

from code_alpaca.core.console import Log
from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import file_sha256, weights_sha256, write_json
from code_alpaca.hub.errors import http_library
from code_alpaca.hub.model_source import refuse_wrong_path

if TYPE_CHECKING:
    import numpy as np
    import torch

DIFF_FOLDER = Path("weight_diff")  # in a release; next to config.json it would be loaded
DIFF_FILE = "weight_diff.json"
TORCH_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
TIED_WEIGHTS = {"lm_head.weight": "model.embed_tokens.weight"}
# Names of floating-point types in safetensors, with the integer type of the same width.
INTEGER_TYPES = {"F64": "I64", "F32": "I32", "F16": "I16", "BF16": "I16"}
MAX_HEADER_BYTES = 100_000_000  # the limit of the format
# The same weights in other formats: 13 GB for LLaMA 7B.
NOT_DOWNLOADED = ["*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.gguf"]


class DiffBase(BaseModel):
    """The base model of a weight difference."""

    name: str
    revision: str | None = None
    sha256: str


class DiffShard(BaseModel):
    """A shard of a weight difference: its hash, and the header of the tuned model's shard."""

    sha256: str
    header: str


class WeightDiff(BaseModel):
    """weight_diff.json: the models on both sides of a difference, and its shards."""

    format: Literal[1] = 1
    base: DiffBase
    sha256: str  # of the tuned model's weights
    shards: dict[str, DiffShard]

    @model_validator(mode="after")
    def _shards_are_safe(self) -> Self:
        for name, shard in self.shards.items():
            # A file of this name is written, so it must not lead out of the folder.
            if name != Path(name).name or not name.endswith(".safetensors"):
                raise ValueError(f"{name!r} is not the name of a shard")
            try:
                with_integer_types(shard.header.encode())
            except (InputError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"the header of {name} is broken") from error
        return self


class BaseModelName(NamedTuple):
    """The Hub id and commit of the base model, for the user who recovers the tuned one."""

    name: str
    revision: str | None = None


def write_weight_diff(
    tuned: Path, base: Path, output_dir: Path, base_name: BaseModelName, log: Log
) -> None:
    """Write the difference between two model folders into `output_dir / "weight_diff"`.

    Two tensors are in memory at a time. `weight_diff.json` is written last and marks the folder
    as complete.
    """
    folder = output_dir / DIFF_FOLDER
    folder.mkdir(parents=True)
    shards = {}
    paths = sorted(tuned.glob("*.safetensors"))
    with ExitStack() as stack:
        weights = BaseWeights(base, stack)
        for number, path in enumerate(paths, 1):
            header, entries = read_header(path)
            chunks = _combine(path, entries, weights, operator.sub)
            sha256 = _write_shard(folder / path.name, with_integer_types(header), chunks)
            shards[path.name] = DiffShard(sha256=sha256, header=header.decode())
            log(f"difference of shard {number} of {len(paths)} to {base_name.name}")
    for path in tuned.glob("*.safetensors.index.json"):
        shutil.copy2(path, folder)
    diff = WeightDiff(
        base=DiffBase(**base_name._asdict(), sha256=str(weights_sha256(base))),
        sha256=str(weights_sha256(tuned)),
        shards=shards,
    )
    write_json(folder / DIFF_FILE, diff.model_dump())


def read_weight_diff(folder: Path) -> WeightDiff:
    """Read the `weight_diff.json` of a release."""
    try:
        return WeightDiff.model_validate_json((folder / DIFF_FOLDER / DIFF_FILE).read_bytes())
    except (OSError, ValidationError):
        raise InputError(
            f"{folder} contains no weight difference that this version reads "
            f"({DIFF_FOLDER / DIFF_FILE}); use what code-alpaca release --weight_diff wrote"
        ) from None


def apply_weight_diff(
    release: Path, diff: WeightDiff, base: Path, output_dir: Path, log: Log
) -> None:
    """Write the shards of the tuned model into `output_dir`, byte for byte."""
    with ExitStack() as stack:
        weights = BaseWeights(base, stack)
        for number, (name, shard) in enumerate(diff.shards.items(), 1):
            path, header = release / DIFF_FOLDER / name, shard.header.encode()
            intact = path.is_file() and file_sha256(path) == shard.sha256
            actual, entries = read_header(path) if intact else (b"", [])
            if actual != with_integer_types(header):
                raise InputError(
                    f"{path} is missing or differs from {DIFF_FILE}; download the difference again"
                )
            types = json.loads(header)
            entries = [replace(entry, dtype=types[entry.name]["dtype"]) for entry in entries]
            _write_shard(output_dir / name, header, _combine(path, entries, weights, operator.add))
            log(f"shard {number} of {len(diff.shards)}")
    for path in (release / DIFF_FOLDER).glob("*.safetensors.index.json"):
        shutil.copy2(path, output_dir)


def find_model_folder(model: str, revision: str | None) -> Path:
    """Return the folder of a local model, or download a Hub model at a revision."""
    if Path(model).is_dir():
        return Path(model)
    refuse_wrong_path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    unreadable = (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError)
    try:
        return Path(snapshot_download(model, revision=revision, ignore_patterns=NOT_DOWNLOADED))
    except (*unreadable, http_library().HTTPError) as error:
        raise InputError(
            f"cannot load model {model}: no such folder, and none on the Hub at "
            f"{revision or 'main'} ({error_message(error)}); check the name"
        ) from None


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """A tensor in a safetensors file."""

    name: str
    dtype: str  # its name in safetensors
    shape: tuple[int, ...]
    offset: int  # of its first byte in the file

    @property
    def bits(self) -> np.dtype[Any]:
        """The unsigned integer type of the same width."""
        import numpy as np

        width = int(INTEGER_TYPES.get(self.dtype, self.dtype)[1:])
        return np.dtype(f"<u{width // 8}")


class BaseWeights:
    """The tensors of a base model, read one at a time."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        """Open the safetensors files of a folder until `stack` is closed."""
        from safetensors import SafetensorError, safe_open

        self._folder = folder
        self._shards: dict[str, Any] = {}  # by tensor
        for path in sorted(folder.glob("*.safetensors")):
            try:
                shard = stack.enter_context(safe_open(path, "pt"))
            except SafetensorError as error:
                raise InputError(
                    f"{path} of the base model is broken ({error_message(error)}); download it "
                    "again"
                ) from None
            self._shards |= dict.fromkeys(shard.keys(), shard)
        if not self._shards:
            raise InputError(f"the base model {folder} contains no *.safetensors; download it")

    def bits(self, entry: TensorEntry) -> np.ndarray:
        """Return the bits of a tensor in the type and shape of the tuned one, flattened.

        Rows that the base lacks, because the vocabulary grew, are zeros.

        Raises:
            InputError: the base has no such tensor, so the difference would disclose the tuned one.
        """
        import numpy as np
        import torch

        tensor = self._find(entry).to(getattr(torch, TORCH_TYPES[entry.dtype])).contiguous()
        integers = tensor.view(getattr(torch, f"int{8 * entry.bits.itemsize}"))
        bits = integers.numpy().view(entry.bits)
        if bits.shape != entry.shape:
            smaller, bits = bits[: entry.shape[0]], np.zeros(entry.shape, entry.bits)
            bits[: len(smaller)] = smaller
        return bits.reshape(-1)

    def _find(self, entry: TensorEntry) -> torch.Tensor:
        name = entry.name if entry.name in self._shards else TIED_WEIGHTS.get(entry.name)
        if name not in self._shards:
            raise InputError(
                f"the base model {self._folder} has no tensor {entry.name}; use the base that this "
                "model was fine-tuned from"
            )
        tensor = self._shards[name].get_tensor(name)
        if tensor.shape[1:] != entry.shape[1:] or tensor.ndim != len(entry.shape):
            raise InputError(
                f"{entry.name} has the shape {list(tensor.shape)} in the base model {self._folder} "
                f"and {list(entry.shape)} in the tuned one; use the base that it was fine-tuned "
                "from"
            )
        return tensor


def _combine(
    path: Path, entries: list[TensorEntry], base: BaseWeights, operation: Callable[[Any, Any], Any]
) -> Iterator[memoryview]:
    """Yield the tensors of a shard, plus or minus those of the base, as bytes."""
    import numpy as np

    for entry in entries:
        if count := math.prod(entry.shape):
            bits = np.memmap(path, entry.bits, "r", offset=entry.offset, shape=(count,))
            yield operation(bits, base.bits(entry)).data.cast("B")


def _write_shard(path: Path, header: bytes, chunks: Iterator[memoryview]) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for chunk in (len(header).to_bytes(8, "little"), header):
            file.write(chunk)
            digest.update(chunk)
        for tensor in chunks:
            file.write(tensor)
            digest.update(tensor)
    return digest.hexdigest()


def read_header(path: Path) -> tuple[bytes, list[TensorEntry]]:
    """Return the header of a safetensors file, and its tensors in file order.

    The format: 8 bytes with the length of the header, the header in JSON, then the tensors without
    gaps (https://github.com/huggingface/safetensors#format).
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, MAX_HEADER_BYTES))
    try:
        tensors, start = json.loads(header), 8 + length
        tensors.pop("__metadata__", None)
        entries = [
            TensorEntry(name, info["dtype"], tuple(info["shape"]), start + info["data_offsets"][0])
            for name, info in tensors.items()
        ]
        known = {*INTEGER_TYPES, *INTEGER_TYPES.values()}
        if unknown := {entry.dtype for entry in entries} - known:
            raise ValueError(unknown)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(
            f"{path} is not a safetensors file of floating-point weights; write or download it "
            "again"
        ) from None
    sizes = [entry.bits.itemsize * math.prod(entry.shape) for entry in entries]
    if path.stat().st_size != 8 + length + sum(sizes):
        raise InputError(f"{path} is truncated or broken; write or download it again")
    return header, sorted(entries, key=lambda entry: entry.offset)


def with_integer_types(header: bytes) -> bytes:
    """Return a header for the same tensors as integers, so that nothing loads them as weights."""
    values = json.loads(header)
    for name, tensor in values.items():
        if name == "__metadata__":
            continue
        if tensor["dtype"] not in INTEGER_TYPES:
            raise InputError(
                f"{name} has the type {tensor['dtype']}; weight_diff supports "
                f"{', '.join(INTEGER_TYPES)}"
            )
        tensor["dtype"] = INTEGER_TYPES[tensor["dtype"]]
    text = json.dumps(values, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)
