"""Old spellings of config keys and values still work, with one warning line each."""

from __future__ import annotations

from typing import ClassVar

import pytest
from pydantic import Field

from code_alpaca.core.config import StageConfig, parse
from code_alpaca.core.errors import InputError
from code_alpaca.core.old_spellings import OldSpellings

SPELLINGS = OldSpellings(
    keys={"seed_compat_defects": "alpaca_2023_defects"},
    values={"strategy": {"seed_compat": "alpaca_2023"}, "filters": {"legacy_2023": "alpaca_2023"}},
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"strategy": "seed_compat"}, {"strategy": "alpaca_2023"}),
        ({"strategy": "evol=3, seed_compat=1"}, {"strategy": "evol=3, alpaca_2023=1"}),
        ({"strategy": {"seed_compat": 2.0}}, {"strategy": {"alpaca_2023": 2.0}}),
        ({"filters": ["empty", "legacy_2023"]}, {"filters": ["empty", "alpaca_2023"]}),
        ({"seed_compat_defects": True}, {"alpaca_2023_defects": True}),
    ],
)
def test_old_names_are_replaced_with_one_warning(given, expected, capsys):
    assert SPELLINGS.update(given) == expected
    output = capsys.readouterr().out
    assert output.startswith("warning   ") and output.count("\n") == 1
    assert "alpaca_2023" in output


@pytest.mark.parametrize(
    "config",
    [
        {"strategy": "alpaca_2023", "alpaca_2023_defects": True},
        {"strategy": "my_seed_compat.py:ask", "filters": ["seed_compat"], "seed": 0},
        {"strategy": None},
    ],
)
def test_todays_names_and_names_that_contain_an_old_one_stay(config, capsys):
    assert SPELLINGS.update(config) == config
    assert capsys.readouterr().out == ""


def test_recorded_configs_are_updated_silently(capsys):
    assert SPELLINGS.update({"strategy": "seed_compat"}, warn=False) == {"strategy": "alpaca_2023"}
    assert capsys.readouterr().out == ""


def test_both_names_of_a_key_are_refused():
    with pytest.raises(InputError, match="old name of 'alpaca_2023_defects'"):
        SPELLINGS.update({"alpaca_2023_defects": True, "seed_compat_defects": False})
    with pytest.raises(InputError, match="old name of 'alpaca_2023_defects'"):
        SPELLINGS.update({"seed_compat_defects": False, "alpaca_2023_defects": True})
    with pytest.raises(InputError, match="old name of 'alpaca_2023_defects'"):
        SPELLINGS.update_arguments(["--seed_compat_defects", "--alpaca_2023_defects=false"])


class Config(StageConfig):
    OLD_SPELLINGS: ClassVar = SPELLINGS

    strategy: str = "self_instruct"
    filters: list[str] = Field([])
    alpaca_2023_defects: bool = False


def test_a_config_takes_old_names_from_a_file_the_command_line_and_python(tmp_path, capsys):
    path = tmp_path / "old.yaml"
    path.write_text("strategy: seed_compat\nseed_compat_defects: true\n")
    expected = Config(strategy="alpaca_2023", alpaca_2023_defects=True)
    words = ["--strategy", "seed_compat", "--seed_compat_defects"]
    assert parse(Config, ["--config", str(path)]) == expected
    assert parse(Config, words) == expected
    assert parse(Config, [*words[:2], "--seed_compat_defects=true"]) == expected
    assert Config(strategy="seed_compat", seed_compat_defects=True) == expected
    assert capsys.readouterr().out.count("warning   ") == 8


def test_words_that_are_not_values_of_a_renamed_key_stay(capsys):
    words = ["seed_compat", "--seed=seed_compat", "--dry_run", "--novelty", "seed_compat", "x"]
    assert SPELLINGS.update_arguments(words) == words
    assert capsys.readouterr().out == ""


def test_an_old_name_in_the_file_and_on_the_command_line_is_one_warning(tmp_path, capsys):
    path = tmp_path / "old.yaml"
    path.write_text("seed_compat_defects: false\n")
    words = ["--config", str(path), "--seed_compat_defects"]
    assert parse(Config, words).alpaca_2023_defects
    assert capsys.readouterr().out.count("warning   ") == 1


def test_an_old_name_on_the_command_line_wins_over_the_file(tmp_path, capsys):
    path = tmp_path / "new.yaml"
    path.write_text("alpaca_2023_defects: false\n")
    assert parse(Config, ["--config", str(path), "--seed_compat_defects"]).alpaca_2023_defects
