"""Configure every stage the same way: a YAML file, overridden by `--key value`; unknown keys fail.

A stage declares its keys once, as a `StageConfig`: `parse` reads them and `add_arguments` prints
them as `--help`. `key_roles` describes what a key means beyond its stage, `old_spellings` renamed
keys and values.
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

# https://semver.org, without build metadata: a Hub tag cannot contain a plus sign.
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
)


class StageConfig(BaseModel):
    """Base of every stage's config: immutable, without unknown keys or infinite numbers."""

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
    def _reject_nul_and_secrets(cls, value: Any) -> Any:
        for text in _texts(value):
            if "\0" in text:
                raise ValueError("contains a NUL character")
            if found := find_secret(text):
                raise ValueError(
                    f"a URL with credentials: {found} would be recorded and published; remove it "
                    "from the URL and set OPENAI_API_KEY (or HF_TOKEN for the Hub)"
                )
        return value


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a config value, including the keys of mappings."""
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
    """Check comma-separated URLs; `StageConfig` rejects credentials in them."""
    for url in urls.split(","):
        try:
            parts = urlsplit(url.strip())
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
                raise ValueError
        except ValueError:
            raise ValueError(
                "not a URL like http://127.0.0.1:8000/v1 (or several, separated by commas)"
            ) from None
    return urls


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Version = Annotated[str, AfterValidator(_semver)]
BaseUrl = Annotated[str, AfterValidator(check_base_urls)]
NonEmptyStr = Annotated[str, AfterValidator(_not_blank)]


C = TypeVar("C", bound=StageConfig)


def parse(cls: type[C], argv: Sequence[str]) -> C:
    """Return the config of `--config FILE.yaml`, overridden by each `--key value` of `argv`.

    `--config` also accepts the name of a shipped recipe.

    Raises:
        InputError: the file cannot be read, a key is unknown or a value is not valid.
    """
    parser = _ConfigParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    add_arguments(parser, cls)
    known, unknown = parser.parse_known_args(cls.OLD_SPELLINGS.update_arguments(argv))
    for word in unknown:
        if word.startswith("--"):
            raise InputError(
                describe_unknown_key(word[2:].split("=")[0], cls.model_fields, "command line")
            )
        raise InputError(f"unexpected word {word!r} on the command line; options are --key value")
    options = vars(known)
    path = options.pop("config")
    path = shipped.find_recipe(path) if path else None
    values = cls.OLD_SPELLINGS.update(read_yaml(path)) if path else {}
    for key in values:
        if key not in cls.model_fields:
            raise InputError(describe_unknown_key(str(key), cls.model_fields, str(path)))
    overrides = {
        key: _from_text(text, cls.model_fields[key])
        for key, text in options.items()
        if text is not None
    }
    try:
        return cls(**{**values, **overrides})
    except ValidationError as error:
        raise InputError(_explain(error, overrides, path)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        InputError: the file is missing, is not YAML, or contains no mapping.
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
            f"config {path} must contain `key: value` lines, not a {type(values).__name__}"
        )
    return values


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write a mapping as YAML atomically, keys in their order."""
    fs.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def add_arguments(parser: argparse.ArgumentParser, cls: type[StageConfig]) -> None:
    """Add one `--key` for each field of `cls`, with its description and default as help."""
    for name, field in cls.model_fields.items():
        parser.add_argument(
            f"--{name}",
            **({"nargs": "?", "const": "true"} if field.annotation is bool else {}),
            metavar="VALUE",
            help=f"{describe_choices(field.description or '', field.annotation)} "
            f"{_default(field)}".replace("%", "%%"),
        )


def describe_choices(description: str, annotation: Any) -> str:
    """Return the help of a key, with its choices if the description does not name them all."""
    choices = _choices(annotation)
    if all(choice in description for choice in choices):
        return description
    return f"{description}; one of {', '.join(choices)}"


def _choices(annotation: Any) -> list[str]:
    """Return the values of the `Literal` types within a type."""
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def describe_unknown_key(key: str, valid: Iterable[str], where: str) -> str:
    """Return the message about an unknown key: its name, where it is, and the nearest valid key."""
    near = difflib.get_close_matches(key, list(valid), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else "see --help for the valid keys"
    return f"unknown key {key!r} ({where}); {hint}"


class _ConfigParser(argparse.ArgumentParser):
    """An argparse parser that raises InputError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (command line)")


def _from_text(text: str, field: FieldInfo) -> Any:
    """Return a command-line value for pydantic: a list for `a,b` or `[a, b]`, None for `null`.

    Scalars stay text: pydantic converts numbers and booleans, and `1.0` stays a version string.
    """
    types = [field.annotation, *get_args(field.annotation)]
    if text.lower() in ("null", "none") and type(None) in types:
        return None
    if any(getattr(kind, "__origin__", kind) is list for kind in types):
        if text.lower() == "none":
            return []
        if text.startswith("["):
            try:
                return yaml.safe_load(text)
            except yaml.YAMLError:
                return text  # pydantic reports what is wrong with it
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _default(field: FieldInfo) -> str:
    return "(required)" if field.is_required() else f"(default: {field.default})"


def _explain(error: ValidationError, overrides: dict[str, Any], path: Path | None) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # a validator of several keys
        return f"bad config: {first['msg'].removeprefix('Value error, ')}"
    key = str(first["loc"][0])
    where = "command line" if key in overrides else str(path or "command line")
    if first["type"] == "missing":
        return f"missing key {key!r} ({where}); set it as --{key} VALUE or in the config file"
    message = first["msg"].removeprefix("Value error, ")
    return f"bad value for {key!r} ({where}): {message}, got {redact(first.get('input'))!r}"
