"""Read and rewrite the headers of safetensors files.

The format: 8 bytes with the length of the header, the header in JSON, then the tensors without
gaps (https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from code_alpaca.core.errors import InputError

# Names of floating-point types in safetensors, with the integer type of the same width.
INTEGER_TYPES = {"F64": "I64", "F32": "I32", "F16": "I16", "BF16": "I16"}
MAX_HEADER_BYTES = 100_000_000  # the limit of the format


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
        width = int(INTEGER_TYPES.get(self.dtype, self.dtype)[1:])
        return np.dtype(f"<u{width // 8}")


def read_header(path: Path) -> tuple[bytes, list[TensorEntry]]:
    """Return the header of a file, and its tensors in file order."""
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
