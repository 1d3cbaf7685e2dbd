"""The protocol of a strategy: how one request to the teacher is written and its reply is read."""

from __future__ import annotations

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.plugins import Plugin, PluginError
from code_alpaca.core.row_formats import is_unicode
from code_alpaca.core.run_folder import RunInput
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
    declared: Sequence[str] = ()  # templates of the strategy; none: `templates.undeclared`

    def render(self, template: str, **values: Any) -> str:
        """Return a prompt template filled with values, by default also `count` and `labels`.

        `wish` is the old name of `labels`.
        """
        allowed = self.declared or self.templates.undeclared
        exists = template in self.templates.names
        if template not in allowed and (self.declared or exists):
            key = f"{'numbered_' * self.numbered}templates"
            raise PluginError(
                f"the strategy renders the prompt template {template!r}, which is not in its "
                f"`{key}` ({', '.join(self.declared) or 'none'}); add it there, so that an edit of "
                "it changes prompt_version"
            )
        labels = values.get("labels", self.labels)
        values = {"count": self.num_tasks, "labels": labels, "wish": labels, **values}
        return self.templates.render(template, **values)


@dataclass(frozen=True, slots=True)
class Prompt:
    """The prompt of one request."""

    text: str
    seed_ids: list[str]  # of the seed tasks and rows that it shows
    prefix: str = ""  # the end of the text, if a reply continues its last line

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise ValueError(f"the text of a Prompt is {self.text!r}, not a prompt")
        if not isinstance(self.prefix, str):
            raise ValueError(f"the prefix of a Prompt is {self.prefix!r}, not text")
        if not is_unicode(self.text + self.prefix):
            raise ValueError("the text of a Prompt has a lone surrogate, which cannot be sent")
        ids = self.seed_ids if isinstance(self.seed_ids, str) else list(self.seed_ids)
        if isinstance(ids, str) or not all(isinstance(seed_id, str) for seed_id in ids):
            raise ValueError(f"the seed_ids of a Prompt are {ids!r}, not a list of ids")
        object.__setattr__(self, "seed_ids", ids)  # also of a tuple, a set or a generator


class Strategy(ABC):
    """One way to request new tasks; subclasses override what differs from these defaults."""

    name: str = ""  # in the config and in the column `strategy` of its rows
    # The templates that it renders. Their hash, with all that they include, is the rows'
    # `prompt_version`; none: `PromptTemplates.undeclared`.
    templates: tuple[str, ...] = ()
    # APIs over which it requests numbered text instead of JSON, since base models only continue
    # text, and the templates for them.
    numbered_apis: tuple[Api, ...] = ()
    numbered_templates: tuple[str, ...] = ()
    stop: tuple[str, ...] = ()  # strings at which the teacher must stop
    # Texts in its prompts that no template has, by the name of the value; for readers of the data.
    phrases: Mapping[str, Sequence[str]] = {}
    own_keys: tuple[str, ...] = ()  # config keys that are refused in a run without this strategy
    curation_overrides: Mapping[str, Any] = {}  # values of curation keys in its runs
    plugin: Plugin | None = None  # the user's file that it comes from

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

    def inputs(self) -> list[RunInput]:
        """Return what the config only names and the strategy depends on."""
        if not self.plugin:
            return []
        key = f"{self.name}_sha256"
        return [RunInput(key, self.plugin.sha256, self.plugin.files, is_editable=True)]

    def used_templates(self, api: Api) -> tuple[str, ...]:
        """Return the templates that it renders over an API; none: any of the first release."""
        return self.numbered_templates if api in self.numbered_apis else self.templates

    def check_templates(self, templates: PromptTemplates) -> None:
        """Raise InputError unless `templates` and `numbered_templates` list existing templates."""
        for key in ("templates", "numbered_templates"):
            names = getattr(self, key)
            if not isinstance(names, tuple | list):
                raise InputError(
                    f"strategy {self.name}: {key} is {names!r}; write a tuple of names, such as "
                    f"{key} = ({names if isinstance(names, str) else 'rules'!r},)"
                )
            for name in names:
                if name not in templates.names:
                    action = f"put {name}.jinja into a folder and set the key prompts to it"
                    raise InputError(
                        f"strategy {self.name}: {key} lists {name!r}, and there is no prompt "
                        f"template of this name; {did_you_mean(str(name), templates.names, action)}"
                    )

    def prompt_version(self, templates: PromptTemplates, api: Api) -> str:
        """Return eight hex digits that identify the prompts over an API."""
        version = templates.version(*(self.used_templates(api) or templates.undeclared))
        if self.plugin:
            version = hashlib.sha256((self.plugin.sha256 + version).encode()).hexdigest()[:8]
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
