"""The protocol of a strategy: how one request to the teacher is written and its reply is read."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.generation.candidates import Candidate
from code_alpaca.generation.json_parsing import parse_json
from code_alpaca.generation.numbered_parsing import parse_numbered
from code_alpaca.generation.templates import PromptTemplates
from code_alpaca.teacher.reply_parsing import ParsedReply
from code_alpaca.teacher.request_body import Api

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig

TASK_KEYS = ("instruction", "input", "output", "language", "tests")


@dataclass(frozen=True, slots=True)
class PromptContext:
    """Everything that the prompt of one request may depend on."""

    rng: random.Random  # use no other random numbers, so that a rerun writes the same prompt
    seed_tasks: Sequence[SeedTask]
    pool: Sequence[Example]  # accepted rows that the request may show
    num_tasks: int
    seeds_per_request: int
    pool_per_request: int
    templates: PromptTemplates
    numbered: bool = False  # request numbered text, for an API that continues text
    labels: Mapping[str, str] = field(default_factory=dict)  # by the quotas, may be empty

    def render(self, template: str, **values: Any) -> str:
        """Return a prompt template filled with values, by default also `count` and `wish`."""
        values = {"count": self.num_tasks, "wish": self.labels, **values}
        return self.templates.render(template, **values)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one request."""

    text: str
    seed_ids: list[str]  # of the seed tasks and rows that it shows
    prefix: str = ""  # the end of the text, if a reply continues its last line


class Strategy(ABC):
    """One way to request new tasks; subclasses override what differs from these defaults."""

    name: str = ""  # in the config and in the column `strategy` of its rows
    templates: tuple[str, ...] = ()  # prompt templates; their hash is the rows' `prompt_version`
    # APIs over which it requests numbered text instead of JSON, since base models only continue
    # text, and the templates for them.
    numbered_apis: tuple[Api, ...] = ()
    numbered_templates: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()  # strings at which the teacher must stop
    own_keys: tuple[str, ...] = ()  # config keys that are refused in a run without this strategy
    curation_overrides: Mapping[str, Any] = {}  # values of curation keys in its runs
    file_sha256: str = ""  # of the user's file that it comes from

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        """Return the strategy for a run."""
        return cls()

    def validate(self, config: GenerateConfig) -> None:
        """Raise InputError where the strategy cannot work under a config."""
        numbered = config.request_api in self.numbered_apis
        if config.request_api == "completions" and not numbered:
            raise InputError(
                f"strategy {self.name} requests JSON, and teacher_api completions only continues "
                "text; set teacher_api to chat or responses"
            )
        if config.quotas and numbered:
            raise InputError(
                f"strategy {self.name} over teacher_api {config.teacher_api} has no place for "
                "quotas in its prompt; remove quotas"
            )

    def identity(self) -> dict[str, str]:
        """Return hashes of what the config only names, by the name of the input."""
        return {f"{self.name}_sha256": self.file_sha256} if self.file_sha256 else {}

    def used_templates(self, templates: PromptTemplates, api: Api) -> tuple[str, ...]:
        """Return the names of the templates that its prompts over an API may contain."""
        return self.numbered_templates if api in self.numbered_apis else self.templates

    def prompt_version(self, templates: PromptTemplates, api: Api) -> str:
        """Return eight hex digits that identify the prompts over an API."""
        version = templates.version(*self.used_templates(templates, api))
        if self.file_sha256:
            version = hashlib.sha256((self.file_sha256 + version).encode()).hexdigest()[:8]
        return version

    def tasks_per_request(self, prompt: Prompt, default: int) -> int:
        """Return how many tasks a reply to the prompt may contain."""
        return default

    @abstractmethod
    def ask(self, context: PromptContext) -> Prompt:
        """Return the prompt of one request, a pure function of its context."""

    def parse(self, reply: ParsedReply, prefix: str, *, numbered: bool) -> list[Candidate]:
        """Return the tasks in a reply, those that are unusable with a reason."""
        return parse_numbered(reply, prefix) if numbered else parse_json(reply)


def prompt_fields(task: SeedTask | Example) -> dict[str, str]:
    """Return the fields of a task that a prompt shows."""
    return {key: getattr(task, key) for key in TASK_KEYS}
