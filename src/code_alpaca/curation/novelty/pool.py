"""Exact novelty: is this task too like one that we already have?

A task is dropped above the threshold and stays at it, in the order of the run: what is decided
of a row depends on the rows before it alone, not on how many are decided at once.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from code_alpaca.curation.novelty.index import NoveltyVerdict, SimilarityIndex, Vocabulary
from code_alpaca.curation.novelty.measures import (
    DEFAULT_THRESHOLDS,
    MEASURES,
    TaskText,
    TokenizedTask,
)

CHUNK = 4096  # tasks read at once, so that a million are not held as text


class TaskNeighbours(NamedTuple):
    """The most similar earlier tasks, best first, and the mean over all earlier ones."""

    id: str
    most_similar: list[tuple[str, float]]
    mean: float


class NoveltyPool:
    """The tasks kept so far, and the verdict on the next ones.

    Args:
        measure: one of MEASURES.
        threshold: from 0 to 1; None takes that of THRESHOLDS.
        nearest: find the most similar kept task of every task exactly, which takes a look at the
            sign of each (a few microseconds for a thousand kept tasks). Without, a verdict names
            some task that is too similar, or none, and its cost hardly grows with the pool.

    Raises:
        ValueError: there is no such measure, or the threshold is outside 0..1.
    """

    def __init__(
        self, measure: str = "code_aware", threshold: float | None = None, *, nearest: bool = True
    ) -> None:
        if measure not in MEASURES:
            raise ValueError(f"no measure {measure!r}; there are {', '.join(MEASURES)}")
        self.threshold = DEFAULT_THRESHOLDS[measure] if threshold is None else threshold
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"a threshold of {threshold} is outside 0..1")
        self._parts = MEASURES[measure]
        self._nearest = nearest
        self._vocabulary = Vocabulary()
        self._indices: dict[str, SimilarityIndex] = {}

    def __len__(self) -> int:
        return sum(len(index) for index in self._indices.values())

    def add(self, tasks: Iterable[TaskText]) -> None:
        """Take tasks in without asking: seeds, or rows that were accepted earlier."""
        tasks = iter(tasks)
        while chunk := list(itertools.islice(tasks, CHUNK)):
            groups: dict[str, tuple[list[str], list[TokenizedTask]]] = {}
            for task in chunk:
                parts = self._parts(task)
                ids, all_parts = groups.setdefault(parts.group, ([], []))
                ids.append(task.id)
                all_parts.append(parts)
            for group, (ids, all_parts) in groups.items():
                self._index(group).insert(ids, self._vocabulary.rows(all_parts))

    def check(self, tasks: Sequence[TaskText]) -> list[NoveltyVerdict]:
        """Decide tasks one after the other, as if each came alone; keep those that are fresh."""
        groups: dict[str, list[int]] = {}
        parts = [self._parts(task) for task in tasks]
        for i, each in enumerate(parts):
            groups.setdefault(each.group, []).append(i)
        verdicts: list[NoveltyVerdict] = [NoveltyVerdict("", 0.0, True)] * len(tasks)
        for group, members in groups.items():  # groups never meet, so their order is free
            index = self._index(group)
            rows = self._vocabulary.rows([parts[i] for i in members])
            ids = [tasks[i].id for i in members]
            decide = index.check_nearest if self._nearest else index.check
            for i, verdict in zip(members, decide(ids, rows), strict=True):
                verdicts[i] = verdict
        return verdicts

    def _index(self, group: str) -> SimilarityIndex:
        if group not in self._indices:
            self._indices[group] = SimilarityIndex(self.threshold, self._vocabulary)
        return self._indices[group]


def find_neighbours(
    tasks: Sequence[TaskText],
    measure: str = "code_aware",
    most: int = 10,
    threads: int | None = None,
) -> Iterator[TaskNeighbours]:
    """What Code Alpaca recorded in 2023: of each task the most similar of all before it.

    Equal scores go by age, the newest first. The mean counts tasks of other languages as 0. Every
    earlier task is looked at, so the cost of a task grows with their number (a millisecond at
    20,000): this is for after a run, in as many threads as there are cores.
    """
    vocabulary = Vocabulary()
    parts = [MEASURES[measure](task) for task in tasks]
    members: dict[str, list[int]] = {}
    for i, each in enumerate(parts):
        members.setdefault(each.group, []).append(i)
    indices = {}
    for group, places in members.items():
        indices[group] = SimilarityIndex(1.0, vocabulary)
        batch = vocabulary.rows([parts[i] for i in places])
        indices[group].insert([tasks[i].id for i in places], batch)
    place_in_group = {i: n for places in members.values() for n, i in enumerate(places)}
    own = threading.local()

    def look(i: int) -> TaskNeighbours:
        if not hasattr(own, "scratch"):
            own.scratch = {}
        index = indices[parts[i].group]
        found, total = index.most_similar(place_in_group[i], most, own.scratch)
        return TaskNeighbours(tasks[i].id, found, total / i if i else 0.0)

    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        yield from pool.map(look, range(len(tasks)))
