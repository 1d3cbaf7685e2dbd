"""Get a model back from its released difference and the base model that it was tuned from.

Both are checked by their hashes before, and the result after: it is the tuned model, bit for bit.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from pydantic import Field
from rich.console import Console

from code_alpaca.core import fs
from code_alpaca.core.config import NonEmptyStr, StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import weights_sha256
from code_alpaca.release.weight_diff import FOLDER, add_base, folder_of, read_plan

# Of a release: what is about the difference and not about the model.
LEFT_OUT = {"README.md", "release.json", "assets", FOLDER.name, ".git", ".gitattributes", ".cache"}


class RecoverConfig(StageConfig):
    """The keys of `code-alpaca recover`."""

    diff: NonEmptyStr = Field(description="folder or Hub id of a release made with --weight_diff")
    diff_revision: NonEmptyStr | None = Field(
        None, description="tag or commit of a Hub id, e.g. v1.0.0"
    )
    base: NonEmptyStr | None = Field(
        None, description="folder or Hub id of the base model; none: the one that the release names"
    )
    base_revision: NonEmptyStr | None = Field(
        None, description="commit of its Hub id; none: the one that the release names"
    )
    output_dir: Path = Field(description="the model folder to write")


def recover_model(config: RecoverConfig) -> None:
    """Write the tuned model to `output_dir`, which is there only once it is whole and checked.

    Raises:
        InputError: there is no such difference or base, one is not what it should be, or
            `output_dir` holds something else.
    """
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(f"recover   {text}", markup=False)

    out = config.output_dir.resolve()  # "." has no name to put a folder beside
    diff = folder_of(config.diff, config.diff_revision)
    plan = read_plan(diff)
    if out.exists() and weights_sha256(str(out)) == plan["sha256"]:
        say(f"{out} holds this very model already")
        return
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise InputError(f"output_dir {out} holds something else; choose another one")
    name = config.base or plan["base"]["name"]
    revision = config.base_revision or (plan["base"]["revision"] if not config.base else None)
    base = folder_of(name, revision)
    say(f"checking the base model {name}")
    found, wanted = weights_sha256(str(base)), plan["base"]["sha256"]
    if found != wanted:
        told = f"weights of sha256 {found}" if found else "no *.safetensors"
        commit = f" at commit {plan['base']['revision']}" if plan["base"]["revision"] else ""
        raise InputError(
            f"{name} has {told}, and this difference is to {wanted}: those of "
            f"{plan['base']['name']}{commit}"
        )
    with fs.lock(out), fs.atomic_folder(out) as part:
        for path in diff.iterdir():
            if path.name not in LEFT_OUT:
                copy = shutil.copytree if path.is_dir() else shutil.copy
                copy(path, part / path.name)
        add_base(diff, plan, base, part, say)  # last: nothing that lay beside may pass for weights
        if weights_sha256(str(part)) != plan["sha256"]:
            raise InputError("the result is not the tuned model: a defect of the difference")
    say(f"{out} is the tuned model, bit for bit (sha256 {plan['sha256']})")
