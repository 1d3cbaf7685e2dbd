"""How the embedded teacher misbehaves when told to, so that later stages have something to catch.

Faults of content are a pure function of the request and the seed; faults of the server depend
also on how often this request was seen, so that trying again can help.
"""

from __future__ import annotations

import random
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from code_alpaca.problems import load_problems

REFUSAL = "I'm sorry, but I can't help with that."


class Faults(BaseModel):
    """Rates from 0 to 1 and times in seconds; every one is also an option of `offline?...`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    near_duplicate: float = Field(0.0, ge=0, le=1, description="tasks that reword an example")
    refusal: float = Field(0.0, ge=0, le=1, description="tasks answered by a refusal")
    wrong_answer: float = Field(0.0, ge=0, le=1, description="Python answers that fail their tests")
    empty_output: float = Field(0.0, ge=0, le=1, description="tasks without an answer")
    benchmark_copy: float = Field(
        0.0, ge=0, le=1, description="tasks copied from the mini benchmark"
    )
    truncated: float = Field(0.0, ge=0, le=1, description="replies cut, finish_reason length")
    malformed: float = Field(0.0, ge=0, le=1, description="replies of broken JSON")
    latency: float = Field(0.0, ge=0, le=120, description="seconds before each answer")
    jitter: float = Field(0.0, ge=0, le=120, description="random seconds on top of the latency")
    rate_429: float = Field(0.0, ge=0, le=1, description="requests answered 429")
    retry_after: float = Field(
        1.0, ge=0, le=120, description="Retry-After of a 429 or 503, seconds"
    )
    rate_500: float = Field(0.0, ge=0, le=1, description="requests answered 500")
    rate_503: float = Field(0.0, ge=0, le=1, description="requests answered 503")
    rpm: float = Field(0.0, ge=0, description="requests a minute; more get a 429; 0: no limit")
    drop: float = Field(0.0, ge=0, le=1, description="connections closed without an answer")
    hang: float = Field(0.0, ge=0, le=1, description="requests never answered (120 s at most)")

    def spoil_task(
        self, rng: random.Random, task: dict[str, Any], examples: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """The task, or what a bad teacher would have written instead."""
        fault = _choose(
            rng,
            self,
            ("near_duplicate", "refusal", "wrong_answer", "empty_output", "benchmark_copy"),
        )
        if fault == "near_duplicate" and examples:
            example = rng.choice(examples)
            reworded = {**task, **{k: v for k, v in example.items() if k in task}}
            return {**reworded, "instruction": f"Please {example['instruction']}"}
        if fault == "refusal":
            return {**task, "output": REFUSAL, "tests": ""}
        if fault == "wrong_answer" and task.get("tests"):
            right = task["output"]
            wrong = right.replace("return ", "return None and ", 1)
            return {**task, "output": wrong if wrong != right else "assert False\n" + right}
        if fault == "empty_output":
            return {**task, "output": ""}
        if fault == "benchmark_copy":
            problem = rng.choice(load_problems("mini"))
            code = problem.prompt + problem.canonical_solution
            return {**task, "instruction": problem.instruction, "input": "", "output": code,
                    "language": "python", "tests": ""}  # fmt: skip
        return task

    def spoil_reply(self, rng: random.Random, text: str) -> tuple[str, bool]:
        """The reply's text, and whether it was cut."""
        fault = _choose(rng, self, ("truncated", "malformed"))
        if fault == "truncated":
            return text[: rng.randint(len(text) // 4, len(text) * 3 // 4)], True
        if fault == "malformed":
            at = rng.randint(len(text) // 4, len(text) // 2)
            return text[:at] + '"\n}} oops {' + text[at:], False
        return text, False

    def of_server(self, rng: random.Random) -> str | None:
        """The server's fault for one request, if any: a field name."""
        return _choose(rng, self, ("rate_429", "rate_500", "rate_503", "drop", "hang"))


def _choose(rng: random.Random, faults: Faults, names: tuple[str, ...]) -> str | None:
    """At most one fault, each at its rate; one draw, so that rates do not shift each other."""
    at = rng.random()
    for name in names:
        at -= getattr(faults, name)
        if at < 0:
            return name
    return None
