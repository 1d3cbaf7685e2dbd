"""Build the dataset folder of a run from its ledger."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from code_alpaca.core import console
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.redact import redact
from code_alpaca.core.row_checks import make_storable, validate_row
from code_alpaca.dataset.folder import DatasetContent, DatasetOptions, write_dataset
from code_alpaca.dataset.manifest import recover_manifest
from code_alpaca.dataset.origin_files import recorded_origin_files
from code_alpaca.hub.cards import strip_local_paths

# The key of a config that adds each optional column.
COLUMN_KEYS = {"test_strength": "min_test_strength", "reasoning": "keep_reasoning"}


def build_dataset(
    run_dir: Path,
    options: DatasetOptions | None = None,
    *,
    output_dir: Path | None = None,
    draw_plots: bool = True,
) -> Path:
    """Write `<run_dir>/dataset` from the run's ledger and return its path.

    Accepted rows that cannot be stored, or that are damaged in the ledger, are rejected.

    Args:
        options: what is None is kept from the existing folder; the first folder has the config's
            version, the license "other", no validation split and no repository.
        output_dir: write `dataset` there instead of `run_dir`.

    Raises:
        InputError: `run_dir` contains no run or no accepted row, or code-alpaca did not create
            `dataset/`.
    """
    previous = recover_manifest(run_dir / "dataset")
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        config = ledger.record("config")
        if config is None:
            raise InputError(f"{run_dir} contains no run; set another run_dir")
        rows = _LedgerRows(ledger, config.get("num_examples"))
        return write_dataset(
            output_dir or run_dir,
            DatasetContent(
                rows.accepted,
                rows.rejected,
                _provenance(ledger, config),
                recorded_origin_files(ledger),
                optional_columns=[name for name, key in COLUMN_KEYS.items() if config.get(key)],
            ),
            (options or DatasetOptions()).resolve(previous, config["dataset_version"]),
            previous,
            draw_plots=draw_plots,
        )


def _provenance(ledger: Ledger, config: dict[str, Any]) -> dict[str, Any]:
    """Return what the manifest records about the origin of the rows."""
    changes = ledger.record("config_changes", [])
    has_teacher = "teacher_model" in config
    if "strategy" in config:  # a mix may name users' files
        parts = map(strip_local_paths, config["strategy"].split(","))
        config = {**config, "strategy": ",".join(parts)}
    return {
        "teacher": _list_values(changes, "teacher_model", config.get("teacher_model", "unknown")),
        "embedded_teacher": str(config.get("teacher_base_url") or "").startswith("offline"),
        "strategy": config.get("strategy", "imported"),
        "source": publishable(config.get("source")),
        "source_revision": ledger.meta("source_revision"),
        **({"source_form": form} if (form := ledger.meta("source_form")) else {}),
        "prompt_version": _list_values(changes, "prompt_version", ledger.meta("prompt_version")),
        "seed_tasks_sha256": ledger.meta("seed_tasks_sha256"),
        "contamination": ledger.record("contamination"),
        "usage": ledger.usage() if has_teacher else None,
        "cost_usd": round(ledger.spent(), 6) if has_teacher else None,
        **({"price_sources": sources} if (sources := ledger.record("price_sources")) else {}),
        "config": {key: publishable(value) for key, value in config.items()},
        **({"config_changes": redact(changes)} if changes else {}),
        "pace": ledger.pace(),
    }


def _list_values(changes: list[dict[str, Any]], key: str, latest: str | None) -> str | None:
    """Return the values of a key in order, separated by commas; a resumed run can change some."""
    earlier = [change["changed"][key][0] for change in changes if key in change["changed"]]
    return ", ".join(dict.fromkeys([*earlier, latest])) if latest else None


def publishable(value: Any) -> Any:
    """Return a config value without secrets and local paths."""
    return redact(strip_local_paths(value))


class _LedgerRows:
    """The rows of a ledger; accepted rows that cannot be stored count as rejected."""

    def __init__(self, ledger: Ledger, limit: int | None) -> None:
        self._ledger, self._limit = ledger, limit
        self._unusable: list[Decision] = []

    def accepted(self) -> Iterator[dict[str, Any]]:
        return itertools.islice(self._usable(), self._limit)

    def rejected(self) -> Iterator[dict[str, Any]]:
        """Yield the rejected rows; call it after `accepted` is exhausted."""
        for decision in itertools.chain(self._ledger.rejected(self._limit), self._unusable):
            yield replace(decision, example=make_storable(decision.example)).as_row()
        if self._unusable:
            first = self._unusable[0]
            console.warning(
                f"rejected {console.plural(len(self._unusable), 'accepted row')} as unusable, "
                f"the first: {first.reason}, {first.evidence}"
            )

    def _usable(self) -> Iterator[dict[str, Any]]:
        self._unusable = []
        for _, _, decision in self._ledger.accepted_decisions():
            if not decision.reason and (fault := validate_row(decision.example)):
                decision = Decision(decision.example, *fault)
            if decision.reason:
                self._unusable.append(decision)
            else:
                yield decision.example.as_row()
