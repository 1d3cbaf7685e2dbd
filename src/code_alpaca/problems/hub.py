"""Load a benchmark from the Hub, at a pinned commit unless the user names another revision."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.hub.lookup import HubReadError, HubUnreachable, look_up
from code_alpaca.problems.formats import Parser, parse_record, parse_records
from code_alpaca.problems.problem import Problem


@dataclass(frozen=True, slots=True)
class HubBenchmark:
    """A revision of a dataset on the Hub whose rows are problems."""

    dataset: str
    config: str
    revision: str
    parse: Parser = parse_record

    def load(self, *, all_splits: bool = False) -> list[Problem]:
        """Return the problems; without network, those in the local cache."""
        rows = self._download("all" if all_splits else "test")
        where = f"benchmark {self.dataset}, row"
        records = ((f"{where} {number}", row) for number, row in enumerate(rows, 1))
        return parse_records(records, self.parse, all_splits=all_splits)

    def describe(self) -> dict[str, str]:
        """Return dataset, config and revision."""
        return {"dataset": self.dataset, "config": self.config, "revision": self.revision}

    def _download(self, split: str) -> Any:
        from datasets import load_dataset

        revision = self.revision
        unreachable = _why_unreachable(self.dataset, revision)
        try:
            with _cache_only() if unreachable else nullcontext():
                rows = load_dataset(self.dataset, self.config, revision=revision, split=split)
                is_commit = re.fullmatch(r"[0-9a-f]{40}", revision)
                if unreachable and is_commit and revision not in rows.cache_files[0]["filename"]:
                    raise LookupError(f"{unreachable}; the cache has another revision")
                return rows
        except Exception as error:  # datasets raises errors of many libraries
            reason = unreachable or (str(error).splitlines() or [type(error).__name__])[0]
            raise InputError(
                f"cannot load benchmark {self.dataset} ({self.config}) at {revision[:7]} "
                f"({reason}); check the network, or give the path of a JSONL file in its format"
            ) from None


def _why_unreachable(dataset: str, revision: str) -> str:
    """Return why the Hub is unreachable, from one request; "" if it responds."""
    try:
        look_up(dataset, "dataset", revision)
    except HubUnreachable as error:
        return f"the Hub cannot be reached: {error}"
    except HubReadError:
        pass  # `load_dataset` reports it, unless its cache has the revision
    return ""


@contextmanager
def _cache_only() -> Iterator[None]:
    """Make `datasets` read its cache without requests, which it would retry for half a minute."""
    import datasets
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before
