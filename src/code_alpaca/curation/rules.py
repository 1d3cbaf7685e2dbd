"""The keys that say what is kept, for rows that a teacher writes and for rows that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from code_alpaca import sandbox
from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.filters import DEFAULT_FILTERS, FILTER_NAMES
from code_alpaca.curation.guard import INTERNAL_ERROR, GuardedCurator
from code_alpaca.curation.novelty.measures import DEFAULT_THRESHOLDS
from code_alpaca.curation.verification import Verifier


class CurationRules(StageConfig):
    """What a row must be to be accepted."""

    novelty: Literal["code_aware", "rouge_l"] = Field(
        "code_aware",
        description="similarity of tasks: words, operators and input within one language; or the "
        "ROUGE-L of instructions, as in 2023",
    )
    novelty_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="drop above this similarity; none: "
        + ", ".join(f"{value} for {name}" for name, value in DEFAULT_THRESHOLDS.items()),
    )
    novelty_nearest: bool = Field(
        True,
        description="record the most similar kept row of every row; false: faster by far where "
        "millions are kept",
    )
    filters: list[str] = Field(
        list(DEFAULT_FILTERS),
        description=f"filters by name, or none; there are {', '.join(FILTER_NAMES)}",
    )
    decontaminate: list[str] = Field(
        ["mini"], description="benchmarks by name or files in their form, or none"
    )
    contaminated: Literal["drop", "mark"] = Field(
        "drop", description="what becomes of rows that give a benchmark problem away"
    )
    missing_benchmarks: Literal["refuse", "skip"] = Field(
        "refuse", description="what to do where a benchmark cannot be fetched; the card says it"
    )
    verify: bool = Field(True, description="run answers, with their tests where they have some")

    @model_validator(mode="before")
    @classmethod
    def _threshold_of_the_measure(cls, values: dict[str, Any]) -> dict[str, Any]:
        measure = values.get("novelty", cls.model_fields["novelty"].default)
        if values.get("novelty_threshold") is None and measure in DEFAULT_THRESHOLDS:
            return {**values, "novelty_threshold": DEFAULT_THRESHOLDS[measure]}
        return values

    @field_validator("filters", "decontaminate", mode="before")
    @classmethod
    def _none_is_empty(cls, value: Any) -> Any:
        return [] if value in (None, "none") else value

    @field_validator("filters")
    @classmethod
    def _known_filters(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in FILTER_NAMES:
                raise ValueError(f"no filter {name!r}; there are {', '.join(FILTER_NAMES)}")
        return names


@contextmanager
def open_curator(rules: CurationRules, **changes: Any) -> Iterator[tuple[GuardedCurator, str]]:
    """The curator that the keys ask for, and what to remember of its benchmarks (JSON).

    At the end it prints what the user must know of the rows: that they were not compared with a
    benchmark, or that a check failed on some.

    Raises:
        InputError: a benchmark that is not there, or no sandbox that holds.
    """
    from code_alpaca.curation.novelty.pool import NoveltyPool  # compiles on import

    rules = rules.model_copy(update=changes)
    index = ContaminationDetector(
        rules.decontaminate, skip_missing=rules.missing_benchmarks == "skip"
    )
    facts = {
        # Of a file the name alone: the card is published, and a path tells of its maker's disk.
        "benchmarks": [Path(n).name for n in rules.decontaminate if n not in index.missing],
        "problems": index.num_problems,
        "missing": index.missing,
        "policy": rules.contaminated,
    }
    curator = GuardedCurator(
        filters=rules.filters,
        contamination=index,
        mark=rules.contaminated == "mark",
        verifier=Verifier(sandbox.WorkerPool(_sandbox())) if rules.verify else None,
        novelty=NoveltyPool(rules.novelty, rules.novelty_threshold, nearest=rules.novelty_nearest),
    )
    started = True
    try:
        yield curator, json.dumps(facts)
    except InputError:
        started = False  # refused: there are no rows to warn of
        raise
    finally:
        curator.close()
        for line in _warnings(rules, index, curator) if started else ():
            print(line)


def _warnings(
    rules: CurationRules, index: ContaminationDetector, curator: GuardedCurator
) -> Iterator[str]:
    if index.missing:
        yield (
            f"warning   decontamination skipped for {', '.join(index.missing)}, which could not be "
            "fetched: no row was compared with it"
        )
    if not rules.decontaminate:
        yield "note      decontaminate: none: no row was compared with any benchmark"
    if curator.failures:
        (evidence, _), *_ = curator.failures.most_common(1)
        yield (
            f"warning   {curator.failures.total()} rows were rejected as {INTERNAL_ERROR}, because "
            f"code-alpaca failed on them ({evidence}); please report it with such a row"
        )


def _sandbox() -> sandbox.Backend:
    try:
        return sandbox.choose_backend().backend
    except InputError as error:
        raise InputError(f"verify runs generated code: {error}, or set verify: false") from None
