"""Explain why many replies in a row yielded no accepted row, and what to do about it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.console import plural
from code_alpaca.core.ledger import Ledger
from code_alpaca.curation.filters import DUPLICATE_OUTPUT
from code_alpaca.curation.pipeline import TOO_SIMILAR
from code_alpaca.generation.request_plan import RequestPlan, read_prompt

RERUN_EDITED = "rerun the same command with --accept_edited_files true"


@dataclass(frozen=True, slots=True)
class FruitlessReplies:
    """The latest replies of a run, none of which had an accepted row."""

    plan: RequestPlan
    ledger: Ledger
    numbers: range  # of their requests
    reasons: Counter[str]  # of their rows
    users_reasons: Mapping[str, str]  # reason -> the user's filter that gave it

    def advise(self) -> str:
        """Return the likely cause, and what to do about it."""
        return (
            self._blame_equal_prompts()
            or self._blame_users_filter()
            or self._blame_repetition()
            or (
                f"see `code-alpaca report --run_dir {shlex.quote(str(self.plan.config.run_dir))}`, "
                "then change the teacher or raise patience and rerun the same command"
            )
        )

    def _blame_equal_prompts(self) -> str:
        prompts = [read_prompt(payload)[0] for payload, _, _ in self._answered()]
        if len(prompts) < 2 or len(set(prompts)) > 1:
            return ""
        same = "all these requests had the same prompt; "
        if self.plan.mix.has_users:
            return f"{same}vary it with context.rng and {RERUN_EDITED}"
        return f"{same}use more seed tasks and a new run_dir"

    def _blame_users_filter(self) -> str:
        by_filter: Counter[str] = Counter()  # all other reasons are counted under ""
        for reason, count in self.reasons.items():
            by_filter[self.users_reasons.get(reason, "")] += count
        for name, count in by_filter.most_common(1):
            if name:
                rows = f"{count} of the last {by_filter.total()} rows"
                return f"filter {name} rejected {rows}; correct it and {RERUN_EDITED}"
        return ""

    def _blame_repetition(self) -> str:
        """Return what to do if most rows repeat accepted ones, and the prompts show seed tasks.

        Prompts that also show accepted rows differ from all earlier ones. The first `lookahead`
        prompts do not, and with a few seed tasks there are not many of them.
        """
        repeated = self.reasons[DUPLICATE_OUTPUT] + self.reasons[TOO_SIMILAR]
        shown = {name for _, _, ids in self._answered() for name in ids}
        seed_ids = {task.id for task in self.plan.seed_tasks}
        if 2 * repeated <= self.reasons.total() or not shown & seed_ids:
            return ""
        lookahead = self.plan.config.lookahead
        seeds = plural(len(seed_ids), "seed task")
        if shown <= seed_ids and self.numbers.stop <= lookahead:
            return (
                f"the teacher repeats its tasks, since the first {lookahead} prompts (lookahead) "
                f"show only the {seeds} and no accepted rows; use more seed tasks or a smaller "
                f"lookahead in a new run_dir, or raise patience above {lookahead} and rerun the "
                "same command"
            )
        return (
            f"the teacher repeats its tasks; use more than {seeds} in a new run_dir, or change the "
            "teacher or raise patience and rerun the same command"
        )

    def _answered(self) -> Iterator[tuple[dict[str, Any], dict[str, Any], list[str]]]:
        """Yield the payload of each answered request, what it requested, and the ids it showed."""
        yield from filter(None, map(self.ledger.answered, self.numbers))
