"""Build tasks that are often near-duplicates of one another."""

from __future__ import annotations

import random

from code_alpaca.core.schema import Example

WORDS = ["sort", "list", "of", "numbers", "in", "c++", "c#", "x", "!=", ">", "reverse", "2",
         "to_do", "é", "python", "日", "a", "b", "c", "d"]  # fmt: skip


def task(instruction: str, input: str = "", language: str = "", id: str = "") -> Example:
    return Example(instruction, input, "", id=id, language=language)


def make_similar_tasks(count: int, seed: int, longest: int = 14) -> list[Example]:
    """Return tasks of up to `longest` words; many are copies with a few words changed or moved."""
    rng, rows = random.Random(seed), []
    for number in range(count):
        if rows and rng.random() < 0.6:
            old = rng.choice(rows)
            words, text = old.instruction.split(), old.input
            for _ in range(rng.randint(0, 3)):
                place = rng.randrange(len(words) + 1)
                words[place : place + rng.randint(0, 1)] = rng.choices(WORDS, k=rng.randint(0, 1))
            if rng.random() < 0.2:
                text = rng.choice(["", "x = [1, 2]", "x = [1, 3]", "a != b", old.input + " y"])
        else:
            words, text = rng.choices([*WORDS, *"efghijklmnopq"], k=rng.randint(1, longest)), ""
        language = rng.choice(["python", "python", "rust"])
        rows.append(task(" ".join(words), text, language, id=f"r{number}"))
    return rows
