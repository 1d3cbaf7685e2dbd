"""Follow a row back through the ledger to its seed tasks, prompt, reply and decisions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.markdown import visible
from code_alpaca.dataset.origin_files import read_seed_tasks, recorded_origin_files

MAX_BODY_TEXT = 100  # characters of a text that stays in the JSON of a body
MAX_CANDIDATES = 20  # with one id that are listed


@dataclass(frozen=True, slots=True)
class Message:
    """The JSON body of a request or a reply, its long texts taken out."""

    texts: list[str]
    body: Any  # "(text 1)" is in the place of the first text

    @classmethod
    def from_body(cls, body: Any) -> Message:
        texts: list[str] = []
        return cls(texts, _take_texts(body, texts))


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request to the teacher, its reply, and the decisions on the candidates in it."""

    number: int
    sent_at: str
    received_at: str
    seed_ids: list[str]
    requested: dict[str, Any]  # strategy, number of tasks, quota labels
    request: Message
    reply: Message
    decisions: list[Decision]


class LineageReader(Ledger):
    """A ledger that is read by the ids of rows and requests."""

    def exchange(self, request_id: str) -> Exchange | None:
        """Return the exchange of the rows with a `request_id`; None if another run had it."""
        found = self._db.execute(
            "SELECT number, payload, seed_ids, asked, sent_at, body, received_at FROM requests "
            "JOIN replies USING (key) WHERE key >= ? AND key < ? || 'g'",
            (request_id, request_id),
        ).fetchone()
        if not request_id or found is None:
            return None
        number, payload, seed_ids, asked, sent_at, body, received_at = found
        try:
            reply = json.loads(body)
        except (ValueError, RecursionError):
            reply = body
        return Exchange(
            number,
            sent_at,
            received_at,
            self._parse(seed_ids, f"request {number}"),
            self._parse(asked, f"request {number}"),
            Message.from_body(self._parse(payload, f"request {number}")),
            Message.from_body(reply),
            list(self._decisions(number)),
        )

    def find_candidates(self, row_id: str) -> list[Decision]:
        """Return the candidates whose id begins with `row_id`, an accepted one first."""
        places = self._db.execute(
            "SELECT request, position, reason, evidence FROM decisions "
            "WHERE substr(json_extract(iif(json_valid(row), row, '{}'), '$.id'), 1, ?) = ? "
            "ORDER BY reason != '', request, position LIMIT ?",
            (len(row_id), row_id, MAX_CANDIDATES),
        )
        return [
            Decision(self.row(request, position), reason, evidence)
            for request, position, reason, evidence in places.fetchall()
        ]

    def seed_tasks(self) -> dict[str, dict[str, str]]:
        """Return the seed tasks of the run that are known, by their ids."""
        return read_seed_tasks(recorded_origin_files(self))

    def _decisions(self, number: int) -> Iterator[Decision]:
        rows = self._db.execute(
            "SELECT position, reason, evidence FROM decisions WHERE request = ? ORDER BY position",
            (number,),
        )
        for position, reason, evidence in rows.fetchall():
            yield Decision(self.row(number, position), reason, evidence)


def describe_lineage(reader: LineageReader, row_id: str) -> Iterator[str]:
    """Yield sections of text that lead from a row to its seed tasks, prompt, reply and decisions.

    Raises:
        InputError: the run has no candidate with this id.
    """
    candidates = reader.find_candidates(row_id) if row_id.strip() else []
    if not candidates:
        raise InputError(
            f"{reader.path.parent} has no row {row_id!r}; give an id from the column `id` of its "
            "dataset, or the beginning of one"
        )
    others = {item.example.id for item in candidates} - {candidates[0].example.id}
    if others:
        raise InputError(
            f"several rows of {reader.path.parent} begin with {row_id!r} "
            f"({', '.join(sorted(others)[:3])}, ...); give the complete id"
        )
    row = candidates[0].example
    yield _section(f"ROW {row.id}", _outcome(candidates[0]), *_label(*row.texts))
    if row.tests:
        strength = "" if row.test_strength is None else f", test strength {row.test_strength:.2f}"
        yield _section(f"TESTS, {row.verification or 'not run'}{strength}", row.tests)
    yield from _describe_seed_tasks(reader, row.seed_ids)
    exchange = reader.exchange(row.request_id)
    if exchange is None:
        yield _section(
            "REQUEST",
            f"The ledger of this run does not contain the request {row.request_id or 'of this row'}"
            ": the row comes from a source, and its request is in the ledger of the run that "
            "generated it.",
        )
        return
    yield _section(
        f"PROMPT, request {exchange.number}, sent {exchange.sent_at}",
        *exchange.request.texts,
        f"body: {json.dumps(exchange.request.body, ensure_ascii=False)}",
    )
    yield _section(
        f"REPLY, received {exchange.received_at}",
        *exchange.reply.texts,
        f"body: {json.dumps(exchange.reply.body, ensure_ascii=False)}",
    )
    yield _section(
        "DECISIONS on the candidates of this reply",
        "\n".join(
            f"{'>' if item.example == row else ' '} {item.example.id}  {_outcome(item)}: "
            f"{_first_line(item.example.instruction)}"
            for item in exchange.decisions
        ),
    )


def _describe_seed_tasks(reader: LineageReader, seed_ids: list[str]) -> Iterator[str]:
    seed_tasks = reader.seed_tasks()
    for seed_id in seed_ids:
        if seed_id in seed_tasks:
            task = seed_tasks[seed_id]
            texts = _label(task["instruction"], task["input"], task["output"])
            yield _section(f"SEED TASK {seed_id}", *texts)
            continue
        found = reader.find_candidates(seed_id)
        text = (
            f"{_first_line(found[0].example.instruction)}\n(follow it: --row {seed_id})"
            if found
            else "This run does not contain this task; see assets/seed_tasks.jsonl of the source."
        )
        yield _section(f"SHOWN ROW {seed_id}", text)


def _section(title: str, *texts: str) -> str:
    """Return a titled part of the output, without control characters of a terminal."""
    return "\n".join([f"=== {title} ===", *map(visible, texts)]) + "\n"


def _label(instruction: str, task_input: str, output: str) -> Iterator[str]:
    yield instruction
    if task_input:
        yield f"--- input ---\n{task_input}"
    yield f"--- output ---\n{output}"


def _outcome(decision: Decision) -> str:
    if not decision.reason:
        return "accepted"
    return f"rejected as {decision.reason}" + f" ({_first_line(decision.evidence)})" * bool(
        decision.evidence
    )


def _first_line(text: str) -> str:
    return (text.strip() or "(no instruction)").splitlines()[0]


def _take_texts(value: Any, texts: list[str]) -> Any:
    """Return a JSON value with every long text moved to `texts`."""
    if isinstance(value, str) and (len(value) > MAX_BODY_TEXT or "\n" in value):
        texts.append(value)
        return f"(text {len(texts)})"
    if isinstance(value, dict):
        return {key: _take_texts(item, texts) for key, item in value.items()}
    if isinstance(value, list):
        return [_take_texts(item, texts) for item in value]
    return value
