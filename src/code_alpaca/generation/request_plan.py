"""Turn a config into requests to the teacher.

Request k is a pure function of the config, the seed tasks, k and the accepted rows that it may
show, so a resumed run sends the same requests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from code_alpaca.core.ledger import Ledger
from code_alpaca.core.run_folder import PROMPT_VERSION, RunInput
from code_alpaca.core.schema import (
    Example,
    SeedTask,
    hash_seed_tasks,
    load_seed_tasks,
    restore_seed_ids,
)
from code_alpaca.generation.candidates import Candidate, build_schema, catch_parse_errors
from code_alpaca.generation.request_limits import RequestLimits, estimate_tokens
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy
from code_alpaca.generation.strategies.mix import StrategyMix, find_old_names
from code_alpaca.generation.templates import PromptTemplates
from code_alpaca.teacher.reply_parsing import ParsedReply
from code_alpaca.teacher.request_body import Api, SamplingParams, build_request_body

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One request."""

    payload: dict[str, Any]  # the JSON body
    seed_ids: list[str]  # of the tasks that its prompt shows
    requested: dict[str, Any]  # the strategy, the number of tasks, the labels of the quotas
    prompt_version: str
    parse: Callable[[ParsedReply], list[Candidate]]

    @property
    def prompt(self) -> str:
        """The text of the prompt."""
        return read_prompt(self.payload)[0]


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """Everything that the requests of a run depend on."""

    config: GenerateConfig
    mix: StrategyMix
    templates: PromptTemplates
    seed_tasks: Sequence[SeedTask]
    old_names: Mapping[str, str] = field(default_factory=dict)  # of strategies, by today's names
    # Prompt versions of answered requests before a file was edited, by request number.
    earlier_prompts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        """Load strategies, templates and seed tasks, and check that they work under the config."""
        mix = StrategyMix.from_config(config)
        templates = PromptTemplates(config.prompts, allow_new=mix.has_users)
        for strategy in mix.strategies.values():
            strategy.check_templates(templates)
        seed_tasks = tuple(load_seed_tasks(config.seed_tasks))  # a strategy cannot change it
        return cls(config, mix, templates, seed_tasks)

    @property
    def curation_overrides(self) -> dict[str, Any]:
        """Values of curation keys that the strategies set."""
        strategies = self.mix.strategies.values()
        return {key: value for s in strategies for key, value in s.curation_overrides.items()}

    def resumed(self, ledger: Ledger) -> Self:
        """Return the plan of a resumed run, whose earlier requests keep what was recorded."""
        old_names = find_old_names(ledger.record("config")["strategy"])
        earlier_prompts = ledger.record("earlier_prompts", {})
        return replace(
            self,
            old_names=old_names,
            earlier_prompts=earlier_prompts,
            seed_tasks=restore_seed_ids(self.seed_tasks, self.config.seed_tasks, ledger),
        )

    def inputs(self) -> list[RunInput]:
        """Return what the config only names; a run is not resumed with other content of it."""
        strategies = self.mix.strategies.values()
        inputs = [item for strategy in strategies for item in strategy.inputs()]
        sha256 = hash_seed_tasks(self.seed_tasks)
        inputs.append(RunInput("seed_tasks_sha256", sha256, "the content of seed_tasks"))
        version = "+".join(map(self._prompt_version, strategies))
        folder = f"in {self.config.prompts}" if self.config.prompts else "(now the built-in ones)"
        return [
            *inputs,
            RunInput(PROMPT_VERSION, version, f"the prompt templates {folder}", is_editable=True),
        ]

    def build_request(
        self,
        number: int,
        pool: Sequence[Example],
        labels: Mapping[str, str],
        limits: RequestLimits | None = None,
    ) -> TeacherRequest:
        """Return request `number`; its random choices depend on it and the run's seed alone.

        Args:
            pool: rows accepted so far that this request may show.
            labels: the language, task type and difficulty to request.
            limits: of the prompt, which shows fewer tasks to fit, and of the reply; by default
                those of the config.
        """
        config = self.config
        limits = limits or RequestLimits(config.max_prompt_tokens, config.max_completion_tokens)
        strategy, prompt = self._ask_within(limits.prompt, number, pool, labels)
        numbered = config.request_api in strategy.numbered_apis
        sampling = SamplingParams(
            config.teacher_model,
            config.temperature,
            config.top_p,
            limits.reply,
            strategy.stop,
            config.reasoning_effort,
            config.extra_body,
        )
        count = strategy.tasks_per_request(prompt, config.tasks_per_request)
        schema = None if numbered else build_schema(count)
        name = self.old_names.get(strategy.name, strategy.name)
        return TeacherRequest(
            payload=build_request_body(config.request_api, prompt.text, sampling, schema),
            seed_ids=prompt.seed_ids,
            requested={"strategy": name, "count": count, **labels},
            prompt_version=self._prompt_version(strategy),
            parse=_make_parser(strategy, prompt.prefix, numbered=numbered),
        )

    def restore_request(
        self, number: int, payload: dict[str, Any], requested: dict[str, Any], seed_ids: list[str]
    ) -> TeacherRequest:
        """Return an answered request as it was sent; config and files may have changed since."""
        strategy = self.mix.find(requested["strategy"])
        version = self._prompt_version(strategy)
        if earlier := self.earlier_prompts.get(str(number)):  # of all strategies in the mix
            version = earlier.split("+")[list(self.mix.strategies).index(strategy.name)]
        prompt, api = read_prompt(payload)
        prefix = prompt.rstrip().rpartition("\n")[2]
        parse = _make_parser(strategy, prefix, numbered=api in strategy.numbered_apis)
        return TeacherRequest(payload, seed_ids, requested, version, parse)

    def first_prompts(
        self, strategy: Strategy, labels: Mapping[str, str], count: int = 8
    ) -> list[str]:
        """Return the texts with which a strategy would start a run without accepted rows."""
        shown = self.config.seeds_per_request, self.config.pool_per_request
        return [
            self._ask(strategy, self._create_rng(number), [], labels, shown).text
            for number in range(count)
        ]

    def _create_rng(self, number: int) -> random.Random:
        return random.Random(f"{self.config.seed}/{number}")

    def _ask_within(
        self,
        max_tokens: int | None,
        number: int,
        pool: Sequence[Example],
        labels: Mapping[str, str],
    ) -> tuple[Strategy, Prompt]:
        """Return the strategy of a request, and its prompt: the first that fits, or the shortest.

        Each shows fewer tasks than the one before: first fewer rows of the pool, then fewer seeds.
        """
        num_seeds, num_rows = self.config.seeds_per_request, self.config.pool_per_request
        while True:
            rng = self._create_rng(number)
            strategy = self.mix.choose(rng)
            prompt = self._ask(strategy, rng, pool, labels, (num_seeds, num_rows))
            if max_tokens is None or estimate_tokens(prompt.text) <= max_tokens:
                return strategy, prompt
            if num_rows > 1:
                num_rows -= 1
            elif pool or num_rows:
                num_rows, pool = 0, []
            elif num_seeds > 1:
                num_seeds -= 1
            else:
                return strategy, prompt

    def _ask(
        self,
        strategy: Strategy,
        rng: random.Random,
        pool: Sequence[Example],
        labels: Mapping[str, str],
        shown: tuple[int, int],
    ) -> Prompt:
        config = self.config
        context = PromptContext(
            rng=rng,
            seed_tasks=self.seed_tasks,
            pool=pool,
            num_tasks=config.tasks_per_request,
            seeds_per_request=shown[0],
            pool_per_request=shown[1],
            templates=self.templates,
            numbered=config.request_api in strategy.numbered_apis,
            labels=labels,
            declared=strategy.used_templates(config.request_api),
        )
        return strategy.ask(context)

    def _prompt_version(self, strategy: Strategy) -> str:
        return strategy.prompt_version(self.templates, self.config.request_api)


def _make_parser(
    strategy: Strategy, prefix: str, *, numbered: bool
) -> Callable[[ParsedReply], list[Candidate]]:
    return catch_parse_errors(lambda reply: strategy.parse(reply, prefix, numbered=numbered))


def read_prompt(payload: dict[str, Any]) -> tuple[str, Api]:
    """Return the prompt of a request body, and the API that it was written for."""
    if "prompt" in payload:
        return payload["prompt"], "completions"
    if "input" in payload:
        return payload["input"], "responses"
    return payload["messages"][-1]["content"], "chat"
