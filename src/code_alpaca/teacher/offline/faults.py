"""Simulate a faulty teacher: bad tasks, broken replies and server errors, each at its rate.

Faults in the content are a pure function of the request and the seed. Server faults also depend on
how often the same request was received, so that a retry can succeed.
"""

from __future__ import annotations

import random
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from code_alpaca.problems import load_problems

Seconds = Annotated[float, Field(ge=0, le=120)]
TASK_FAULTS = ("near_duplicate", "refusal", "wrong_answer", "empty_output", "benchmark_copy")
SERVER_FAULTS = ("rate_429", "rate_500", "rate_503", "drop", "hang")
REFUSAL = "I'm sorry, but I can't help with that."


def _rate(events: str) -> Any:
    return Field(0.0, ge=0, le=1, description=f"rate of {events}")


class Faults(BaseModel):
    """Fault rates from 0 to 1 and delays in seconds; also the options of `offline?...`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    near_duplicate: float = _rate("tasks that copy an example")
    refusal: float = _rate("tasks whose output is a refusal")
    wrong_answer: float = _rate("Python outputs that fail their tests")
    empty_output: float = _rate("tasks with an empty output")
    benchmark_copy: float = _rate("tasks copied from the mini benchmark")
    truncated: float = _rate("truncated replies (finish_reason length)")
    malformed: float = _rate("replies with invalid JSON")
    latency: Seconds = Field(0.0, description="seconds before each response")
    jitter: Seconds = Field(0.0, description="maximum random seconds added to latency")
    rate_429: float = _rate("responses with status 429")
    retry_after: Seconds = Field(1.0, description="seconds in the Retry-After of a 429 or 503")
    rate_500: float = _rate("responses with status 500")
    rate_503: float = _rate("responses with status 503")
    rpm: float = Field(0.0, ge=0, description="requests per minute before a 429; 0 for no limit")
    drop: float = _rate("connections closed without a response")
    hang: float = _rate("requests without a response (dropped after 120 s)")

    def corrupt_task(
        self, rng: random.Random, task: dict[str, Any], examples: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the task, or a faulty version of it; `examples` are the tasks in the prompt."""
        fault = self.draw(rng, *TASK_FAULTS)
        if fault == "near_duplicate" and examples:
            example = rng.choice(examples)
            copied = {k: v for k, v in example.items() if k in task}
            return {**task, **copied, "instruction": f"Please {example['instruction']}"}
        if fault == "refusal":
            return {**task, "output": REFUSAL, "tests": ""}
        if fault == "wrong_answer" and task.get("tests"):
            correct = task["output"]
            wrong = correct.replace("return ", "return None and ", 1)
            return {**task, "output": wrong if wrong != correct else "assert False\n" + correct}
        if fault == "empty_output":
            return {**task, "output": ""}
        if fault == "benchmark_copy":
            problem = rng.choice(load_problems("mini"))
            code = problem.prompt + problem.canonical_solution
            return {**task, "instruction": problem.instruction, "input": "", "output": code,
                    "language": "python", "tests": ""}  # fmt: skip
        return task

    def corrupt_reply(self, rng: random.Random, text: str) -> tuple[str, bool]:
        """Return the text of a reply, possibly corrupted, and whether it is truncated."""
        fault = self.draw(rng, "truncated", "malformed")
        if fault == "truncated":
            return text[: rng.randint(len(text) // 4, len(text) * 3 // 4)], True
        if fault == "malformed":
            at = rng.randint(len(text) // 4, len(text) // 2)
            return text[:at] + '"\n}} oops {' + text[at:], False
        return text, False

    def draw(self, rng: random.Random, *names: str) -> str | None:
        """Draw at most one fault, from one random number so that rates do not interact."""
        at = rng.random()
        for name in names:
            at -= getattr(self, name)
            if at < 0:
                return name
        return None
