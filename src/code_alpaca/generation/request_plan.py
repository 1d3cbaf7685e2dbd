"""Turn a config into requests to the teacher.

Request k is a pure function of the config, the seed tasks, k and the accepted rows that it may
show, so a resumed run sends the same requests.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from code_alpaca.core.schema import Example, SeedTask, load_seed_tasks
from code_alpaca.generation.candidates import Candidate, build_schema, catch_parse_errors
from code_alpaca.generation.strategies.base import PromptContext, Strategy
from code_alpaca.generation.strategies.mix import StrategyMix, find_old_names
from code_alpaca.generation.templates import PromptTemplates
from code_alpaca.teacher.reply_parsing import ParsedReply
from code_alpaca.teacher.request_body import Api, SamplingParams, build_request_body

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig


@dataclass(frozen=True, slots=True)
class TeacherRequest:
    """One request.

    Attributes:
        payload: the JSON body.
        seed_ids: ids of the tasks that its prompt shows.
        requested: the strategy, the number of tasks and the labels of the quotas.
        parse: returns the candidates in the reply.
    """

    payload: dict[str, Any]
    seed_ids: list[str]
    requested: dict[str, Any]
    prompt_version: str
    parse: Callable[[ParsedReply], list[Candidate]]


@dataclass(frozen=True, slots=True)
class RequestPlan:
    """Everything that the requests of a run depend on.

    Attributes:
        recorded_names: names of strategies in the rows of a run that recorded others.
    """

    config: GenerateConfig
    mix: StrategyMix
    templates: PromptTemplates
    seed_tasks: Sequence[SeedTask]
    recorded_names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        """Load seed tasks, strategies and templates.

        Raises:
            InputError: one of them cannot be loaded, or a strategy does not work under the config.
        """
        mix = StrategyMix.from_config(config)
        templates = PromptTemplates(config.prompts, mix.template_names())
        return cls(config, mix, templates, load_seed_tasks(config.seed_tasks))

    @property
    def curation_overrides(self) -> dict[str, Any]:
        """Values of curation keys that the strategies set."""
        overrides: dict[str, Any] = {}
        for strategy in self.mix.strategies.values():
            overrides |= strategy.curation_overrides
        return overrides

    def resumed(self, recorded_strategy: str) -> Self:
        """Return the plan of a run that recorded its strategies under these names.

        Its new rows get the same names as the old ones, so the dataset does not depend on when the
        run was resumed.
        """
        return replace(self, recorded_names=find_old_names(recorded_strategy))

    def identity(self) -> dict[str, str]:
        """Return hashes of what the config only names; a run is not resumed under other ones."""
        strategies = self.mix.strategies.values()
        identity: dict[str, str] = {}
        for strategy in strategies:
            identity |= strategy.identity()
        seeds = [[task.instruction, task.input, task.output] for task in self.seed_tasks]
        identity["seed_tasks_sha256"] = hashlib.sha256(json.dumps(seeds).encode()).hexdigest()
        identity["prompt_version"] = "+".join(map(self._prompt_version, strategies))
        return identity

    def build_request(
        self, number: int, pool: Sequence[Example], labels: Mapping[str, str]
    ) -> TeacherRequest:
        """Return request `number`; its random choices depend on it and the run's seed alone.

        Args:
            pool: rows accepted so far that this request may show.
            labels: the language, task type and difficulty that the quotas call for.
        """
        config = self.config
        rng = random.Random(f"{config.seed}/{number}")
        strategy = self.mix.choose(rng)
        numbered = config.request_api in strategy.numbered_apis
        context = PromptContext(
            rng=rng,
            seed_tasks=self.seed_tasks,
            pool=pool,
            num_tasks=config.tasks_per_request,
            seeds_per_request=config.seeds_per_request,
            pool_per_request=config.pool_per_request,
            templates=self.templates,
            numbered=numbered,
            labels=labels,
        )
        prompt = strategy.ask(context)
        sampling = SamplingParams(
            config.teacher_model,
            config.temperature,
            config.top_p,
            config.max_completion_tokens,
            strategy.stop,
        )
        schema = None if numbered else build_schema(config.tasks_per_request)
        count = strategy.tasks_per_request(prompt, config.tasks_per_request)
        name = self.recorded_names.get(strategy.name, strategy.name)
        return TeacherRequest(
            payload=build_request_body(config.request_api, prompt.text, sampling, schema),
            seed_ids=prompt.seed_ids,
            requested={"strategy": name, "count": count, **labels},
            prompt_version=self._prompt_version(strategy),
            parse=_make_parser(strategy, prompt.prefix, numbered=numbered),
        )

    def restore_request(
        self, payload: dict[str, Any], requested: dict[str, Any], seed_ids: list[str]
    ) -> TeacherRequest:
        """Return an answered request as the ledger recorded it.

        The keys that shape requests may have changed since it was sent.
        """
        strategy = self.mix.find(requested["strategy"])
        prompt, api = read_prompt(payload)
        return TeacherRequest(
            payload=payload,
            seed_ids=seed_ids,
            requested=requested,
            prompt_version=self._prompt_version(strategy),
            parse=_make_parser(
                strategy,
                prompt.rstrip().rpartition("\n")[2],
                numbered=api in strategy.numbered_apis,
            ),
        )

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
