"""Evol-Instruct: make a harder or a wider task out of one that we have.

After WizardLM (Xu et al. 2023, https://arxiv.org/abs/2304.12244) and, for code, WizardCoder
(Luo et al. 2023, https://arxiv.org/abs/2306.08568). The ways to evolve are our own words.
"""

from __future__ import annotations

from code_alpaca.generation.strategies.view import Asked, View, fields_of, render

TEMPLATES = ("evol_instruct", "rules")
WAYS = {
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


def ask(view: View) -> Asked:
    """A prompt that evolves one accepted row, or a seed task while there are none."""
    rng = view.rng
    base = rng.choice(view.pool) if view.pool else rng.choice(view.seed_tasks)
    direction = rng.choice(sorted(WAYS))
    way = rng.choice(WAYS[direction])
    prompt = render(
        TEMPLATES[0],
        count=view.count,
        task=fields_of(base),
        direction=direction,
        way=way,
        wish=view.wish,
    )
    return Asked(prompt, [base.id])
