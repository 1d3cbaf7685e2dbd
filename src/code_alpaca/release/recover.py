"""Restore a fine-tuned model from its released weight difference and the base model.

The hashes of the difference, the base and the result are verified: the result is the fine-tuned
model, bit for bit.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import Field

from code_alpaca.core import console, fs
from code_alpaca.core.config import NonEmptyStr, StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.release.weight_diff import (
    DIFF_FOLDER,
    DiffBase,
    apply_weight_diff,
    find_model_folder,
    read_weight_diff,
)

# Files of a release that are not files of the model.
NOT_COPIED = {"README.md", "release.json", "assets", DIFF_FOLDER.name, ".git", ".gitattributes",
              ".cache"}  # fmt: skip


class RecoverConfig(StageConfig):
    """The keys of `code-alpaca recover`."""

    diff: NonEmptyStr = Field(description="folder or Hub id of a release made with --weight_diff")
    diff_revision: NonEmptyStr | None = Field(
        None, description="tag or commit of a Hub release, e.g. v1.0.0"
    )
    base: NonEmptyStr | None = Field(
        None, description="folder or Hub id of the base model; unset: the one in the release"
    )
    base_revision: NonEmptyStr | None = Field(
        None, description="commit of a base model on the Hub; unset: the one in the release"
    )
    output_dir: Path = Field(description="model folder to write")


def recover_model(config: RecoverConfig) -> None:
    """Write the fine-tuned model to `output_dir`, atomically and verified."""
    output = console.stage("recover")
    output_dir = config.output_dir.resolve()  # "." has no name for a temporary folder next to it
    release = find_model_folder(config.diff, config.diff_revision)
    diff = read_weight_diff(release)
    if output_dir.exists() and fs.weights_sha256(output_dir) == diff.sha256:
        output.print(f"{output_dir} already contains this model")
        return
    if output_dir.exists() and (output_dir.is_file() or any(output_dir.iterdir())):
        raise InputError(f"output_dir {output_dir} is not empty; choose another one")
    name = config.base or diff.base.name
    revision = config.base_revision or (None if config.base else diff.base.revision)
    base = find_model_folder(name, revision)
    output.print(f"checking the base model {name}")
    _verify_base(name, base, diff.base)
    with fs.lock(output_dir), fs.atomic_folder(output_dir) as folder:
        for path in release.iterdir():
            if path.name not in NOT_COPIED:
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, folder / path.name)
        # Last, so that weights next to the difference cannot replace the result.
        apply_weight_diff(release, diff, base, folder, output.print)
        if fs.weights_sha256(folder) != diff.sha256:
            raise InputError(
                "the result is not the fine-tuned model, so the difference is wrong; download it "
                "again or ask its author"
            )
    output.print(f"{output_dir} is the fine-tuned model, bit for bit (sha256 {diff.sha256})")


def _verify_base(name: str, folder: Path, expected: DiffBase) -> None:
    actual = fs.weights_sha256(folder)
    if actual != expected.sha256:
        contents = f"weights of sha256 {actual}" if actual else "no *.safetensors"
        commit = f" at commit {expected.revision}" if expected.revision else ""
        raise InputError(
            f"{name} contains {contents}, and this difference needs {expected.sha256}: the weights "
            f"of {expected.name}{commit}"
        )
