"""Define the base classes of the JSON files that stages write for each other.

A record that is read and written again keeps its keys and their order, even keys that this version
does not use. Files from before `schema_version` are read. Files with a newer one are refused, since
their numbers may mean something else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
    model_serializer,
    model_validator,
)

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError, error_message

Number = StrictInt | StrictFloat  # an int stays one, so that rewriting a file changes no byte
Counts = dict[StrictStr, StrictInt]
Text = StrictStr | None


class RecordFormatError(InputError):
    """A JSON file with unexpected fields: it was edited, or is another tool's."""


class RecordSection(BaseModel):
    """A typed, immutable object within a record; it writes the keys that were given."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())
    _keys: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="wrap")
    @classmethod
    def _remember_keys(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        section = handler(data)
        if isinstance(data, dict):
            section._keys = tuple(data)
        return section

    @model_serializer(mode="wrap")
    def _given_keys_in_order(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values = handler(self)
        old_names = {
            old: name
            for name, field in type(self).model_fields.items()
            if isinstance(field.validation_alias, AliasChoices)
            for old in field.validation_alias.choices
        }
        names = {key: old_names.get(key, key) for key in self._keys}
        new = self.model_fields_set - set(names.values())
        names |= {key: key for key in values if key in new}
        return {key: values[name] for key, name in names.items()}


class Record(RecordSection):
    """A JSON file that one stage writes and others read."""

    SCHEMA_VERSION: ClassVar[int] = 1
    FILE: ClassVar[str]
    STAGE: ClassVar[str]  # that writes it

    schema_version: StrictInt = 1  # 0: the file is from before there were versions

    @classmethod
    def load(cls, path: Path, *, refuse_nan: bool = False) -> Self:
        """Return the record in a file, or in the file of its usual name in a folder.

        Raises:
            InputError: the file is missing, is not JSON, or has a newer schema version.
            RecordFormatError: a field is missing or has another type.
        """
        path = path / cls.FILE if path.is_dir() else path

        def constant(name: str) -> float:
            if refuse_nan:  # and infinity, which JSON does not have
                raise ValueError(f"it contains {name}")
            return float(name)

        try:
            values = json.loads(path.read_text(encoding="utf-8"), parse_constant=constant)
        except (OSError, ValueError, RecursionError) as error:
            reason = getattr(error, "strerror", None) or error_message(error)
            raise InputError(
                f"cannot read {path} ({reason}); code-alpaca {cls.STAGE} writes it"
            ) from None
        return cls.parse(values, str(path))

    @classmethod
    def parse(cls, values: Any, name: str) -> Self:
        """Return the record in parsed JSON; errors as in `load`, with `name` for the file."""
        if not isinstance(values, dict):
            raise RecordFormatError(
                f"{name} is not a JSON object; restore what code-alpaca {cls.STAGE} wrote"
            )
        found = values.get("schema_version", 0)
        if isinstance(found, int) and found > cls.SCHEMA_VERSION:
            raise InputError(
                f"{name} was written by {_writer(values)} with schema version {found}, and this "
                f"version reads up to {cls.SCHEMA_VERSION}; upgrade code-alpaca"
            )
        try:
            return cls.model_validate({"schema_version": 0, **values})
        except ValidationError as error:
            raise RecordFormatError(
                f"{name} was edited or damaged ({_first_problem(error)}); restore what "
                f"code-alpaca {cls.STAGE} wrote"
            ) from None

    def save(self, path: Path) -> None:
        """Write the record atomically, its keys in the given order."""
        fs.write_json(path, self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return the record as the JSON object of its file."""
        values = self.model_dump()
        values.pop("schema_version", None)
        return {"schema_version": self.schema_version, **values} if self.schema_version else values


def _writer(values: dict[str, Any]) -> str:
    for key in ("tools", "versions"):
        versions = values.get(key)
        if isinstance(versions, dict) and isinstance(versions.get("code-alpaca"), str):
            return f"code-alpaca {versions['code-alpaca']}"
    return "a newer code-alpaca"


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
