"""Topics: one seed task as the pattern, and a subject drawn from a list.

A small model copies what a prompt shows. So the prompt shows little, one kind of task, and names
another subject, as the attributed prompts of Yu et al. 2023 do (https://arxiv.org/abs/2306.15895).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from code_alpaca.core.schema import SeedTask
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy, prompt_fields

NUM_EXAMPLES = 2  # the pattern and one more task like it
# These texts are part of the prompts: a change makes other datasets.
TOPICS = """
    dates and times, time zones, calendars, scheduling, money and prices, discounts and taxes,
    currencies, invoices, shopping carts, inventory, orders and deliveries, bank accounts, loans,
    users and permissions, passwords, sessions, strings, text parsing, word counts, formatting text,
    templates, markup, spelling, names and addresses, phone numbers, e-mail addresses, URLs,
    file paths, file sizes, log lines, CSV rows, JSON documents, configuration, version numbers,
    command-line arguments, units of measure, number systems, prime numbers, fractions, rounding,
    sequences of numbers, statistics, moving averages, probability, random samples, geometry,
    distances, coordinates and maps, grids, matrices, vectors, polynomials, bit manipulation,
    checksums, encodings, compression, ciphers, colors, images as pixels, audio levels,
    lists of numbers, nested lists, dictionaries, sets, counters, ranges and intervals, sorting,
    searching, filtering, grouping, merging, removing repetitions, stacks and queues,
    priority queues, linked lists, trees, graphs, recursion, dynamic programming, backtracking,
    caching, iterators, generators, classes and inheritance, error handling, validation,
    state machines, events and callbacks, rate limits, retries, undo and redo, pagination,
    board games, card games, dice, puzzles, scores and rankings, tournaments, school grades,
    surveys, recipes, weather data, sensor readings, music playlists, libraries and books,
    movies and ratings, travel and tickets, sports results, elections, health records, chat messages
"""


class Topics(Strategy):
    """Seed tasks as patterns; made for models of a few billion parameters and less."""

    name = "topics"
    templates = ("topics",)
    phrases: ClassVar = {"topic": [" ".join(topic.split()) for topic in TOPICS.split(",")]}

    def ask(self, context: PromptContext) -> Prompt:
        rng, labels = context.rng, context.labels
        pattern = rng.choice(_best_matches(context.seed_tasks, labels))
        others = [
            task
            for task in context.seed_tasks
            if _form(task) == _form(pattern) and task is not pattern
        ]
        language = labels.get("language", pattern.language)
        kind = labels.get("task_type", pattern.task_type).replace("_", " ")
        num_others = min(NUM_EXAMPLES, context.seeds_per_request) - 1
        examples = [pattern, *rng.sample(others, min(num_others, len(others)))]
        text = context.render(
            "topics",
            examples=[prompt_fields(task) for task in examples],
            # Tests are Python; a pattern in another language than requested may have some.
            has_tests=bool(pattern.tests) and language == pattern.language,
            kind=", ".join(filter(None, [kind, language])) or "code",
            topic=rng.choice(self.phrases["topic"]),
        )
        return Prompt(text, [task.id for task in examples])


def _best_matches(tasks: Sequence[SeedTask], labels: Mapping[str, str]) -> list[SeedTask]:
    """Return the tasks with the most of the requested labels; seed tasks have no difficulty."""

    def num_matches(task: SeedTask) -> int:
        return sum(
            labels[name].casefold() == getattr(task, name).casefold()
            for name in labels.keys() & {"language", "task_type"}
        )

    most = max(map(num_matches, tasks))
    return [task for task in tasks if num_matches(task) == most]


def _form(task: SeedTask) -> tuple[str, bool, bool]:
    return task.task_type, bool(task.input), bool(task.tests)
