"""Roles of config keys: declared on the key, collected by role."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import BaseModel, Field, PositiveInt

from code_alpaca.core.key_roles import Role, keys_with


class Rules(BaseModel):
    novelty: str = "rouge_l"
    verify: Annotated[bool, Role.OFF_CARD] = True


class GenerateConfig(Rules):
    num_examples: Annotated[PositiveInt, Role.FREE] = Field(10, description="rows")
    run_dir: Annotated[str | None, Role.FREE, Role.LOCAL] = None


@dataclass
class Arguments:
    mask: str = "completion"
    dry_run: Annotated[bool, Role.LOCAL] = field(default=False, metadata={"help": "plan"})


def test_keys_are_found_by_role_in_pydantic_configs_and_their_bases():
    assert keys_with(Role.FREE, GenerateConfig) == {"num_examples", "run_dir"}
    assert keys_with(Role.OFF_CARD, GenerateConfig) == {"verify"}


def test_keys_of_dataclasses_and_of_other_libraries_are_found_together():
    others = {"hub_token": (Role.SECRET,), "output_dir": (Role.LOCAL, Role.FREE)}
    assert keys_with(Role.LOCAL, Arguments, others) == {"dry_run", "output_dir"}
    assert keys_with(Role.SECRET, Arguments, others) == {"hub_token"}


def test_a_key_without_a_role_has_none():
    assert not any("novelty" in keys_with(role, GenerateConfig) for role in Role)
    assert not any("mask" in keys_with(role, Arguments) for role in Role)
