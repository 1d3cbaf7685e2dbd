"""A run's folder: made by one config, gone on with by the same, refused to any other."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from code_alpaca.config import StageConfig, write_yaml
from code_alpaca.errors import InputError
from code_alpaca.ledger import Ledger, now
from code_alpaca.teacher import offline

# Where a run may differ from its first command: how fast, how far, for how much and where to;
# never what.
FREE_KEYS = {
    "run_dir", "num_examples", "max_concurrency", "request_timeout_s", "patience", "dry_run",
    "requests_per_minute", "tokens_per_minute", "max_cost_usd", "price_per_mtok_input",
    "price_per_mtok_output", "batch_poll_s", "checkpoint_every", "report_to", "dataset_version",
    "teacher_base_url", "hub_dataset_id", "push_to_hub", "private",
}  # fmt: skip


@contextlib.contextmanager
def open_run(run_dir: Path, config: StageConfig, facts: Mapping[str, str]) -> Iterator[Ledger]:
    """The ledger of `run_dir`, made or found.

    Args:
        facts: hashes of what the config only names (seed tasks, prompts, snippets).

    Raises:
        InputError: the folder was made by another config, or from other facts.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make run_dir {run_dir}: {error.strerror}") from None
    with Ledger(run_dir / "ledger.sqlite") as ledger:
        resolved = json.loads(config.model_dump_json())
        before = json.loads(ledger.meta("config") or "null")
        if before is None or ledger.cost_nothing():
            ledger.forget()  # nothing was paid for: a first mistake may be mended
            for key, value in facts.items():
                ledger.set_meta(key, value)
            ledger.set_meta("created_at", now())
        else:
            _same_run(run_dir, before, resolved)
            for key, value in facts.items():
                if ledger.meta(key) != value:
                    raise InputError(
                        f"{run_dir} was made with another {key.removesuffix('_sha256')}; "
                        "use a new run_dir, or put the old one back"
                    )
        ledger.set_meta("config", json.dumps(resolved))
        write_yaml(run_dir / "config.yaml", resolved)
        yield ledger


def _same_run(run_dir: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    keys = [key for key in new if key not in FREE_KEYS and old.get(key) != new[key]]
    # A real teacher may move to another host; the embedded one and a real one are two teachers.
    before, after = (offline.is_offline(each.get("teacher_base_url")) for each in (old, new))
    if before != after:
        keys.append("teacher_base_url")
    if keys:
        different = "; ".join(f"{key}: {old.get(key)!r} there, {new[key]!r} now" for key in keys)
        raise InputError(
            f"{run_dir} holds a run of another config ({different}); "
            "use a new run_dir, or the old values to go on with it"
        )
