"""Choose the strategy of each request: always the same one, or from a mix by weight."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from code_alpaca.core.plugins import is_plugin
from code_alpaca.generation.strategies import STRATEGIES
from code_alpaca.generation.strategies.base import Strategy
from code_alpaca.generation.strategies.custom import load_custom_strategy

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig

OLD_NAMES = {"seed_compat": "alpaca_2023"}  # as runs recorded them before version 0.2


def parse_mix(text: str) -> dict[str, float]:
    """Return the weights of strategies, in the order in which a request draws from them.

    Args:
        text: a strategy, or several with weights: `self_instruct=3,my_file.py:ask=1`.

    Raises:
        ValueError: a strategy does not exist, or a weight is not a positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, separator, weight = part.strip().rpartition("=")
        if not separator:
            name, weight = part.strip(), "1"
        if name not in STRATEGIES and not is_plugin(name):
            raise ValueError(
                f"there is no strategy {name!r}; choose from {', '.join(STRATEGIES)}, or "
                "FILE.py:NAME for your own"
            )
        try:
            weights[name] = float(weight)
        except ValueError:
            raise ValueError(f"the weight {weight!r} of {name} is not a number") from None
        if not 0 < weights[name] < math.inf:
            raise ValueError(f"the weight of {name} must be positive and finite")
    built_in = [name for name in STRATEGIES if name in weights]
    custom = sorted(weights.keys() - STRATEGIES.keys())
    return {name: weights[name] for name in (*built_in, *custom)}


@dataclass(frozen=True, slots=True)
class StrategyMix:
    """The strategies of a run by name, and their weights in the same order."""

    strategies: Mapping[str, Strategy]
    weights: tuple[float, ...]

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        """Load the strategies of a config and check that they work under it.

        Raises:
            InputError: one of them does not, or a user's file cannot be loaded.
        """
        weights = parse_mix(config.strategy)
        strategies = [
            STRATEGIES[name].from_config(config)
            if name in STRATEGIES
            else load_custom_strategy(name, config)
            for name in weights
        ]
        for strategy in strategies:
            strategy.validate(config)
        by_name = {strategy.name: strategy for strategy in strategies}
        return cls(by_name, tuple(weights.values()))

    def choose(self, rng: random.Random) -> Strategy:
        """Return the strategy of a request; a mix of one draws no random number."""
        strategies = list(self.strategies.values())
        if len(strategies) == 1:
            return strategies[0]
        return rng.choices(strategies, self.weights)[0]

    def find(self, recorded_name: str) -> Strategy:
        """Return a strategy by the name that a run recorded, also by an old one."""
        return self.strategies[OLD_NAMES.get(recorded_name, recorded_name)]


def old_names_in(recorded: str) -> dict[str, str]:
    """Return the old names of strategies in the text that a run recorded, by today's names."""
    words = re.split("[,=]", recorded)
    return {new: old for old, new in OLD_NAMES.items() if old in words}
