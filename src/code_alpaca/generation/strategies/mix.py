"""Load the strategies of a run, built-in ones and a user's, and choose one for each request."""

from __future__ import annotations

import copy
import inspect
import math
import random
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.plugins import PluginError, call_plugin, is_plugin, load_plugin
from code_alpaca.core.schema import Example
from code_alpaca.generation.candidates import Candidate
from code_alpaca.generation.strategies import STRATEGIES
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy
from code_alpaca.teacher.reply_parsing import ParsedReply

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig

OLD_NAMES = {"seed_compat": "alpaca_2023"}  # old name, in the ledgers of old runs


def parse_mix(text: str) -> dict[str, float]:
    """Return the weights in `self_instruct=3,my_file.py:ask=1`, in the order of drawing.

    Raises:
        ValueError: a strategy does not exist, or a weight is not a positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, _, weight = part.strip().rpartition("=") if "=" in part else (part.strip(), "", "1")
        if name not in STRATEGIES and not is_plugin(name):
            choices = f"choose from {', '.join(STRATEGIES)}, or write FILE.py:NAME for your own"
            raise ValueError(
                f"there is no strategy {name!r}; {did_you_mean(name, STRATEGIES, choices)}"
            )
        if name in weights:
            raise ValueError(f"strategy {name} is listed twice; give it one weight")
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"the weight {weight!r} of {name} is not a number") from None
        if not 0 < weights[name] < math.inf:
            raise ValueError(f"the weight of {name} must be positive and finite")
    built_in = [name for name in STRATEGIES if name in weights]
    return {name: weights[name] for name in (*built_in, *sorted(weights.keys() - set(built_in)))}


class FunctionStrategy(Strategy):
    """A user's function that returns the prompt."""

    def __init__(self, function: Callable[[PromptContext], Prompt]) -> None:
        self._function = function

    def ask(self, context: PromptContext) -> Prompt:
        return self._function(context)


@dataclass(frozen=True, slots=True)
class StrategyMix:
    """The strategies of a run by name, and their weights in the same order."""

    strategies: Mapping[str, Strategy]
    weights: tuple[float, ...]

    @property
    def has_users(self) -> bool:
        """Whether a strategy comes from a user's file."""
        return any(strategy.plugin for strategy in self.strategies.values())

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        """Load the strategies of a config and check that they work under it."""
        weights = parse_mix(config.strategy)
        strategies = [
            STRATEGIES[name].from_config(config) if name in STRATEGIES else _load(name, config)
            for name in weights
        ]
        for strategy in strategies:
            strategy.validate(config)
        by_name = {strategy.name: strategy for strategy in strategies}
        if len(by_name) < len(strategies):
            raise InputError(
                f"strategy {config.strategy}: two files have the same name; rename one"
            )
        return cls(by_name, tuple(weights.values()))

    def choose(self, rng: random.Random) -> Strategy:
        """Return the strategy of a request; a mix of one draws no random number."""
        strategies = list(self.strategies.values())
        return strategies[0] if len(strategies) == 1 else rng.choices(strategies, self.weights)[0]

    def find(self, recorded_name: str) -> Strategy:
        """Return a strategy by the name that a run recorded, also by an old one."""
        return self.strategies[OLD_NAMES.get(recorded_name, recorded_name)]


def find_old_names(recorded: str) -> dict[str, str]:
    """Return the old names of strategies in the text that a run recorded, by today's names."""
    return {new: old for old, new in OLD_NAMES.items() if old in re.split("[,=]", recorded)}


def _load(reference: str, config: GenerateConfig) -> Strategy:
    """Load FILE.py:NAME: a function `ask(context) -> Prompt`, or a `Strategy` object or class."""
    plugin = load_plugin(reference, kind="strategy")
    strategy = plugin.value
    if inspect.isabstract(strategy):
        raise InputError(f"strategy {reference} has no method ask(context); define it")
    if isinstance(strategy, type):
        if not issubclass(strategy, Strategy):
            raise InputError(
                f"strategy {reference} is a class; make it a subclass of "
                "code_alpaca.generation.strategies.Strategy"
            )
        what = f"strategy {reference} failed"
        strategy = call_plugin(reference, what, strategy.from_config, config)
    elif isinstance(strategy, Strategy):
        strategy = copy.copy(strategy)  # the loaded file is cached
    elif callable(strategy):
        strategy = FunctionStrategy(strategy)
    else:
        raise InputError(
            f"strategy {reference} is of type {type(strategy).__name__}; write a function "
            "ask(context) that returns a Prompt, or a subclass of Strategy"
        )
    # Without the folder, since rows are published.
    strategy.name, strategy.plugin = PurePath(reference).name, plugin
    _check_attributes(strategy, reference, config)
    _check_calls(strategy, reference)
    return strategy


def _check_attributes(strategy: Strategy, reference: str, config: GenerateConfig) -> None:
    """Refuse attributes of another type than the protocol's, and unknown config keys."""
    for name in ("numbered_apis", "stop", "own_keys"):  # its templates have a check of their own
        value = getattr(strategy, name)
        if not isinstance(value, tuple | list) or not all(isinstance(v, str) for v in value):
            raise PluginError(
                f"strategy {reference}: {name} is {value!r}; write a tuple of names, such as "
                '("first", "second") or ("only",)'
            )
    for key in (*strategy.own_keys, *strategy.curation_overrides):
        if key not in type(config).model_fields:
            hint = did_you_mean(key, type(config).model_fields, "see code-alpaca generate --help")
            raise PluginError(f"strategy {reference}: there is no config key {key!r}; {hint}")


def _check_calls(strategy: Strategy, reference: str) -> None:
    """Wrap the methods to raise PluginError if they fail or return another type."""
    call = partial(call_plugin, reference, f"strategy {reference} failed")
    strategy.validate = partial(call, strategy.validate)
    for name, kind in {"prompt_version": str, "tasks_per_request": int}.items():
        setattr(strategy, name, partial(_call_for, kind, reference, getattr(strategy, name)))
    users_ask, users_parse = strategy.ask, strategy.parse

    def ask(context: PromptContext) -> Prompt:
        pool = ReadRows(context.pool)
        prompt = call(users_ask, replace(context, pool=pool))
        if not isinstance(prompt, Prompt):
            raise PluginError(
                f"strategy {reference} returned a {type(prompt).__name__}; return a "
                "code_alpaca.generation.strategies.Prompt"
            )
        known = pool.ids.union(task.id for task in context.seed_tasks)
        if unknown := set(prompt.seed_ids) - known:
            raise PluginError(
                f"strategy {reference}: no seed task or row in its context has the id "
                f"{min(unknown)!r}; list in seed_ids the ids of those that the prompt shows"
            )
        return prompt

    def parse(reply: ParsedReply, prefix: str, *, numbered: bool) -> list[Candidate]:
        candidates = call(lambda: list(users_parse(reply, prefix, numbered=numbered)))
        if not all(isinstance(item, Candidate) and _is_text(item) for item in candidates):
            raise PluginError(
                f"strategy {reference}: parse must return a list of "
                "code_alpaca.generation.candidates.Candidate, whose fields are all text"
            )
        return candidates

    strategy.ask, strategy.parse = ask, parse


def _call_for(kind: type, reference: str, method: Callable[..., Any], *args: Any, **kw: Any) -> Any:
    result = call_plugin(reference, f"strategy {reference} failed", method, *args, **kw)
    if not isinstance(result, kind):
        raise PluginError(
            f"strategy {reference}: {method.__name__} returned {reprlib.repr(result)}; return "
            f"{kind.__name__}"
        )
    return result


def _is_text(candidate: Candidate) -> bool:
    return all(isinstance(getattr(candidate, item.name), str) for item in fields(candidate))


class ReadRows(Sequence[Example]):
    """The accepted rows that a strategy may show, and the ids of those that it has read."""

    def __init__(self, rows: Sequence[Example]) -> None:
        self._rows = rows
        self.ids: set[str] = set()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        found = self._rows[index]
        self.ids.update(row.id for row in (found if isinstance(index, slice) else [found]))
        return found
