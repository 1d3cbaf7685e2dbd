"""What a model is asked for a problem, where its answer ends, and how that is recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from code_alpaca.core.prompts import format_prompt
from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.problems import Problem

PromptFormat = Literal["alpaca", "alpaca_nl", "completion", "chat"]
COMPLETION_TASK = "Complete the following Python function. Reply with the whole function."
# Where an answer has ended and a model continues: the next thing at the left margin after a
# function's body, or the next turn of an Alpaca prompt.
FUNCTION_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n@", "\n```")
RESPONSE_STOPS = ("\n### Instruction:", "\n### Input:", "\n### Response:")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """One answer wanted: sample number `sample` of `problem`."""

    problem: Problem
    sample: int


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What an answer depends on besides model and problem."""

    prompt_format: PromptFormat
    temperature: float
    max_new_tokens: int
    seed: int
    top_p: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON; what is not set is left out, so that a new key changes no hash."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Completion:
    """What came for one job.

    `finish_reason` is `stop` where the answer came to its end, `length` where `max_new_tokens`
    or the model's window cut it, `refused` or `error` where there is none (then `error` says
    why), or another word of a server.
    """

    text: str
    finish_reason: str | None
    error: str = ""

    def as_row(self) -> dict[str, str | None]:
        """The fields of a line of samples.jsonl."""
        row: dict[str, str | None] = {
            "completion": self.text,
            "finish_reason": self.finish_reason,
        }
        return {**row, "error": self.error} if self.error else row


SaveCompletion = Callable[[CompletionRequest, Completion], None]
# The finish reasons of servers for an answer that came to its own end.
FINISHED_REASONS = (None, "stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls")
NO_RESPONSE_REASONS = ("error", "refused")


def is_truncated(row: dict[str, Any]) -> bool:
    """Whether an answer was cut: by a token limit, or by a filter of the server."""
    reason = row.get("finish_reason")
    return reason not in FINISHED_REASONS and reason not in NO_RESPONSE_REASONS


def is_empty(row: dict[str, Any]) -> bool:
    """Whether nothing is left of an answer without its reasoning."""
    text = row["solution"] if "solution" in row else row["completion"]
    return not strip_reasoning(text).strip()


def build_prompt(problem: Problem, prompt_format: PromptFormat) -> str:
    """What the model continues: the Alpaca prompt, the problem's own, or the words of a chat."""
    if prompt_format == "completion":
        return problem.prompt
    task = (problem.instruction, "") if problem.instruction else (COMPLETION_TASK, problem.prompt)
    if prompt_format == "chat":
        return "\n\n".join(task).strip()
    return format_prompt(*task, style=prompt_format)


def stop_strings(problem: Problem, prompt_format: PromptFormat) -> tuple[str, ...]:
    """The strings at which an answer ends."""
    if prompt_format == "chat":
        return ()
    if prompt_format != "completion":
        return RESPONSE_STOPS
    return problem.stops if problem.language != "python" else FUNCTION_STOPS


def truncate_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops, without it."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text
