"""Identify a run by everything its completions depend on.

A run reuses the completions in its output folder if they have its hash, and refuses others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_alpaca.core import fs
from code_alpaca.core.plugins import is_plugin
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.target import EvaluationTarget
from code_alpaca.problems import Problem

FILE = "answers.json"
# Increase it when the same model and settings give other completions: earlier ones are not reused.
DECODING_VERSION = 2
BENCHMARK_KEYS = ("benchmark", "benchmark_file")  # facts that identify the problems
SHORT_HASH = 12  # characters of a hash or commit in a message


@dataclass(frozen=True, slots=True)
class RunIdentity:
    """The facts that completions depend on, and their hash."""

    facts: dict[str, Any]
    run_hash: str
    benchmark: str  # its name, for messages

    def write(self, folder: Path) -> None:
        """Record the facts beside the completions, so that a later run can name differences."""
        fs.write_json(folder / FILE, {"run": self.run_hash, "facts": self.facts})

    def predates_facts(self, folder: Path) -> bool:
        """Return whether a local model's completions are from a version that recorded no facts.

        That version decoded tokens differently. Completions of endpoints are the same.
        """
        return "decoding" in self.facts and not (folder / FILE).exists()

    def differences(self, folder: Path) -> str:
        """Return which facts differ from those of the completions in `folder`, with both values."""
        try:
            old = _flatten(json.loads((folder / FILE).read_text(encoding="utf-8"))["facts"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return "of another configuration, model, benchmark or earlier version of code-alpaca"
        new = _flatten(self.facts)
        keys = [key for key in dict.fromkeys([*new, *old]) if new.get(key) != old.get(key)]
        differences = [
            f"{key} was {_shorten(old.get(key))}, now {_shorten(new.get(key))}"
            for key in keys
            if key not in BENCHMARK_KEYS
        ]
        if len(differences) < len(keys):
            name = self.benchmark
            differences.append(f"the benchmark was not {name}, or {name} changed")
        return "; ".join(differences) or "of another run"


def identify_run(
    target: EvaluationTarget,
    config: EvalConfig,
    problems: Sequence[Problem],
    source: Mapping[str, str],
) -> RunIdentity | None:
    """Return the identity of a run's completions; None for a file of samples.

    Completions of an endpoint may have been paid for: equal facts must have the same hash in every
    version, or a resumed run would pay again.

    `problems` are those of the benchmark without `limit`, so that another limit reuses
    completions; `source` is that of `describe_benchmark`. The hash of a function's file is a fact,
    also if only tests changed; that of a JSONL file is not: its prompts are, and completions are
    graded again with its tests.
    """
    if target.settings is None:
        return None
    prompts = [(problem.task_id, problem.prompt, problem.instruction) for problem in problems]
    file = {"benchmark_file": source["sha256"]} if is_plugin(config.benchmark) else {}
    settings = target.settings.as_dict()
    if not target.fingerprint:
        facts = {**settings, "model": config.model, "base_url": config.base_url, **file}
        hashed = json.dumps({**facts, "prompts": prompts, "weights": None})
        run_hash = hashlib.sha256(hashed.encode()).hexdigest()[:16]
        return RunIdentity({**facts, "benchmark": _digest(prompts)}, run_hash, config.benchmark)
    facts = {
        **settings,
        "dtype": target.dtype,
        "model": target.fingerprint,
        "benchmark": _digest([prompts, [problem.stops for problem in problems]]),
        "decoding": DECODING_VERSION,
        **_describe_engine(target, config),
        **file,
    }
    return RunIdentity(facts, _digest(facts)[:16], config.benchmark)


def _describe_engine(target: EvaluationTarget, config: EvalConfig) -> dict[str, Any]:
    if target.served is None:
        return {}
    return {"engine": config.engine, "serving_args": config.serving_args}


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _flatten(facts: dict[str, Any]) -> dict[str, Any]:
    """Return the facts with the hash of each model file as a separate fact."""
    files = facts.get("model")
    if not isinstance(files, dict):
        return facts
    others = {key: value for key, value in facts.items() if key != "model"}
    return {**others, **{f"model {key}": value for key, value in files.items()}}


def _shorten(value: Any) -> str:
    text = "none" if value is None else str(value)
    is_hash = len(text) >= 40 and all(digit in "0123456789abcdef" for digit in text)
    return text[:SHORT_HASH] if is_hash else text
