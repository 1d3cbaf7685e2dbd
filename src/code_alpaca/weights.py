"""Which weights are these? One hash of a model folder, the same for training, eval and release."""

from __future__ import annotations

import hashlib
from pathlib import Path


def weights_sha256(model: str) -> str | None:
    """The hash over the safetensors files of a folder; None where there are none (a Hub id)."""
    shards = sorted(Path(model).glob("*.safetensors"))
    if not shards:
        return None
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(bytes.fromhex(file_sha256(shard)))
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
