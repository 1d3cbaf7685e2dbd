"""What the embedded teacher composes: functions over integers, characters and words.

This is no language model. A composition is drawn from parts (reduce the transformed selected
values), its code is written from the same parts in any of the languages, and it is said in one
of many ways. `kinds` makes tasks of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from code_alpaca.teacher.offline.parts import (
    ARGUMENTS,
    CHARACTER_SELECTIONS,
    CONTEXTS,
    EMPTY,
    ENDINGS,
    FRAMES,
    LANGUAGE_NAMES,
    LANGUAGES,
    NOUNS,
    NUMBERS,
    REDUCTIONS,
    SELECTIONS,
    TEXT_ARGUMENTS,
    TEXT_CONTEXTS,
    TEXT_REDUCTIONS,
    TEXT_TRANSFORMATIONS,
    TRANSFORMATIONS,
    WORD_SELECTIONS,
    WORD_TRANSFORMATIONS,
    Part,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Composition:
    """A function over `values` (integers) or `text`: its name, its body and how to say it."""

    kind: str  # numbers | characters | words
    name: str
    reduction: Part
    condition: str
    expression: str
    what: str

    @property
    def source(self) -> str:
        """What the loop runs over."""
        return {"numbers": "values", "characters": "text", "words": "text.split()"}[self.kind]

    @property
    def argument(self) -> str:
        return "values" if self.kind == "numbers" else "text"

    @property
    def code(self) -> str:
        body = self.reduction.code.format(c=self.condition, e=self.expression, source=self.source)
        return f"def {self.name}({self.argument}):\n    return {body}"


# Compositions that only the mini benchmark asks for: every part of them occurs in others.
HELD_OUT = frozenset({
    "sum_even_squares", "list_odd_doubles", "largest_negative_cubes", "sorted_positive_negations",
    "smallest_above_7_triples", "first_even_plus_5", "sum_below_9_doubles",
    "list_multiples_of_3_squares", "distinct_positive_cubes", "last_odd_minus_4",
    "largest_multiples_of_5_doubles", "sum_nonzero_triples",
    "sorted_even_minus_2", "list_negative_plus_8", "first_above_10_squares", "count_digits",
    "join_vowels_upper", "list_longer_than_3_reversed", "join_letters_twice",
    "dashed_capitalized_lower",
})  # fmt: skip


def draw(rng: random.Random, kind: str | None = None, held_out: bool = False) -> Composition:
    """A composition, never a held-out one unless those are what is asked for."""
    while True:
        drawn = _draw(rng, kind or rng.choices(("numbers", "characters", "words"), (6, 1, 2))[0])
        if (drawn.name in HELD_OUT) == held_out:
            return drawn


def say(rng: random.Random, composition: Composition, language: str = "python") -> str:
    """An instruction that asks for a composition in a language."""
    numeric = composition.kind == "numbers"
    name = composition.name if language == "python" else camel(composition.name, language)
    sentence = rng.choice(FRAMES).format(
        lang=LANGUAGE_NAMES[language],
        sig=f"{name}({composition.argument})",
        what=composition.what,
        arg=rng.choice(ARGUMENTS if numeric else TEXT_ARGUMENTS),
    )
    edge = EMPTY[composition.reduction.name] if numeric and rng.random() < 0.5 else ""
    parts = (
        rng.choice(CONTEXTS if numeric else TEXT_CONTEXTS),
        sentence,
        edge,
        rng.choice(ENDINGS),
    )
    return " ".join(part for part in parts if part)


def tests_for(rng: random.Random, composition: Composition) -> str:
    """Three asserts whose expected values come from running the code itself."""
    function = function_of(composition.code, composition.name)
    samples: list[Any] = [sample(rng, composition.kind) for _ in range(2)]
    samples.append([] if composition.kind == "numbers" else "")
    return "\n".join(
        f"assert {composition.name}({value!r}) == {_literal(function(value))}" for value in samples
    )


def _draw(rng: random.Random, kind: str) -> Composition:
    reductions, selections, transformations = {
        "numbers": (REDUCTIONS, SELECTIONS, TRANSFORMATIONS),
        "characters": (TEXT_REDUCTIONS, CHARACTER_SELECTIONS, TEXT_TRANSFORMATIONS),
        "words": (TEXT_REDUCTIONS, WORD_SELECTIONS, WORD_TRANSFORMATIONS),
    }[kind]
    reduction, selection = rng.choice(reductions), rng.choice(selections)
    transformation = (
        transformations[0] if reduction.name == "count" else rng.choice(transformations)
    )
    slots = {
        "n": rng.choice(NUMBERS), "m": rng.choice(NUMBERS[:11]), "k": rng.randint(2, 7),
        "l": rng.choice("abdelmnorst"), "noun": rng.choice(NOUNS),
    }  # fmt: skip
    if "{noun}" in selection.words[0] and not transformation.name and slots["noun"] == "values":
        slots["noun"] = "numbers"
    words = rng.choice(selection.words).format(**slots)
    changed = rng.choice(transformation.words).format(**slots)
    names = (reduction.name, selection.name.format(**slots), transformation.name.format(**slots))
    return Composition(
        kind=kind,
        name="_".join(name for name in names if name),
        reduction=reduction,
        condition=selection.code.format(**slots),
        expression=transformation.code.format(**slots),
        what=f"{rng.choice(reduction.words)} the {changed + ' ' if changed else ''}{words}",
    )


def in_language(rng: random.Random, language: str) -> tuple[Composition, str]:
    """A composition that this language's table can write, and its code."""
    skeletons = LANGUAGES[language]
    item = draw(rng, "numbers")
    while item.reduction.name not in skeletons:
        item = draw(rng, "numbers")
    dollar = {"pc": item.condition.replace("v", "$v"), "pe": item.expression.replace("v", "$v")}
    code = skeletons[item.reduction.name].format(
        name=camel(item.name, language), c=item.condition, e=item.expression, **dollar
    )
    return item, code


def camel(name: str, language: str) -> str:
    """The function's name as the language's users write it."""
    if language in ("python", "ruby", "rust", "c", "c++", "php"):
        return name
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def sample(rng: random.Random, kind: str) -> list[int] | str:
    if kind == "numbers":
        return [rng.randint(-30, 60) for _ in range(rng.randint(4, 8))]
    words = (
        "Tom",
        "met",
        "7",
        "otters,",
        "near",
        "Lake",
        "Aral.",
        "and",
        "added",
        "12",
        "stones",
        "to",
        "a",
        "dam",
    )
    return " ".join(rng.choice(words) for _ in range(rng.randint(3, 7)))  # fmt: skip


def _literal(value: Any) -> str:
    """repr, but with sets in order: the text must not depend on the hash seed of the process."""
    if isinstance(value, set):
        return "{" + ", ".join(map(repr, sorted(value))) + "}" if value else "set()"
    return repr(value)


def function_of(code: str, name: str) -> Callable[[Any], Any]:
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # our own grammar's code, never a model's
    return namespace[name]
