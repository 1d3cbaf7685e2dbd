"""The algorithm of 2023, so that its results can be reproduced and compared.

Code Alpaca's (https://github.com/sahil280114/codealpaca), from Stanford Alpaca's: three random
human seeds in numbered text, a fourth begun, answers parsed back. Only human seeds are ever
shown. `seed_compat_defects` also brings back what was wrong with it: stop strings that cut any
answer with "20." in it, and a parser that loses a record at every "###" (see `parse_2023`).
"""

from __future__ import annotations

import re

from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.core.schema import SeedTask
from code_alpaca.generation.parsing import Candidate, dropped, unusable
from code_alpaca.generation.strategies.view import Asked, View, render
from code_alpaca.teacher.reply_parsing import ParsedReply

TEMPLATES = ("seed_compat",)
SEEDS = 3
LAST = 20
STOPS_2023 = ("\n20", "20.", "20.")


def ask(view: View) -> Asked:
    """Three human seeds, and the heading of the fourth task."""
    shown = view.rng.sample(view.seed_tasks, min(SEEDS, len(view.seed_tasks)))
    first = len(shown) + 1
    prompt = render(TEMPLATES[0], tasks=[_shown(task) for task in shown], first=first, last=LAST)
    return Asked(prompt, [task.id for task in shown], prefix=f"{first}. Instruction:")


def wanted(asked: Asked) -> int:
    """Tasks that one reply may hold: up to the twentieth, whatever tasks_per_request says."""
    return LAST - len(asked.seed_ids)


def parse_2023(answer: ParsedReply, first: int = SEEDS + 1) -> list[Candidate]:
    """The candidates as the 2023 parser found them, with its losses.

    Split at "###", each block split at its own number's headings, exactly seven pieces or it is
    lost; a skipped number loses every later record; the last block goes where the reply was cut.
    """
    if (early := unusable(answer)) is not None:
        return [early]
    blocks = re.split("###", f"{first}. Instruction:" + strip_reasoning(answer.text))
    candidates = []
    for place, block in enumerate(blocks):
        if place == len(blocks) - 1 and answer.truncated:
            candidates.append(dropped(block, "truncated"))
            continue
        number = place + first
        pieces = re.split(rf"{number}\.\s+(Instruction|Input|Output):", block)
        if len(pieces) != 7:
            candidates.append(dropped(block, "malformed"))
            continue
        given = pieces[4].strip()
        candidates.append(
            Candidate(
                instruction=pieces[2].strip(),
                input="" if given.lower() == "<noinput>" else given,
                output=pieces[6].strip(),
            )
        )
    return candidates


def _shown(task: SeedTask) -> dict[str, str]:
    return {
        "instruction": re.sub(r"\s+", " ", task.instruction).strip().rstrip(":"),
        "input": task.input or "<noinput>",
        "output": task.output,
    }
