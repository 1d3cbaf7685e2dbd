"""Self-Instruct: show a few tasks, request new ones.

After Wang et al. 2022 (https://arxiv.org/abs/2212.10560): each prompt mixes human-written seed
tasks with tasks that the teacher wrote earlier in this run, six and two as in the paper.
"""

from __future__ import annotations

from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy, prompt_fields


class SelfInstruct(Strategy):
    """Random seed tasks and accepted rows, in random order."""

    name = "self_instruct"
    templates = ("self_instruct", "rules")
    numbered_apis = ("completions",)
    numbered_templates = ("numbered",)

    def ask(self, context: PromptContext) -> Prompt:
        rng, seed_tasks, pool = context.rng, context.seed_tasks, context.pool
        examples = [
            *rng.sample(seed_tasks, min(context.seeds_per_request, len(seed_tasks))),
            *rng.sample(pool, min(context.pool_per_request, len(pool))),
        ]
        rng.shuffle(examples)
        tasks = [prompt_fields(task) for task in examples]
        ids = [task.id for task in examples]
        if context.numbered:
            first, last = len(tasks) + 1, len(tasks) + context.num_tasks
            text = context.render("numbered", tasks=tasks, last=last, first=first)
            return Prompt(text, ids, prefix=f"{first}. Instruction:")
        return Prompt(context.render("self_instruct", examples=tasks), ids)
