"""From the config to requests: which strategy, which prompt, which body, and how to read it."""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.generation import parsing
from code_alpaca.generation.parsing import Candidate, guarded_parse
from code_alpaca.generation.strategies import STRATEGIES, seed_compat, self_instruct
from code_alpaca.generation.strategies.view import View, version
from code_alpaca.teacher.reply_parsing import ParsedReply
from code_alpaca.teacher.request_body import Api, SamplingParams, build_request_body


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the teacher: its body, what it shows, what it asks for, how to read it."""

    payload: dict[str, Any]
    seed_ids: list[str]
    asked: dict[str, Any]
    prompt_version: str
    parse: Callable[[ParsedReply], list[Candidate]]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the requests of a run are made of. `request` is a pure function.

    Args:
        weights: strategies by name with how often each is used.
        count: tasks asked for in one request.
        quotas: shares by language, task type and difficulty; may be empty.
        defects: ask and read as in 2023, with what was wrong with it (seed_compat alone).
    """

    weights: Mapping[str, float]
    api: Api
    sampling: SamplingParams
    seed: int
    seed_tasks: Sequence[SeedTask]
    snippets: Sequence[str]
    count: int
    seeds_per_request: int
    pool_per_request: int
    quotas: Mapping[str, Mapping[str, float]]
    defects: bool = False

    def __post_init__(self) -> None:
        if self.api == "completions" and set(self.weights) - {"self_instruct", "seed_compat"}:
            raise InputError(
                "teacher_api completions continues numbered text: it goes with the strategies "
                "self_instruct and seed_compat; use chat or responses for the others"
            )
        if "oss_instruct" in self.weights and not self.snippets:
            raise InputError(
                "strategy oss_instruct needs snippets: a folder, a file or a dataset of code"
            )

    def facts(self) -> dict[str, str]:
        """Hashes of what the config only names, to tell one run from another."""
        seeds = [[task.instruction, task.input, task.output] for task in self.seed_tasks]
        facts = {
            "seed_tasks_sha256": _sha256(seeds),
            "prompt_version": "+".join(self._version(name) for name in sorted(self.weights)),
        }
        return {**facts, "snippets_sha256": _sha256(self.snippets)} if self.snippets else facts

    def request(
        self,
        number: int,
        pool: Sequence[Example],
        wish: dict[str, str],
    ) -> Request:
        """Request `number`, whose random choices depend on it and the run's seed alone.

        Args:
            pool: rows accepted so far that this request may show.
            wish: labels that the quotas ask for.
        """
        rng = random.Random(f"{self.seed}/{number}")
        names = sorted(self.weights)
        (name,) = names if len(names) == 1 else rng.choices(names, [self.weights[n] for n in names])
        numbered = self.api == "completions" or name == "seed_compat"
        view = View(
            rng=rng,
            seed_tasks=self.seed_tasks,
            pool=pool,
            count=self.count,
            seeds_per_request=self.seeds_per_request,
            pool_per_request=self.pool_per_request,
            numbered=numbered,
            snippets=self.snippets,
            wish=wish,
        )
        asked = STRATEGIES[name].ask(view)
        stop = seed_compat.STOPS_2023 if self.defects and name == "seed_compat" else ()
        sampling = SamplingParams(
            self.sampling.model,
            self.sampling.temperature,
            self.sampling.top_p,
            self.sampling.max_tokens,
            stop,
        )
        schema = None if numbered else parsing.schema(self.count)
        count = seed_compat.wanted(asked) if name == "seed_compat" else self.count
        return Request(
            payload=build_request_body(self.api, asked.prompt, sampling, schema),
            seed_ids=asked.seed_ids,
            asked={"strategy": name, "count": count, **wish},
            prompt_version=self._version(name),
            parse=self._reader(name, numbered, asked.prefix),
        )

    def answered(
        self, payload: dict[str, Any], asked: dict[str, Any], seed_ids: list[str]
    ) -> Request:
        """A request that was answered, from what the ledger holds of it.

        The keys that shape requests may have changed since it was sent.
        """
        name = asked["strategy"]
        numbered = "prompt" in payload or name == "seed_compat"
        prompt = payload.get("prompt") or payload.get("input")
        prompt = prompt or payload["messages"][-1]["content"]
        return Request(
            payload=payload,
            seed_ids=seed_ids,
            asked=asked,
            prompt_version=self._version(name),
            parse=self._reader(name, numbered, prompt.rstrip().rpartition("\n")[2]),
        )

    def _version(self, name: str) -> str:
        if name == "self_instruct" and self.api == "completions":
            return version(self_instruct.NUMBERED)
        return version(*STRATEGIES[name].TEMPLATES)

    def _reader(
        self, name: str, numbered: bool, prefix: str
    ) -> Callable[[ParsedReply], list[Candidate]]:
        if not numbered:
            parse = parsing.parse_json
        elif self.defects and name == "seed_compat":
            parse = partial(seed_compat.parse_2023, first=int(prefix.split(".")[0]))
        else:
            parse = partial(parsing.parse_numbered, prefix=prefix)
        return guarded_parse(parse)


def weights(text: str) -> dict[str, float]:
    """`self_instruct`, or `self_instruct=3,evol_instruct=1`, as weights by name.

    Raises:
        ValueError: there is no such strategy, or a weight is not positive.
    """
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        if name not in STRATEGIES:
            raise ValueError(f"no strategy {name!r}; there are {', '.join(STRATEGIES)}")
        found[name] = float(weight or 1)
        if not 0 < found[name] < math.inf:
            raise ValueError(f"the weight of {name} must be above 0, and finite")
    return found


def _sha256(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
