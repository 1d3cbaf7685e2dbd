"""Accept the old spellings of config keys and values, with one warning line each.

A config class lists what was renamed:

    class GenerateConfig(StageConfig):
        OLD_SPELLINGS = OldSpellings(keys={"old": "new"}, values={"strategy": {"old": "new"}})
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from code_alpaca.core import console
from code_alpaca.core.errors import InputError


@dataclass(frozen=True, slots=True)
class OldSpellings:
    """Renamed keys (old -> new) and, by the key's new name, renamed values (old -> new)."""

    keys: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def update(self, config: Mapping[str, Any], *, warn: bool = True) -> dict[str, Any]:
        """Return a config with today's names; refuse a key that is given under both names.

        Each old name is a warning, unless a run recorded the config.
        """
        updated: dict[str, Any] = {}
        for given, value in config.items():
            key = self.keys.get(given, given)
            if key in updated or (key != given and key in config):
                raise InputError(f"{given!r} is the old name of {key!r}; give one of them")
            if key != given and warn:
                _warn(f"key {given}", key)
            for old, new in self.values.get(key, {}).items():
                renamed = _rename(value, old, new)
                if renamed != value and warn:
                    _warn(f"{key}: {old}", new)
                value = renamed
            updated[key] = value
        return updated

    def update_arguments(self, argv: Sequence[str], *, warn: bool = True) -> list[str]:
        """Return a command line (`--key value` or `--key=value`) with today's names.

        A key that is given under both names is refused, as in `update`.
        """
        words, option = [], ""
        given = {word.removeprefix("--").partition("=")[0]: "" for word in argv if word[:2] == "--"}
        self.update(given, warn=False)
        for word in argv:
            if word.startswith("--"):
                option, sign, value = word.removeprefix("--").partition("=")
                ((option, value),) = self.update({option: value}, warn=warn).items()
                words.append(f"--{option}{sign}{value}")
            else:
                words += self.update({option: word}, warn=warn).values()
                option = ""
        return words


def _warn(old: str, new: str) -> None:
    console.warning(f"{old} is now called {new}; the old name still works, but change it")


def _rename(value: Any, old: str, new: str) -> Any:
    """Rename a word: alone, in a list, as a key, or in a mix such as `a=3,b=1`."""
    if isinstance(value, str):
        parts = (part.partition("=") for part in value.split(","))
        return ",".join(
            f"{name.replace(old, new) if name.strip() == old else name}{sign}{weight}"
            for name, sign, weight in parts
        )
    if isinstance(value, list):
        return [_rename(item, old, new) for item in value]
    if isinstance(value, dict):
        return {new if key == old else key: item for key, item in value.items()}
    return value
