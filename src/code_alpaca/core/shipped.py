"""Find a recipe or an accelerate config by its path or by its shipped name.

Both are folders at the top of the repository, where people look for them. The package links to
them, so that a wheel contains copies and every command works outside a clone.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from code_alpaca.core import console
from code_alpaca.core.errors import InputError, did_you_mean

RECIPES, ACCELERATE_CONFIGS = "recipes", "accelerate_configs"
OLD_RECIPES = {
    f"{model}/sft/config_seed": f"{model}/sft/config_alpaca_2023"
    for model in ("llama-7b", "llama-13b")
}


def find_recipe(name: str | Path) -> Path:
    """Return the file of `--config`: a path, or a shipped name such as `smoke/sft/config_cpu`."""
    if found := _find(str(name), RECIPES):
        return found
    advice = did_you_mean(str(name), list_names(RECIPES), "set a file such as my_config.yaml")
    raise InputError(
        f"cannot read config {name}: no such file, and no shipped recipe of this name; {advice}"
    )


def find_accelerate_config(name: str) -> Path:
    """Return the file of `--accelerate_config`: a path, or a shipped name such as `zero2`.

    A file of `accelerate_configs/` in the working folder takes precedence over a shipped one.
    """
    local = Path(ACCELERATE_CONFIGS, f"{name}.yaml")
    found = local if local.is_file() else _find(name, ACCELERATE_CONFIGS)
    if found is None or not found.is_file():
        raise InputError(
            f"no accelerate config {name!r}; set a file, or one of the shipped names: "
            f"{', '.join(list_names(ACCELERATE_CONFIGS))}"
        )
    return found


def list_names(kind: str) -> list[str]:
    """Return the shipped names of RECIPES or ACCELERATE_CONFIGS."""
    folder = _folder(kind)
    return sorted(
        path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml")
    )


def _find(name: str, kind: str) -> Path | None:
    try:
        if Path(name).exists():
            return Path(name)  # or a folder: reading it fails with a message
    except OSError:  # a name too long for any file
        return None
    short = name.removeprefix("./").removeprefix(f"{kind}/").removesuffix(".yaml")
    if short in OLD_RECIPES:
        old_folder = f"runs/{short.partition('/')[0]}-seed"
        console.warning(
            f"recipe {short} is now called {OLD_RECIPES[short]} and writes to another folder; to "
            f"resume a run of the old recipe, add --output_dir {old_folder}"
        )
        short = OLD_RECIPES[short]
    return _folder(kind) / f"{short}.yaml" if short in list_names(kind) else None


def _folder(kind: str) -> Path:
    return Path(str(resources.files("code_alpaca") / "shipped" / kind))
