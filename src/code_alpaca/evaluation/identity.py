"""What answers depend on: the key under which a run finds its earlier ones, and refuses others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.evaluation.completions import GenerationSettings
from code_alpaca.hub.model_source import Fingerprint
from code_alpaca.problems import Problem

NAME = "answers.json"
# Raised when the same model and settings give other answers, so that earlier ones are not reused.
DECODING = 2
SHORTEST = 12  # characters of a hash or commit in a message


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The facts that shape an answer, and their hash."""

    facts: dict[str, Any]
    run_hash: str

    def write(self, folder: Path) -> None:
        """Record the facts beside the answers, for `differences` of a later run."""
        fs.write_json(folder / NAME, {"run": self.run_hash, "facts": self.facts})

    def is_after(self, folder: Path) -> bool:
        """Whether the answers in `folder` were decoded by a version that recorded no facts; those
        of an endpoint are the same in all versions."""
        return "decoding" in self.facts and not (folder / NAME).exists()

    def differences(self, folder: Path) -> str:
        """Which facts differ from those of the answers in `folder`, with both values."""
        try:
            found = json.loads((folder / NAME).read_text(encoding="utf-8"))
            there = _flat(found["facts"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return (
                "of another configuration, model or benchmark, or made by an earlier version of "
                "code-alpaca"
            )
        here = _flat(self.facts)
        differ = [
            f"{key}: {_short(there.get(key))} there, {_short(here.get(key))} now"
            for key in dict.fromkeys([*here, *there])
            if here.get(key) != there.get(key)
        ]
        return "; ".join(differ) or "of another run"


def identify_endpoint_run(
    settings: GenerationSettings, model: str, base_url: str, problems: Sequence[Problem]
) -> RunIdentity:
    """The identity of answers that may have been paid for: this hash must never change."""
    facts = {**settings.as_dict(), "model": model, "base_url": base_url}
    hashed = {**facts, "prompts": _prompts(problems), "weights": None}
    run_hash = hashlib.sha256(json.dumps(hashed).encode()).hexdigest()[:16]
    return RunIdentity({**facts, "benchmark": _digest(_prompts(problems))}, run_hash)


def identify_model_run(
    settings: GenerationSettings, files: Fingerprint, dtype: str, problems: Sequence[Problem]
) -> RunIdentity:
    """The identity of a local model's answers: its commit, or the content of all its files."""
    facts = {
        **settings.as_dict(),
        "dtype": dtype,
        "model": files,
        "benchmark": _digest([_prompts(problems), [problem.stops for problem in problems]]),
        "decoding": DECODING,
    }
    return RunIdentity(facts, _digest(facts)[:16])


def _prompts(problems: Sequence[Problem]) -> list[tuple[str, str, str]]:
    return [(problem.task_id, problem.prompt, problem.instruction) for problem in problems]


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _flat(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts with those of the model's files beside the others."""
    files = facts.get("model")
    if not isinstance(files, dict):
        return facts
    rest = {key: value for key, value in facts.items() if key != "model"}
    return {**rest, **{f"model {key}": value for key, value in files.items()}}


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    is_hash = len(text) >= 40 and all(digit in "0123456789abcdef" for digit in text)
    return text[:SHORTEST] if is_hash else text
