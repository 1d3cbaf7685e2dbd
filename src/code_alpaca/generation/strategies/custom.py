"""Use a strategy from a user's file: a function `ask(context) -> Prompt`, or a `Strategy`.

The hash of the file is part of what identifies a run, so a run is not resumed with a changed file.
"""

from __future__ import annotations

import hashlib
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.plugins import load_plugin
from code_alpaca.curation.guard import describe_failure
from code_alpaca.generation.candidates import Candidate
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy
from code_alpaca.generation.templates import PromptTemplates
from code_alpaca.teacher.reply_parsing import ParsedReply
from code_alpaca.teacher.request_body import Api

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig


def load_custom_strategy(spec: str, config: GenerateConfig) -> Strategy:
    """Load the strategy `FILE.py:NAME`.

    Raises:
        InputError: the file cannot be loaded, or the name in it is no strategy.
    """
    value, sha256 = load_plugin(spec, kind="strategy")
    if isinstance(value, type) and issubclass(value, Strategy):
        value = value.from_config(config)
    if not isinstance(value, Strategy) and not callable(value):
        raise InputError(
            f"strategy {spec} is a {type(value).__name__}; write a function ask(context) that "
            "returns a Prompt, or an object derived from Strategy"
        )
    # Rows are published: of the path only its last part is recorded.
    return CustomStrategy(PurePath(spec).name, sha256, value)


class CustomStrategy(Strategy):
    """A strategy whose code is a user's: its errors end the run with one line.

    Args:
        sha256: hash of the user's file.
        implementation: a `Strategy`, or a function that writes the prompt.
    """

    def __init__(self, name: str, sha256: str, implementation: Any) -> None:
        self.name = name
        self._sha256 = sha256
        if isinstance(implementation, Strategy):
            self._inner, self._ask = implementation, implementation.ask
        else:
            self._inner, self._ask = Strategy(), implementation
        self._inner.name = name
        self.templates = self._inner.templates
        self.numbered_apis = self._inner.numbered_apis
        self.stop = self._inner.stop
        self.curation_overrides = self._inner.curation_overrides

    def validate(self, config: GenerateConfig) -> None:
        self._inner.validate(config)

    def identity(self) -> dict[str, str]:
        return {**self._inner.identity(), f"{self.name}_sha256": self._sha256}

    def prompt_version(self, templates: PromptTemplates, api: Api) -> str:
        text = self._sha256 + self._inner.prompt_version(templates, api)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def tasks_per_request(self, prompt: Prompt, default: int) -> int:
        return self._inner.tasks_per_request(prompt, default)

    def ask(self, context: PromptContext) -> Prompt:
        try:
            prompt = self._ask(context)
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"strategy {self.name} failed: {describe_failure(error)}") from None
        if not isinstance(prompt, Prompt):
            raise InputError(
                f"strategy {self.name} returned a {type(prompt).__name__}; return a "
                "code_alpaca.generation.strategies.Prompt"
            )
        return prompt

    def parse(self, reply: ParsedReply, prefix: str, *, numbered: bool) -> list[Candidate]:
        return self._inner.parse(reply, prefix, numbered=numbered)
