"""Compose the tasks of the embedded teacher: one function per kind of task.

To add a kind, write a function and give it a weight in `KINDS`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from code_alpaca.teacher.offline import grammar, phrases, vocabulary
from code_alpaca.teacher.offline.grammar import Composition


@dataclass(frozen=True, slots=True)
class ComposedTask:
    """One task; `tests` are asserts for a Python output, or "" for other outputs."""

    instruction: str
    input: str
    output: str
    language: str
    tests: str
    task_type: str
    difficulty: str


def compose_task(rng: random.Random) -> ComposedTask:
    """Return one task, a pure function of the state of `rng`."""
    kinds, weights = zip(*KINDS, strict=True)
    return rng.choices(kinds, weights)[0](rng)


def _generation(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng)
    difficulty = "easy" if item.expression == "v" else "medium"
    tests = grammar.write_tests(rng, item)
    instruction = grammar.write_instruction(rng, item)
    return ComposedTask(instruction, "", item.code, "python", tests, "generation", difficulty)


def _other_language(rng: random.Random) -> ComposedTask:
    item, language, code = grammar.draw_in_language(rng)
    instruction = grammar.write_instruction(rng, item, language)
    return ComposedTask(instruction, "", code, language, "", "generation", "medium")


def _translation(rng: random.Random) -> ComposedTask:
    item, language, code = grammar.draw_in_language(rng)
    instruction = _instruct(rng, phrases.TRANSLATION, item, t=vocabulary.LANGUAGE_NAMES[language])
    return ComposedTask(instruction, item.code, code, language, "", "translation", "medium")


def _debugging(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng)
    other = grammar.draw_composition(rng, item.kind)
    while other.condition == item.condition:
        other = grammar.draw_composition(rng, item.kind)
    broken = item.code.replace(f"if {item.condition}", f"if {other.condition}")
    instruction = _instruct(rng, phrases.DEBUGGING, item)
    tests = grammar.write_tests(rng, item)
    return ComposedTask(instruction, broken, item.code, "python", tests, "debugging", "medium")


def _completion(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng)
    instruction = _instruct(rng, phrases.COMPLETION, item)
    stub = f'def {item.name}({item.argument}):\n    """Return {item.description}."""\n    ...'
    tests = grammar.write_tests(rng, item)
    return ComposedTask(instruction, stub, item.code, "python", tests, "completion", "easy")


def _editing(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng)
    verb = rng.choice(("compute", "select", "pick", "evaluate", "process", "summarize"))
    name = f"{verb}_{item.name}"
    instruction = _instruct(rng, phrases.EDITING, item, new=name)
    tests = grammar.write_tests(rng, item).replace(f"{item.name}(", f"{name}(")
    output = item.code.replace(f"def {item.name}(", f"def {name}(")
    return ComposedTask(instruction, item.code, output, "python", tests, "editing", "easy")


def _optimization(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng, reductions=("sum", "list"))
    start, step = "0", f"result += {item.expression}"
    if item.reduction.name == "list":
        start, step = "[]", f"result = result + [{item.expression}]"
    loop = (
        f"def {item.name}({item.argument}):\n    result = {start}\n    for v in {item.source}:\n"
        f"        if {item.condition}:\n            {step}\n    return result"
    )
    instruction = _instruct(rng, phrases.OPTIMIZATION, item)
    tests = grammar.write_tests(rng, item)
    return ComposedTask(instruction, loop, item.code, "python", tests, "optimization", "medium")


def _explanation(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng)
    instruction = _instruct(rng, phrases.EXPLANATION, item)
    verb = rng.choice(("returns", "computes", "gives back"))
    output = f"`{item.name}` {verb} {item.description} in `{item.argument}`."
    return ComposedTask(instruction, item.code, output, "python", "", "explanation", "easy")


def _classification(rng: random.Random) -> ComposedTask:
    item, language, code = grammar.draw_in_language(rng)
    if rng.random() < 0.5:
        name = grammar.format_function_name(item.name, language)
        instruction = _instruct(rng, phrases.LANGUAGE_CLASSIFICATION, item, n=name)
        output = vocabulary.LANGUAGE_NAMES[language]
        return ComposedTask(instruction, code, output, language, "", "classification", "easy")
    instruction = _instruct(rng, phrases.COMPLEXITY_CLASSIFICATION, item)
    output = "O(n): each element is looked at once."
    if item.reduction.name == "sorted":
        output = "O(n log n): sorting dominates the single pass over the elements."
    return ComposedTask(instruction, item.code, output, "python", "", "classification", "medium")


def _testing(rng: random.Random) -> ComposedTask:
    item = grammar.draw_composition(rng)
    instruction = _instruct(rng, phrases.TESTING, item)
    asserts = grammar.write_tests(rng, item).replace("\n", "\n    ")
    output = f"def test_{item.name}():\n    {asserts}"
    tests = f"{item.code}\n\ntest_{item.name}()"
    return ComposedTask(instruction, item.code, output, "python", tests, "testing", "medium")


def _sql(rng: random.Random) -> ComposedTask:
    table, (number, group, category, options) = rng.choice(list(vocabulary.SQL_TABLES.items()))
    function, aggregate_names = rng.choice(list(vocabulary.SQL_AGGREGATES.items()))
    option, limit = rng.choice(options), rng.choice(vocabulary.NUMBERS) * 5
    aggregate, column = rng.choice(aggregate_names), f"{function}({number})"
    conditions = (
        (f"{category} = '{option}'", f"where the {category} is {option}"),
        (f"{number} > {limit}", f"with a {number} above {limit}"),
        (f"{category} <> '{option}'", f"leaving out the {category} {option}"),
    )
    condition, description = rng.choice(conditions)
    slots = {"s": aggregate, "n": number, "g": group, "t": table, "w": description}
    instruction = rng.choice(phrases.SQL).format(**slots)
    query = f"SELECT {group}, {column}\nFROM {table}\nWHERE {condition}\nGROUP BY {group}"
    if rng.random() < 0.5:
        order = rng.choice(("Sort by", "Order the result alphabetically by"))
        instruction += f" {order} {group}."
        query += f"\nORDER BY {group}"
    return ComposedTask(instruction, "", query + ";", "sql", "", "sql", "medium")


def _shell(rng: random.Random) -> ComposedTask:
    number, limit = rng.randint(2, 9), rng.choice(vocabulary.NUMBERS) * 10
    extension = rng.choice(("log", "csv", "txt", "md", "json", "py"))
    word = rng.choice(("ERROR", "warning", "timeout", "user", "failed", "GET"))
    instructions, command = rng.choice(phrases.SHELL)
    slots = {"x": extension, "w": word, "n": number, "l": limit}
    instruction = rng.choice(instructions).format(**slots)
    return ComposedTask(instruction, "", command.format(**slots), "bash", "", "shell", "medium")


def _regex(rng: random.Random) -> ComposedTask:
    low = rng.randint(2, 6)
    high = low + rng.randint(1, 6)
    kind, character_class = rng.choice(phrases.CHARACTER_CLASSES)
    prefix = rng.choice(("", "ID-", "v", "#", "0x", "no."))
    start = f' after the prefix "{prefix}"' if prefix else ""
    instruction = rng.choice(phrases.REGEX).format(a=low, b=high, k=kind, s=start)
    pattern = f"^{prefix.replace('.', chr(92) + '.')}{character_class}{{{low},{high}}}$"
    return ComposedTask(instruction, "", pattern, "regex", "", "regex", "medium")


def _data_structure(rng: random.Random) -> ComposedTask:
    limit = rng.choice(vocabulary.NUMBERS) * 5
    item = grammar.draw_composition(rng, "numbers", ("sum", "list", "largest", "smallest"))
    name = rng.choice(("Bag", "Buffer", "Collector", "Tracker", "Window", "Recorder", "Journal"))
    body = item.reduction.code.replace("values", "self.items")
    code = (
        f"class {name}:\n    def __init__(self):\n        self.items = []\n\n"
        "    def add(self, value):\n"
        f"        self.items.append(value)\n        del self.items[:-{limit}]\n\n"
        f"    def {item.name}(self):\n"
        f"        return {body.format(c=item.condition, e=item.expression)}"
    )
    instruction = _instruct(rng, phrases.DATA_STRUCTURE, item, c=name, l=limit)
    values = grammar.draw_argument(rng, "numbers")
    tests = (
        f"box = {name}()\nfor value in {values!r}:\n    box.add(value)\n"
        f"assert box.{item.name}() == {item.compile()(values)!r}\n"
        f"for value in range({limit + 9}):\n    box.add(value)\n"
        f"assert len(box.items) == {limit}"
    )
    return ComposedTask(instruction, "", code, "python", tests, "data_structures", "hard")


def _instruct(rng: random.Random, templates: Sequence[str], item: Composition, **slots: Any) -> str:
    return rng.choice(templates).format(**{"n": item.name, "w": item.description, **slots})


# Kinds of task with their weights.
KINDS: tuple[tuple[Callable[[random.Random], ComposedTask], int], ...] = (
    (_generation, 46), (_other_language, 8), (_translation, 5), (_debugging, 7), (_completion, 6),
    (_editing, 3), (_optimization, 4), (_explanation, 4), (_classification, 3), (_testing, 3),
    (_sql, 5), (_shell, 2), (_regex, 2), (_data_structure, 2),
)  # fmt: skip
