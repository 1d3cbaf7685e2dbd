"""The original algorithm of Code Alpaca (2023), to reproduce and compare its results.

After https://github.com/sahil280114/codealpaca: three random seed tasks as numbered text and the
heading of a fourth. Accepted rows are never shown. `alpaca_2023_defects` also reproduces its
defects: stop strings that truncate any answer containing "20.", a parser that loses a record at
every "###" (see `parse_2023`), its filters and its similarity.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Self

from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.core.schema import SeedTask
from code_alpaca.generation.candidates import Candidate, reject_reply, reject_text
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy
from code_alpaca.teacher.reply_parsing import ParsedReply

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig

NUM_SEED_TASKS = 3
LAST_TASK = 20


class Alpaca2023(Strategy):
    """Three seed tasks, and the heading of the fourth."""

    name = "alpaca_2023"
    numbered_apis = ("chat", "responses", "completions")
    numbered_templates = ("alpaca_2023",)
    own_keys = ("alpaca_2023_defects",)

    def __init__(self, *, defects: bool = False) -> None:
        self.defects = defects
        if defects:
            self.stop = ("\n20", "20.", "20.")
            self.curation_overrides = {"filters": ["alpaca_2023"], "novelty": "rouge_l"}

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        return cls(defects=config.alpaca_2023_defects)

    def tasks_per_request(self, prompt: Prompt, default: int) -> int:
        return LAST_TASK - len(prompt.seed_ids)  # the prompt requests a list of twenty

    def ask(self, context: PromptContext) -> Prompt:
        seed_tasks = context.seed_tasks
        examples = context.rng.sample(seed_tasks, min(NUM_SEED_TASKS, len(seed_tasks)))
        first = len(examples) + 1
        tasks = list(map(_prompt_fields, examples))
        text = context.render("alpaca_2023", tasks=tasks, first=first, last=LAST_TASK)
        return Prompt(text, [task.id for task in examples], prefix=f"{first}. Instruction:")

    def parse(self, reply: ParsedReply, prefix: str, *, numbered: bool) -> list[Candidate]:
        if self.defects:
            return parse_2023(reply, first=int(prefix.split(".")[0]))
        return super().parse(reply, prefix, numbered=numbered)


def parse_2023(reply: ParsedReply, first: int = NUM_SEED_TASKS + 1) -> list[Candidate]:
    """Return the candidates that the 2023 parser found, with its losses.

    The text is split at "###" and each block at the headings of its number. A skipped number loses
    every later record, and a truncated reply loses its last block.
    """
    if (rejected := reject_reply(reply)) is not None:
        return [rejected]
    blocks = re.split("###", f"{first}. Instruction:" + strip_reasoning(reply.text))
    candidates = []
    for number, block in enumerate(blocks, first):
        pieces = re.split(rf"{number}\.\s+(Instruction|Input|Output):", block)
        if reply.truncated and number == first + len(blocks) - 1:
            candidates.append(reject_text(block, "truncated"))
        elif len(pieces) != 7:
            candidates.append(reject_text(block, "malformed"))
        else:
            _, _, instruction, _, task_input, _, output = map(str.strip, pieces)
            task_input = "" if task_input.lower() == "<noinput>" else task_input
            candidates.append(Candidate(instruction, task_input, output))
    return candidates


def _prompt_fields(task: SeedTask) -> dict[str, str]:
    return {
        "instruction": re.sub(r"\s+", " ", task.instruction).strip().rstrip(":"),
        "input": task.input or "<noinput>",
        "output": task.output,
    }
