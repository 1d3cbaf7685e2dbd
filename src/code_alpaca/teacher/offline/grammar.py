"""Grammar of the embedded teacher: draw small functions over integers, characters and words.

A composition is drawn from terms of the vocabulary (a reduction of transformed selected values);
its instruction, its tests and its code in several languages follow from the same terms. `tasks`
builds complete tasks from compositions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass
from typing import Any

from code_alpaca.teacher.offline import vocabulary
from code_alpaca.teacher.offline.vocabulary import Term


@dataclass(frozen=True, slots=True)
class Composition:
    """A function over `values` (integers) or `text`, with its name, code and description."""

    kind: str  # numbers | characters | words
    name: str
    reduction: Term
    condition: str
    expression: str
    description: str

    @property
    def argument(self) -> str:
        return "values" if self.kind == "numbers" else "text"

    @property
    def source(self) -> str:
        """The expression that the loop iterates over."""
        return "text.split()" if self.kind == "words" else self.argument

    @property
    def code(self) -> str:
        body = self.reduction.code.format(c=self.condition, e=self.expression, source=self.source)
        return f"def {self.name}({self.argument}):\n    return {body}"

    def compile(self) -> Callable[[Any], Any]:
        """Return the function that the code defines."""
        namespace: dict[str, Any] = {}
        exec(self.code, namespace)  # code of this grammar, never of a model
        return namespace[self.name]


# Compositions reserved for the mini benchmark; each of their terms occurs in other compositions.
HELD_OUT = frozenset({
    "sum_even_squares", "list_odd_doubles", "largest_negative_cubes", "sorted_positive_negations",
    "smallest_above_7_triples", "first_even_plus_5", "sum_below_9_doubles",
    "list_multiples_of_3_squares", "distinct_positive_cubes", "last_odd_minus_4",
    "largest_multiples_of_5_doubles", "sum_nonzero_triples",
    "sorted_even_minus_2", "list_negative_plus_8", "first_above_10_squares", "count_digits",
    "join_vowels_upper", "list_longer_than_3_reversed", "join_letters_twice",
    "dashed_capitalized_lower",
})  # fmt: skip


def draw_composition(
    rng: random.Random, kind: str | None = None, reductions: Container[str] | None = None
) -> Composition:
    """Draw a composition that is not in the mini benchmark, with one of these reductions."""
    while True:
        drawn = _draw(rng, kind or rng.choices(("numbers", "characters", "words"), (6, 1, 2))[0])
        allowed = reductions is None or drawn.reduction.name in reductions
        if allowed and drawn.name not in HELD_OUT:
            return drawn


def draw_in_language(rng: random.Random) -> tuple[Composition, str, str]:
    """Draw a composition and a language other than Python; return them with the code."""
    language = rng.choice(sorted(vocabulary.CODE_TEMPLATES))
    templates = vocabulary.CODE_TEMPLATES[language]
    item = draw_composition(rng, "numbers", templates)
    code = templates[item.reduction.name].format(
        name=format_function_name(item.name, language),
        c=item.condition,
        e=item.expression,
        pc=item.condition.replace("v", "$v"),
        pe=item.expression.replace("v", "$v"),
    )
    return item, language, code


def write_instruction(rng: random.Random, item: Composition, language: str = "python") -> str:
    """Write an instruction to implement a composition in a language."""
    numeric = item.kind == "numbers"
    name = format_function_name(item.name, language)
    arguments = vocabulary.ARGUMENT_PHRASES if numeric else vocabulary.TEXT_ARGUMENT_PHRASES
    sentence = rng.choice(vocabulary.INSTRUCTION_TEMPLATES).format(
        lang=vocabulary.LANGUAGE_NAMES[language],
        sig=f"{name}({item.argument})",
        what=item.description,
        arg=rng.choice(arguments),
    )
    with_note = numeric and rng.random() < 0.5
    note = vocabulary.EMPTY_CASE_NOTES[item.reduction.name] if with_note else ""
    context = rng.choice(vocabulary.CONTEXTS if numeric else vocabulary.TEXT_CONTEXTS)
    parts = (context, sentence, note, rng.choice(vocabulary.ENDING_PHRASES))
    return " ".join(part for part in parts if part)


def write_tests(rng: random.Random, item: Composition) -> str:
    """Write three asserts; the expected values come from running the code."""
    function = item.compile()
    samples: list[Any] = [draw_argument(rng, item.kind) for _ in range(2)]
    samples.append([] if item.kind == "numbers" else "")
    lines = [f"assert {item.name}({v!r}) == {_literal(function(v))}" for v in samples]
    return "\n".join(lines)


def _draw(rng: random.Random, kind: str) -> Composition:
    reductions, selections, transformations = vocabulary.TERMS[kind]
    reduction, selection = rng.choice(reductions), rng.choice(selections)
    is_count = reduction.name == "count"
    transformation = transformations[0] if is_count else rng.choice(transformations)
    slots = {
        "n": rng.choice(vocabulary.NUMBERS),
        "m": rng.choice(vocabulary.NUMBERS[:11]),
        "k": rng.randint(2, 7),
        "l": rng.choice("abdelmnorst"),
        "noun": rng.choice(vocabulary.NOUNS),
    }
    if "{noun}" in selection.phrases[0] and not transformation.name and slots["noun"] == "values":
        slots["noun"] = "numbers"
    selected = rng.choice(selection.phrases).format(**slots)
    transformed = rng.choice(transformation.phrases).format(**slots)
    values = f"{transformed} {selected}" if transformed else selected
    names = (reduction.name, selection.name.format(**slots), transformation.name.format(**slots))
    return Composition(
        kind=kind,
        name="_".join(name for name in names if name),
        reduction=reduction,
        condition=selection.code.format(**slots),
        expression=transformation.code.format(**slots),
        description=f"{rng.choice(reduction.phrases)} the {values}",
    )


def format_function_name(name: str, language: str) -> str:
    """Return a function name in the language's naming convention."""
    if language in ("python", "ruby", "rust", "c", "c++", "php"):
        return name
    head, *tail = name.split("_")
    return head + "".join(part.capitalize() for part in tail)


def draw_argument(rng: random.Random, kind: str) -> list[int] | str:
    """Draw an argument for the function of a composition."""
    if kind == "numbers":
        return [rng.randint(-30, 60) for _ in range(rng.randint(4, 8))]
    words = ("Tom", "met", "7", "otters,", "near", "Lake", "Aral.", "and", "added", "12", "stones",
             "to", "a", "dam")  # fmt: skip
    return " ".join(rng.choice(words) for _ in range(rng.randint(3, 7)))


def _literal(value: Any) -> str:
    """Return repr(value) with sets sorted, so that it does not depend on PYTHONHASHSEED."""
    if isinstance(value, set):
        return "{" + ", ".join(map(repr, sorted(value))) + "}" if value else "set()"
    return repr(value)
