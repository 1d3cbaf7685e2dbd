"""One config for every stage: a YAML file, then `--key value` on top, unknown keys refused.

A stage declares its keys once, as a `StageConfig`; `parse` reads them and `add_arguments`
prints them as `--help`, so the documentation cannot drift from the parser.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from code_alpaca.core import fs, shipped
from code_alpaca.core.errors import InputError
from code_alpaca.core.old_spellings import OldSpellings
from code_alpaca.core.redact import find_secret, redact

# https://semver.org, without build metadata: a Hub tag cannot hold a plus sign.
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
)


class StageConfig(BaseModel):
    """Base of every stage's config: immutable, no unknown keys, no infinities."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    def breaks_resume(self, key: str, old: Any, new: Any) -> bool:
        """Return whether this change of a key that may otherwise change makes it another run."""
        return False

    OLD_SPELLINGS: ClassVar[OldSpellings] = OldSpellings()

    @model_validator(mode="before")
    @classmethod
    def _accept_old_spellings(cls, values: Any) -> Any:
        return cls.OLD_SPELLINGS.update(values) if isinstance(values, dict) else values

    @classmethod
    def update_recorded(cls, recorded: dict[str, Any]) -> dict[str, Any]:
        """Return a config that an earlier version recorded, in today's spelling."""
        return cls.OLD_SPELLINGS.update(recorded, warn=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_nul_and_no_secret(cls, value: Any) -> Any:
        for text in _texts(value):
            if "\0" in text:
                raise ValueError("holds a NUL character")
            if found := find_secret(text):
                raise ValueError(
                    f"a URL with credentials: {found} would be recorded and published; put the "
                    "key in OPENAI_API_KEY (or HF_TOKEN for the Hub) and leave it out of the URL"
                )
        return value


def _texts(value: Any) -> Iterator[str]:
    """Every text in a config value, keys of mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _semver(text: str) -> str:
    if not SEMVER.fullmatch(text):
        raise ValueError("not SemVer; write it like 1.0.0")
    return text


def check_base_urls(urls: str) -> str:
    """URLs with commas between, checked; credentials in them are refused by `StageConfig`."""
    for url in urls.split(","):
        try:
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError
        except ValueError:
            raise ValueError(
                "not a URL like http://127.0.0.1:8000/v1 (or several, with commas between)"
            ) from None
    return urls


def _some_words(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Version = Annotated[str, AfterValidator(_semver)]
BaseUrl = Annotated[str, AfterValidator(check_base_urls)]
NonEmptyStr = Annotated[str, AfterValidator(_some_words)]


C = TypeVar("C", bound=StageConfig)


def parse(cls: type[C], argv: Sequence[str]) -> C:
    """The config in `--config FILE.yaml`, with every `--key value` of `argv` on top of it.

    `--config` also takes the name of a shipped recipe.

    Raises:
        InputError: the file cannot be read, or a key is unknown or out of range.
    """
    parser = _Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    add_arguments(parser, cls)
    known, unknown = parser.parse_known_args(cls.OLD_SPELLINGS.update_arguments(argv))
    for word in unknown:
        if word.startswith("--"):
            raise InputError(
                describe_unknown_key(word[2:].split("=")[0], cls.model_fields, "command line")
            )
        raise InputError(f"stray word {word!r} on the command line; options read --key value")
    given = vars(known)
    path = given.pop("config")
    path = shipped.find_recipe(path) if path else None
    values = cls.OLD_SPELLINGS.update(read_yaml(path)) if path else {}
    for key in values:
        if key not in cls.model_fields:
            raise InputError(describe_unknown_key(str(key), cls.model_fields, str(path)))
    overrides = {
        key: _from_text(text, cls.model_fields[key])
        for key, text in given.items()
        if text is not None
    }
    try:
        return cls(**{**values, **overrides})
    except ValidationError as error:
        raise InputError(_explain(error, overrides, path)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        InputError: it is missing, is not YAML, or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read config {path}: {error.strerror}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2025-02-30
        raise InputError(
            f"config {path} is not valid YAML: {redact(' '.join(str(error).split()))}"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"config {path} must hold `key: value` lines, not a {type(values).__name__}"
        )
    return values


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write a mapping as YAML, keys in their given order; a reader never sees half of it."""
    fs.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def add_arguments(parser: argparse.ArgumentParser, cls: type[StageConfig]) -> None:
    """One `--key` for each field of `cls`, with its description and default as help."""
    for name, field in cls.model_fields.items():
        parser.add_argument(
            f"--{name}",
            **({"nargs": "?", "const": "true"} if field.annotation is bool else {}),
            metavar="VALUE",
            help=f"{describe_choices(field.description or '', field.annotation)} "
            f"{_default(field)}".replace("%", "%%"),
        )


def describe_choices(description: str, annotation: Any) -> str:
    """The help of a key, with the words that it accepts where the description leaves some out."""
    words = _choices(annotation)
    if all(word in description for word in words):
        return description
    return f"{description}; one of {', '.join(words)}"


def _choices(annotation: Any) -> list[str]:
    """The words of the literals within a type."""
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _choices(part)]


def describe_unknown_key(key: str, valid: Iterable[str], where: str) -> str:
    """The one line for a key that does not exist: its name, its place and the nearest valid one."""
    near = difflib.get_close_matches(key, list(valid), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "see --help for the valid keys"
    return f"unknown key {key!r} ({where}); {hint}"


class _Parser(argparse.ArgumentParser):
    """argparse, with its complaints as ours: one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (command line)")


def _from_text(text: str, field: FieldInfo) -> Any:
    """A command-line word as pydantic wants it: lists from commas or [a, b], null for nothing.

    Scalars stay text: pydantic reads numbers and booleans, and `1.0` stays a version string.
    """
    kinds = [field.annotation, *get_args(field.annotation)]
    if text.lower() in ("null", "none") and type(None) in kinds:
        return None
    if any(getattr(kind, "__origin__", kind) is list for kind in kinds):
        if text.lower() == "none":
            return []
        if text.startswith("["):
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError:
                return text  # pydantic says what is wrong with it
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _default(field: FieldInfo) -> str:
    return "(required)" if field.is_required() else f"(default: {field.default})"


def _explain(error: ValidationError, overrides: dict[str, Any], path: Path | None) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # of several keys together
        return f"bad config: {first['msg'].removeprefix('Value error, ')}"
    key = str(first["loc"][0])
    where = "command line" if key in overrides else str(path or "command line")
    if first["type"] == "missing":
        return f"missing key {key!r} ({where}); give it as --{key} VALUE or in the config file"
    message = first["msg"].removeprefix("Value error, ")
    return f"bad value for {key!r} ({where}): {message}, got {redact(first.get('input'))!r}"
