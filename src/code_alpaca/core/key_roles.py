"""Declare what a config key means beyond its stage: free to change on resume, secret, on a card.

A key is annotated with its roles, so that a new one cannot be forgotten in a list elsewhere:

    class GenerateConfig(StageConfig):
        num_examples: Annotated[PositiveInt, Role.FREE] = Field(1000, description="...")

A key without a role identifies its run: another value needs another run folder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, get_type_hints


class Role(Enum):
    """A role of a config key."""

    FREE = "may differ between two starts of a run, since it changes no row and no weight"
    REQUEST = "may change between two starts, for requests that are not answered yet"
    SECRET = "is never written to disk"
    RECORDED = "is recorded even at its default, which may be another in the next version"
    DERIVED = "is filled in by a library, or follows from another key: not on a card"
    LOCAL = "is about one machine or one start: neither on a card nor in a released recipe"
    OFF_CARD = "is in a released recipe, and not listed on the card"
    REPRODUCED = "belongs in the command that repeats a measurement"
    COMPARABLE = "must be the same in two measurements that are compared"


Roles = Mapping[str, Collection[Role]]


def keys_with(role: Role, *sources: type[Any] | Roles) -> frozenset[str]:
    """Return the keys of config classes, or of another library's keys by name, with a role."""
    return frozenset(
        key for source in sources for key, roles in _roles(source).items() if role in roles
    )


def _roles(source: type[Any] | Roles) -> Roles:
    if isinstance(source, Mapping):
        return source
    hints = get_type_hints(source, include_extras=True)
    return {key: getattr(hint, "__metadata__", ()) for key, hint in hints.items()}
