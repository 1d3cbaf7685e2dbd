"""Evol-Instruct: turn an existing task into a harder or a broader one.

After WizardLM (Xu et al. 2023, https://arxiv.org/abs/2304.12244) and, for code, WizardCoder
(Luo et al. 2023, https://arxiv.org/abs/2306.08568). The evolutions are worded by this project.
"""

from __future__ import annotations

from typing import ClassVar

from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy, prompt_fields

# These texts are part of the prompts: a change makes other datasets.
EVOLUTIONS = {
    "deepen": (
        "add one more requirement that changes the solution",
        "ask for a stated time or memory complexity that the obvious solution misses",
        "make the input messier: empty, repeated, malformed or very large values must be handled",
        "replace a common requirement by a rarer, more specific one",
        "turn working code into code with one realistic bug, to be found and mended",
    ),
    "broaden": (
        "keep the field but ask for a different kind of work on it: test, explain, port, speed up",
        "move the idea to another field of software",
        "move the task to another programming language and to what is idiomatic there",
    ),
}


class EvolInstruct(Strategy):
    """One accepted row to evolve, or a seed task while there are none."""

    name = "evol_instruct"
    templates = ("evol_instruct", "rules")
    phrases: ClassVar = {
        "way": [
            f"{way} (`direction` is {direction})"
            for direction, ways in EVOLUTIONS.items()
            for way in ways
        ]
    }

    def ask(self, context: PromptContext) -> Prompt:
        rng = context.rng
        base = rng.choice(context.pool) if context.pool else rng.choice(context.seed_tasks)
        direction = rng.choice(sorted(EVOLUTIONS))
        way = rng.choice(EVOLUTIONS[direction])
        task = prompt_fields(base)
        text = context.render("evol_instruct", task=task, direction=direction, way=way)
        return Prompt(text, [base.id])
