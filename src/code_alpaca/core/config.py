"""Read the config of a stage: a YAML file, overridden by `--key value`; unknown keys are refused.

A stage declares its keys once, as the fields of a `StageConfig`: `parse` reads them, and
`add_arguments` prints them as `--help`.
"""

from __future__ import annotations

import argparse
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, TypeVar, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from code_alpaca.core import fs, shipped
from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.key_roles import Role
from code_alpaca.core.old_spellings import OldSpellings
from code_alpaca.core.redact import find_secret, redact

# https://semver.org, without build metadata: a Hub tag cannot contain a plus sign.
SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(-(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9]\d*|\d*[A-Za-z-][0-9A-Za-z-]*))*)?"
)


# Types of pydantic's errors -> what to do.
ADVICE = {
    **dict.fromkeys(("bool_parsing", "bool_type"), "give true or false"),
    **dict.fromkeys(("int_parsing", "int_type", "int_from_float"), "give a whole number"),
    **dict.fromkeys(("float_parsing", "float_type", "finite_number"), "give a finite number"),
    "greater_than": "give a number above {gt:g}",
    "greater_than_equal": "give a number of at least {ge:g}",
    "less_than": "give a number below {lt:g}",
    "less_than_equal": "give a number of at most {le:g}",
    "literal_error": "give {expected}",
    "string_type": "give text",
    "path_type": "give a path",
    "list_type": "give a list",
    "dict_type": "give a mapping",
    "too_short": "give a list of at least {min_length}",
}


class UnknownKeyError(InputError):
    """A key that a command does not have; `where` is the file, or the command line."""

    def __init__(self, key: str, valid: Iterable[str], where: str, owners: Sequence[str] = ()):
        self.key, self.valid, self.where = key, list(valid), where
        parts = [f"unknown key {key!r} ({where})"]
        if owners:  # a key that only looks like it is probably not meant
            parts.append(f"it is a key of {', '.join(owners)}")
            parts.append(did_you_mean(key, self.valid, "", min_similarity=0.7))
        else:
            parts.append(did_you_mean(key, self.valid, "see --help for the valid keys"))
        super().__init__("; ".join(filter(None, parts)))


class StageConfig(BaseModel):
    """Base of every stage's config: immutable, without unknown keys or infinite numbers."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )
    OLD_SPELLINGS: ClassVar[OldSpellings] = OldSpellings()
    # Keys that change rows and that earlier versions did not have, with the value for their runs.
    VALUES_BEFORE: ClassVar[Mapping[str, Any]] = {}

    def breaks_resume(self, key: str, old: Any, new: Any) -> bool:
        """Return whether a change that the key's role permits makes it another run."""
        return False

    @model_validator(mode="before")
    @classmethod
    def _accept_old_spellings(cls, values: Any) -> Any:
        return cls.OLD_SPELLINGS.update(values) if isinstance(values, dict) else values

    @classmethod
    def update_recorded(cls, recorded: dict[str, Any]) -> dict[str, Any]:
        """Return a config that an earlier version recorded, with today's names and new keys."""
        return {**cls.VALUES_BEFORE, **cls.OLD_SPELLINGS.update(recorded, warn=False)}

    @field_validator("*", mode="before")
    @classmethod
    def _reject_empty_paths(cls, value: Any, info: ValidationInfo) -> Any:
        if _is_path(cls.model_fields[info.field_name].annotation) and "" in _texts(value):
            raise ValueError("must not be empty; give a path")  # Path("") is the working folder
        return value

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


def _is_path(annotation: Any) -> bool:
    """Return whether a key takes a path, or a list of them."""
    return annotation is Path or any(map(_is_path, get_args(annotation)))


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a config value, including the keys of mappings."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*itertools.chain.from_iterable(value.items())])
    elif isinstance(value, list | tuple):
        yield from itertools.chain.from_iterable(map(_texts, value))


def _check_semver(text: str) -> str:
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


def _check_not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty")
    return text


Version = Annotated[str, AfterValidator(_check_semver)]
BaseUrl = Annotated[str, AfterValidator(check_base_urls)]
NonEmptyStr = Annotated[str, AfterValidator(_check_not_blank)]
Title = Annotated[NonEmptyStr | None, Role.FREE]
TITLE_HELP = (
    "heading and pretty_name of the dataset card; unset: keep the current one, which at first is "
    "Code Alpaca, or the name of the source of imported rows"
)
C = TypeVar("C", bound=StageConfig)


def parse(cls: type[C], argv: Sequence[str]) -> C:
    """Read the config of a stage from its command line.

    Each `--key value` overrides that key in `--config`, a YAML file or a shipped recipe.

    Raises:
        InputError: the file cannot be read, a key is unknown or a value is not valid.
    """
    parser = CommandLineParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    add_arguments(parser, cls)
    known, unknown = parser.parse_known_args(cls.OLD_SPELLINGS.update_arguments(argv))
    keys = cls.model_fields
    if unknown and unknown[0].startswith("--"):
        key = unknown[0].removeprefix("--").split("=")[0]
        raise UnknownKeyError(key, keys, "command line")
    if unknown:
        raise InputError(
            f"unexpected word {unknown[0]!r} on the command line; options are --key value"
        )
    options = vars(known)
    path = options.pop("config")
    path = shipped.find_recipe(path) if path else None
    given = {key: text for key, text in options.items() if text is not None}
    values = read_yaml(path) if path else {}
    today = cls.OLD_SPELLINGS.keys
    values = {key: value for key, value in values.items() if today.get(key, key) not in given}
    values = cls.OLD_SPELLINGS.update(values)
    for key in values:
        if key not in keys:
            raise UnknownKeyError(str(key), keys, str(path))
    overrides = {key: _parse_value(text, keys[key]) for key, text in given.items()}
    try:
        return cls(**{**values, **overrides})
    except ValidationError as error:
        raise InputError(_explain(error, overrides, path)) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), UniqueKeyLoader)
    except OSError as error:
        reason = error.strerror
        raise InputError(f"cannot read config {path}: {reason}; give a YAML file") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: 2025-02-30
        reason, mark = str(error), getattr(error, "problem_mark", None)
        if mark is not None:
            reason = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
        reason = redact(" ".join(reason.split()).replace(' in "<unicode string>"', ""))
        raise InputError(f"config {path} is not valid YAML: {reason}; correct it") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(
            f"config {path} must contain `key: value` lines, not a {type(values).__name__}"
        )
    return values


class UniqueKeyLoader(yaml.SafeLoader):
    """PyYAML's safe loader, but a key that is given twice is an error: one value would be lost."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} is given twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def write_yaml(path: Path, values: dict[str, Any]) -> None:
    """Write a mapping as YAML atomically, keys in their order."""
    fs.write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def add_arguments(parser: argparse.ArgumentParser, cls: type[StageConfig]) -> None:
    """Add a `--key` for each field of `cls`; its description is the help.

    Required keys come first, then those of the stage itself, then those that it shares.
    """

    def rank(item: tuple[str, FieldInfo]) -> tuple[bool, bool]:
        return not item[1].is_required(), item[0] not in cls.__annotations__

    for name, field in sorted(cls.model_fields.items(), key=rank):
        description = describe_choices(field.description or "", field.annotation)
        default = "required" if field.is_required() else f"default: {_format_default(field)}"
        parser.add_argument(
            f"--{name}",
            **({"nargs": "?", "const": "true"} if field.annotation is bool else {}),
            metavar="VALUE",
            help=f"{description} ({default})".replace("%", "%%"),
        )


def _format_default(field: FieldInfo) -> str:
    """Return the default of a key as one would give it on the command line."""
    value = field.default
    if isinstance(value, list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "unset" if value is None else str(value)


def describe_choices(description: str, annotation: Any) -> str:
    """Add the choices of a key to its description, unless it names them all."""
    choices = _choices(annotation)
    if all(choice in description for choice in choices):
        return description
    return f"{description}; one of {', '.join(choices)}"


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


class CommandLineParser(argparse.ArgumentParser):
    """An argparse parser that raises InputError instead of exiting."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message} (command line)")


def _parse_value(text: str, field: FieldInfo) -> Any:
    """Parse a value of the command line: `null`, a list as `a,b` or `[a, b]`, or `{a: b}`.

    Scalars stay text: pydantic converts numbers and booleans, and `1.0` stays a version string.
    """
    types = [field.annotation, *get_args(field.annotation)]
    if text.lower() in ("null", "none") and type(None) in types:
        return None
    kinds = {getattr(kind, "__origin__", kind) for kind in types}
    if (list in kinds and text.startswith("[")) or (dict in kinds and text.startswith("{")):
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError:
            return text  # pydantic reports what is wrong with it
    if list in kinds:
        if text.lower() == "none":
            return []
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _explain(error: ValidationError, overrides: dict[str, Any], path: Path | None) -> str:
    first = error.errors(include_url=False)[0]
    if not first["loc"]:  # from a validator of several keys
        return f"bad config: {first['msg'].removeprefix('Value error, ')}"
    key = str(first["loc"][0])
    where = "command line" if key in overrides else str(path or "command line")
    if first["type"] == "missing":
        return f"missing key {key!r} ({where}); set it as --{key} VALUE or in the config file"
    return describe_bad_value(key, where, first)


def describe_bad_value(key: str, where: str, error: Mapping[str, Any]) -> str:
    """Return the message about a value that pydantic refuses: where it is and what to give."""
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] in ADVICE:
        message = ADVICE[error["type"]].format(**error.get("ctx", {}))
    value = error.get("input")
    names_value = isinstance(value, list | dict) or message.endswith("?")
    names_value = names_value or (isinstance(value, str) and repr(value) in message)
    got = "" if names_value else f", got {redact(value)!r}"
    return f"bad value for {key!r} ({where}): {message}{got}"
