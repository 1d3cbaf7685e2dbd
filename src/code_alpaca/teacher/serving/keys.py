"""The config keys of model servers that are started for a run, shared by `generate` and `eval`."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Any

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from code_alpaca.core.config import StageConfig
from code_alpaca.core.key_roles import Role

FLAG_WITH_VALUE = re.compile(r"--?[A-Za-z][\w-]*\s")
SECRET_FLAGS = {"--api-key", "--admin-api-key", "--hf-token", "-hft"}


class ServingKeys(StageConfig):
    """How to start the server of a model."""

    serving_command: Annotated[str | None, Role.FREE, Role.LOCAL] = Field(
        None,
        description="program that serves the model, such as /opt/vllm/bin/vllm, or a whole command "
        "such as `/opt/sglang/bin/python -m sglang.launch_server`; unset: from PATH",
    )
    serving_args: Annotated[list[str], Role.FREE, Role.REPRODUCED] = Field(
        [], description="more arguments of the server, such as '--max-model-len 8192'"
    )
    serving_replicas: Annotated[PositiveInt | None, Role.FREE, Role.LOCAL] = Field(
        None, description="servers to start, which share the GPUs; unset: one for each GPU"
    )
    serving_timeout_s: Annotated[PositiveFloat, Role.FREE, Role.LOCAL] = Field(
        1800.0, description="seconds in which the server must load the model"
    )

    @field_validator("serving_command")
    @classmethod
    def _check_command(cls, command: str | None) -> str | None:
        if command is not None and not _split(command):
            raise ValueError("must not be empty")
        return command

    @field_validator("serving_args", mode="before")
    @classmethod
    def _split_arguments(cls, value: Any) -> Any:
        """Accept numbers, and split `--flag value` into two arguments."""
        words: list[Any] = []
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, int | float) and not isinstance(item, bool):
                item = str(item)
            is_pair = isinstance(item, str) and FLAG_WITH_VALUE.match(item)
            words += _split(item) if is_pair else [item]
        return words

    @field_validator("serving_args")
    @classmethod
    def _refuse_secrets(cls, words: list[str]) -> list[str]:
        for word in words:
            if word.partition("=")[0].replace("_", "-") in SECRET_FLAGS:
                raise ValueError(
                    f"the value of {word.partition('=')[0]} would be recorded and published; "
                    "set HF_TOKEN in the environment, and leave out API keys"
                )
        return words


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:  # a quotation mark without its partner
        raise ValueError(f"not a shell command: {error}") from None
