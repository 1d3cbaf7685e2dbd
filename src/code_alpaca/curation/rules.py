"""The config keys that decide which rows are accepted, shared by `generate` and `curate`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from code_alpaca import sandbox
from code_alpaca.core import console
from code_alpaca.core.config import StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import file_sha256
from code_alpaca.core.key_roles import Role
from code_alpaca.core.plugins import is_plugin, load_plugin
from code_alpaca.core.run_folder import RunInput
from code_alpaca.curation import filters
from code_alpaca.curation.decontamination.detect import ContaminationDetector
from code_alpaca.curation.novelty.measures import DEFAULT_THRESHOLDS
from code_alpaca.curation.pipeline import INTERNAL_ERROR, Curator
from code_alpaca.curation.verification import Verifier
from code_alpaca.problems import find_file


class CurationRules(StageConfig):
    """The keys that decide which rows are accepted."""

    VALUES_BEFORE: ClassVar = {"min_test_strength": 0.0}

    novelty: Literal["code_aware", "rouge_l"] = Field(
        "code_aware",
        description="similarity measure of tasks: words, operators and input within one language, "
        "or the ROUGE-L of instructions, as in 2023",
    )
    novelty_threshold: float | None = Field(
        None,
        ge=0,
        le=1,
        description="reject rows above this similarity; unset: "
        + ", ".join(f"{value} for {name}" for name, value in DEFAULT_THRESHOLDS.items()),
    )
    novelty_nearest: bool = Field(
        True,
        description="record the most similar accepted row of every row; false: much faster with "
        "millions of accepted rows",
    )
    filters: list[str] = Field(
        ["default"],
        description="filters by name, your own as FILE.py:NAME, or none; the set default is "
        f"{', '.join(filters.DEFAULT_FILTERS)}; the set alpaca_2023 is "
        f"{', '.join(filters.ALPACA_2023_FILTERS)}",
    )
    decontaminate: list[str] = Field(["mini"], description="benchmarks, files of problems, or none")
    contaminated: Literal["drop", "mark"] = Field(
        "drop", description="reject rows that leak a benchmark problem, or only mark them"
    )
    missing_benchmarks: Literal["refuse", "skip"] = Field(
        "refuse", description="refuse or skip a benchmark that cannot be fetched; the card names it"
    )
    verify: bool = Field(True, description="run outputs in a sandbox, with their tests if any")
    min_test_strength: float = Field(
        0.4,
        ge=0,
        le=1,
        description="share of faulty copies of an answer (mutants) that its tests have to detect; "
        "below it, verification is weak_tests and the row is not in verified; 0: not measured",
    )
    accept_edited_files: Annotated[bool, Role.FREE] = Field(
        False,
        description="resume a run with edited files of your own (filters, strategies, prompts)",
    )

    @model_validator(mode="before")
    @classmethod
    def _set_default_threshold(cls, values: dict[str, Any]) -> dict[str, Any]:
        measure = values.get("novelty", cls.model_fields["novelty"].default)
        if values.get("novelty_threshold") is None and measure in [*DEFAULT_THRESHOLDS]:
            return {**values, "novelty_threshold": DEFAULT_THRESHOLDS[measure]}
        return values

    @field_validator("filters", "decontaminate", mode="before")
    @classmethod
    def _read_names(cls, value: Any) -> Any:
        if value in (None, "none"):
            return []
        if isinstance(value, str):  # as on the command line
            return [name.strip() for name in value.split(",") if name.strip()]
        for item in value if isinstance(value, list) else [value]:
            if isinstance(item, dict) and len(item) == 1:
                ((file, name),) = item.items()
                raise ValueError(f"{file}: {name} is a mapping; remove the space: {file}:{name}")
        return value

    @field_validator("filters")
    @classmethod
    def _resolve_filters(cls, names: list[str]) -> list[str]:
        return filters.resolve_names(names, warn=True)

    @classmethod
    def update_recorded(cls, recorded: dict[str, Any]) -> dict[str, Any]:
        recorded = super().update_recorded(recorded)
        with contextlib.suppress(ValueError):  # of another version: reported as another config
            recorded["filters"] = filters.resolve_names(recorded.get("filters", ["default"]))
        return recorded

    def user_files(self) -> list[RunInput]:
        """Return the files of filters and benchmarks, whose content identifies the run.

        An edited benchmark is not accepted: earlier rows were not compared with its problems.
        """
        files = {}
        for kind, names in (("filter", self.filters), ("benchmark", self.decontaminate)):
            for name in filter(is_plugin, names):
                path, editable = name.rpartition(":")[0], kind == "filter"
                plugin = load_plugin(name, kind)
                files[path] = RunInput(
                    f"{path}_sha256", plugin.sha256, plugin.files, editable, decides_rows=True
                )
        for name in self.decontaminate:
            if path := find_file(name):
                files[name] = RunInput(
                    f"benchmark {name}_sha256", file_sha256(path), f"benchmark {name}"
                )
        return list(files.values())


@contextlib.contextmanager
def open_curator(rules: CurationRules, **changes: Any) -> Iterator[tuple[Curator, str]]:
    """Yield the curator for these rules, and a description of its benchmarks (JSON) for the card.

    At the end it prints warnings: benchmarks that were not searched, and failed checks.

    Args:
        changes: values that replace those of `rules`.
    """
    from code_alpaca.curation.novelty.pool import NoveltyPool  # compiles on import

    rules = rules.model_copy(update=changes)
    detector = ContaminationDetector(
        rules.decontaminate, skip_missing=rules.missing_benchmarks == "skip"
    )
    benchmarks = {
        # Names of files without their folders, since the card is published.
        "benchmarks": [Path(n).name for n in rules.decontaminate if n not in detector.missing],
        "problems": detector.num_problems,
        "missing": detector.missing,
        "policy": rules.contaminated,
    }
    curator = Curator(
        filters=rules.filters,
        contamination=detector,
        mark=rules.contaminated == "mark",
        verifier=_start_verifier(rules) if rules.verify else None,
        novelty=NoveltyPool(rules.novelty, rules.novelty_threshold, nearest=rules.novelty_nearest),
    )
    refused = False
    try:
        yield curator, json.dumps(benchmarks)
    except InputError:
        refused = True  # there are no rows to warn about
        raise
    finally:
        curator.close()
        if not refused:
            _print_warnings(rules, detector.missing, curator)


def _print_warnings(rules: CurationRules, missing: list[str], curator: Curator) -> None:
    if missing:
        console.warning(
            f"decontamination skipped for {', '.join(missing)}, which could not be "
            "fetched: no row was compared with it"
        )
    if not rules.decontaminate:
        console.note("decontamination is off: no row was compared with any benchmark")
    for evidence, _ in curator.failures.most_common(1):
        console.warning(
            f"{console.plural(curator.failures.total(), 'row')} rejected as {INTERNAL_ERROR}, "
            f"because code-alpaca failed on them ({evidence}); please report it with "
            "one of the rows"
        )


def print_outcomes(output: console.Stage, num_accepted: int, reasons: Mapping[str, int]) -> None:
    """Print how many rows were accepted, and how many were rejected for each reason."""
    num_rows = max(1, num_accepted + sum(reasons.values()))
    rejected = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    output.table(
        ["outcome", "rows", "share"],
        [
            (name, f"{count:,}", f"{count / num_rows:.1%}")
            for name, count in [("accepted", num_accepted), *rejected]
        ],
    )


def _start_verifier(rules: CurationRules) -> Verifier:
    try:
        backend = sandbox.choose_backend().backend
    except InputError as error:
        raise InputError(f"verify runs generated code: {error}, or set verify: false") from None
    return Verifier(sandbox.WorkerPool(backend), rules.min_test_strength)
