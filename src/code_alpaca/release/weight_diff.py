"""The difference between a tuned model and its base, from which the very bits come back.

For bases whose licence forbids passing weights on, as Stanford Alpaca did for LLaMA
(https://github.com/tatsu-lab/stanford_alpaca, weight_diff.py): who has the base gets the tuned
model, and nobody else gets either. A difference of floating-point numbers rounds, so that theirs
comes back nearly; here the bit patterns are subtracted as integers, modulo 2**width,
which loses nothing, whatever they mean.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.fs import file_sha256, weights_sha256
from code_alpaca.hub.versions import Say

if TYPE_CHECKING:
    import torch

FOLDER = Path("weight_diff")  # of a release: not beside config.json, where it would be loaded
PLAN = "weight_diff.json"
FORMAT = 1
# Of the names that safetensors has for types: torch's, and those of the same width for bits.
TORCH = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
BITS = {"F64": "I64", "F32": "I32", "F16": "I16", "BF16": "I16"}
TIED = {"lm_head.weight": "model.embed_tokens.weight"}  # one tensor, where the base ties them
# The same weights again, as many repositories of bases have them: 13 GB for LLaMA-7B.
NOT_DOWNLOADED = ["*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack", "*.gguf"]


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor in a safetensors file."""

    name: str
    dtype: str  # as safetensors calls it
    shape: tuple[int, ...]
    start: int  # byte in the file
    bits: np.dtype[Any]  # unsigned integers of its width


class Base:
    """The tensors of the base model, read one at a time."""

    def __init__(self, folder: Path, files: ExitStack) -> None:
        """Open the safetensors of a folder until `files` is closed.

        Raises:
            InputError: there are none, or one is broken.
        """
        from safetensors import SafetensorError, safe_open

        self._folder = folder
        self._place: dict[str, Any] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                shard = files.enter_context(safe_open(path, "pt"))
            except SafetensorError as error:
                raise InputError(
                    f"{path} of the base model is damaged ({error}); download it again"
                ) from None
            self._place |= dict.fromkeys(shard.keys(), shard)
        if not self._place:
            raise InputError(f"the base model {folder} holds no *.safetensors")

    def bits(self, entry: Entry) -> np.ndarray:
        """The bits of the base's tensor in the tuned one's type and shape, flat.

        Rows that only the tuned one has, of a vocabulary that grew, are zeros.

        Raises:
            InputError: the base has no such tensor, so that the difference would hold it whole.
        """
        import torch

        tensor = self._tensor(entry)
        tensor = tensor.to(getattr(torch, TORCH[entry.dtype])).contiguous()
        width = getattr(torch, f"int{8 * entry.bits.itemsize}")
        found = tensor.view(width).numpy().view(entry.bits)
        if found.shape == entry.shape:
            return found.reshape(-1)
        grown = np.zeros(entry.shape, entry.bits)
        rows = min(len(found), len(grown))
        grown[:rows] = found[:rows]
        return grown.reshape(-1)

    def _tensor(self, entry: Entry) -> torch.Tensor:
        name = entry.name if entry.name in self._place else TIED.get(entry.name)
        if name not in self._place:
            raise InputError(
                f"the base model {self._folder} has no tensor {entry.name}; is it the base of this "
                "model?"
            )
        tensor = self._place[name].get_tensor(name)
        if tensor.shape[1:] != entry.shape[1:] or tensor.ndim != len(entry.shape):
            raise InputError(
                f"{entry.name} has the shape {list(tensor.shape)} in the base model "
                f"{self._folder} and {list(entry.shape)} in the tuned one; is it its base?"
            )
        return tensor


def write_diff(
    tuned: Path,
    base: str,
    out: Path,
    *,
    base_name: str,
    base_revision: str | None,
    say: Say = print,
) -> None:
    """Write the difference between two models into `out / "weight_diff"`.

    Holds two tensors in memory at a time. `weight_diff.json` is written last: what has it is whole.

    Args:
        base: a folder, or a Hub id, which is downloaded at `base_revision`.
        base_name: what to call the base, for whoever recovers.

    Raises:
        InputError: there is no such base, or it is not the base of this model.
    """
    folder = folder_of(base, base_revision)
    (out / FOLDER).mkdir(parents=True)
    shards: dict[str, dict[str, str]] = {}
    paths = sorted(tuned.glob("*.safetensors"))
    with ExitStack() as files:
        weights = Base(folder, files)
        for number, path in enumerate(paths, 1):
            header, entries = read_header(path)
            target = out / FOLDER / path.name
            digest = _combine(path, entries, target, _as_bits(header), weights, np.subtract)
            shards[path.name] = {"sha256": digest, "header": header.decode()}
            say(f"difference of shard {number} of {len(paths)} to {base_name}")
    for path in tuned.glob("*.safetensors.index.json"):
        shutil.copy2(path, out / FOLDER)
    plan = {
        "format": FORMAT,
        "base": {
            "name": base_name,
            "revision": base_revision,
            "sha256": weights_sha256(str(folder)),
        },
        "sha256": weights_sha256(str(tuned)),
        "shards": shards,
    }
    (out / FOLDER / PLAN).write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")


def read_plan(folder: Path) -> dict[str, Any]:
    """What `weight_diff.json` says.

    Raises:
        InputError: there is none, or it is broken.
    """
    path = folder / FOLDER / PLAN
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        known = plan["format"] == FORMAT and plan["base"]["sha256"] and plan["sha256"]
        whole = all(
            # A name is where a file will be written: none may lead out of the folder.
            name == Path(name).name and name.endswith(".safetensors")
            and shard["sha256"] and _as_bits(shard["header"].encode())
            for name, shard in plan["shards"].items()
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError):
        known = whole = False
    if not known or not whole:
        raise InputError(
            f"{folder} holds no difference of weights that this version reads ({FOLDER / PLAN}); "
            "give what code-alpaca release --weight_diff made"
        )
    return plan


def add_base(diff: Path, plan: dict[str, Any], base: Path, out: Path, say: Say = print) -> None:
    """Write into `out` the shards of the tuned model, the very bytes that they were.

    Raises:
        InputError: a shard of the difference is not what the plan says.
    """
    with ExitStack() as files:
        weights = Base(base, files)
        for number, (name, shard) in enumerate(plan["shards"].items(), 1):
            path, header = diff / FOLDER / name, shard["header"].encode()
            sound = path.is_file() and file_sha256(path) == shard["sha256"]
            found, entries = read_header(path) if sound else (b"", [])
            if found != _as_bits(header):
                raise InputError(
                    f"{path} is missing or not what {PLAN} says; download the difference again"
                )
            kinds = json.loads(header)
            entries = [_with_type(entry, kinds[entry.name]["dtype"]) for entry in entries]
            _combine(path, entries, out / name, header, weights, np.add)
            say(f"shard {number} of {len(plan['shards'])}")
    for path in (diff / FOLDER).glob("*.safetensors.index.json"):
        shutil.copy2(path, out)


def folder_of(model: str, revision: str | None) -> Path:
    """A folder with a model: itself, or what a Hub id has at a revision.

    Raises:
        InputError: neither is there.
    """
    if Path(model).is_dir():
        return Path(model)
    import httpx2
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, revision=revision, ignore_patterns=NOT_DOWNLOADED))
    except (
        HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, httpx2.HTTPError,
    ) as error:  # fmt: skip
        raise InputError(
            f"no model {model}: no such folder, and none on the Hub at {revision or 'main'} "
            f"({error_message(error)})"
        ) from None


def read_header(path: Path) -> tuple[bytes, list[Entry]]:
    """The header of a safetensors file as it stands there, and its tensors in their order.

    The format: 8 bytes with the length of the header, the header in JSON, then the tensors without
    gaps (https://github.com/huggingface/safetensors#format).

    Raises:
        InputError: it is no such file, holds a type that has no bits here, or is cut short.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(min(length, 100_000_000))  # the most that the format allows
    try:
        values = json.loads(header)
        found = [
            Entry(name, tensor["dtype"], tuple(tensor["shape"]),
                  8 + length + tensor["data_offsets"][0], _bits_of(tensor["dtype"]))
            for name, tensor in values.items()
            if name != "__metadata__"
        ]  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is no safetensors file of floating-point weights") from None
    sizes = [entry.bits.itemsize * math.prod(entry.shape) for entry in found]
    if path.stat().st_size != 8 + length + sum(sizes):
        raise InputError(f"{path} is cut short or broken; make or download it again")
    return header, sorted(found, key=lambda entry: entry.start)


def _bits_of(dtype: str) -> np.dtype[Any]:
    bits = BITS.get(dtype, dtype)
    if bits not in BITS.values():
        raise ValueError(dtype)
    return np.dtype(f"<u{int(bits[1:]) // 8}")


def _with_type(entry: Entry, dtype: str) -> Entry:
    return Entry(entry.name, dtype, entry.shape, entry.start, entry.bits)


def _as_bits(header: bytes) -> bytes:
    """A header for the same tensors as integers: nobody takes a difference for weights.

    Raises:
        InputError: a type is not floating-point.
    """
    values = json.loads(header)
    for name, tensor in values.items():
        if name == "__metadata__":
            continue
        if tensor["dtype"] not in BITS:
            raise InputError(
                f"{name} has the type {tensor['dtype']}; a difference is made of weights in "
                f"{', '.join(BITS)}"
            )
        tensor["dtype"] = BITS[tensor["dtype"]]
    made = json.dumps(values, separators=(",", ":")).encode()
    return made + b" " * (-len(made) % 8)


def _combine(
    source: Path, entries: list[Entry], target: Path, header: bytes, base: Base, how: np.ufunc
) -> str:
    """Write `source`, plus or minus the base, under `header`; return the hash of the file."""
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for piece in _pieces(source, entries, header, base, how):
            file.write(piece)
            digest.update(piece)
    return digest.hexdigest()


def _pieces(
    source: Path, entries: list[Entry], header: bytes, base: Base, how: np.ufunc
) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little")
    yield header
    for entry in entries:
        count = math.prod(entry.shape)
        if not count:
            continue
        ours = np.memmap(source, entry.bits, "r", offset=entry.start, shape=(count,))
        yield how(ours, base.bits(entry)).data.cast("B")
