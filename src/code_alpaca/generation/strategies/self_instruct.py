"""Self-Instruct: show a few tasks, ask for new ones.

After Wang et al. 2022 (https://arxiv.org/abs/2212.10560): each prompt mixes human seed tasks
with tasks that the teacher itself wrote earlier in this run, six and two as in the paper.
"""

from __future__ import annotations

from code_alpaca.generation.strategies.view import Asked, View, fields_of, render

TEMPLATES = ("self_instruct", "rules")
NUMBERED = "numbered"  # for base models, which continue text


def ask(view: View) -> Asked:
    """A prompt with random seed and pool tasks, in random order."""
    rng = view.rng
    shown = [
        *rng.sample(view.seed_tasks, min(view.seeds_per_request, len(view.seed_tasks))),
        *rng.sample(view.pool, min(view.pool_per_request, len(view.pool))),
    ]
    rng.shuffle(shown)
    tasks = [fields_of(task) for task in shown]
    ids = [task.id for task in shown]
    if view.numbered:
        first = len(tasks) + 1
        prompt = render(NUMBERED, tasks=tasks, last=len(tasks) + view.count, first=first)
        return Asked(prompt, ids, prefix=f"{first}. Instruction:")
    prompt = render(TEMPLATES[0], count=view.count, examples=tasks, wish=view.wish)
    return Asked(prompt, ids)
