"""Recipes and accelerate configs are found by path or by their shipped name."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.documents import ROOT
from support.tiny_sft import RECIPE

from code_alpaca.core.errors import InputError
from code_alpaca.core.shipped import find_accelerate_config, find_recipe

CPU = "accelerate_configs/cpu.yaml"


def test_an_accelerate_config_is_found_by_name_or_path(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert find_accelerate_config("cpu") == Path(CPU)
    monkeypatch.chdir(tmp_path)  # outside the clone
    for name in ("cpu", "cpu.yaml", CPU, str(ROOT / CPU)):
        assert find_accelerate_config(name).read_bytes() == (ROOT / CPU).read_bytes()
    with pytest.raises(InputError, match=r"no accelerate config 'gpu'.*cpu"):
        find_accelerate_config("gpu")


def test_a_recipe_is_found_by_name_or_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("smoke/sft/config_cpu", "recipes/smoke/sft/config_cpu.yaml", str(RECIPE)):
        assert find_recipe(name).read_bytes() == RECIPE.read_bytes()
    Path("smoke/sft").mkdir(parents=True)
    Path("smoke/sft/config_cpu").write_text("mine: true")  # a local file takes precedence
    assert find_recipe("smoke/sft/config_cpu").read_text() == "mine: true"
    with pytest.raises(InputError, match="did you mean 'smoke/sft/config_cpu'"):
        find_recipe("smoke/sft/config_gpu")
    with pytest.raises(InputError, match="cannot read config"):
        find_recipe("../recipes/../smoke")


@pytest.mark.parametrize("model", ["llama-7b", "llama-13b"])
def test_the_old_name_of_a_recipe_is_accepted_with_a_warning(model, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    for name in (f"{model}/sft/config_seed", f"recipes/{model}/sft/config_seed.yaml"):
        assert find_recipe(name) == find_recipe(f"{model}/sft/config_alpaca_2023")
        output = capsys.readouterr().out
        assert output.count("is now called") == 1
        assert f"add --output_dir runs/{model}-seed" in output
