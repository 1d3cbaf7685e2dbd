"""Prompts for benchmark problems, and the completions that a backend returns for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from code_alpaca.core.prompts import PROMPT_STYLES, format_prompt, user_message
from code_alpaca.core.reasoning import strip_reasoning
from code_alpaca.problems import Problem

PromptFormat = Literal[*PROMPT_STYLES, "completion", "chat"]
COMPLETION_TASK = "Complete the following Python function. Reply with the whole function."
# A base model that has finished a function continues with the next top-level statement.
FUNCTION_STOPS = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n@", "\n```")
# Finish reasons of servers for a completion that ended by itself, and our own for a missing one.
FINISHED_REASONS = (None, "stop", "eos", "eos_token", "end_turn", "stop_sequence", "tool_calls")
NO_RESPONSE_REASONS = ("error", "refused")


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request for sample number `sample` of `problem`."""

    problem: Problem
    sample: int

    @property
    def key(self) -> tuple[str, int]:
        """The task_id and sample number, as in samples.jsonl."""
        return self.problem.task_id, self.sample


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What a completion depends on besides model and problem."""

    prompt_format: PromptFormat
    temperature: float | None  # None: the server's default
    max_new_tokens: int
    seed: int
    top_p: float | None = None
    reasoning_effort: str | None = None  # of an endpoint, like `extra_body`
    extra_body: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the settings for hashing: unset ones are omitted, so a new key changes no hash."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, slots=True)
class Completion:
    """The response to one request.

    `finish_reason` is `stop` for a complete text, `length` if `max_new_tokens` or the context
    window truncated it, `refused` or `error` if there is none (`error` has the reason), or
    another reason of a server.
    """

    text: str
    finish_reason: str | None
    error: str = ""
    not_sent: tuple[str, ...] = ()  # sampling settings that the server refuses

    def as_row(self) -> dict[str, Any]:
        """Return the fields of a line of samples.jsonl."""
        row: dict[str, Any] = {"completion": self.text, "finish_reason": self.finish_reason}
        row |= {"error": self.error} if self.error else {}
        return row | ({"not_sent": list(self.not_sent)} if self.not_sent else {})


SaveCompletion = Callable[[CompletionRequest, Completion], None]


class CompletionBackend(Protocol):
    """A source of completions: a local model or an endpoint."""

    def complete(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        """Complete the requests in any order, and pass each completion to `save` when it arrives.

        Raises:
            InputError: the backend cannot complete any prompt: model or settings are wrong.
            Stopped: the server or the GPU failed; what was saved is kept.
        """
        ...


def build_prompt(problem: Problem, prompt_format: PromptFormat) -> str:
    """Return the text that the model continues; for `chat` that of the user's message."""
    if prompt_format == "completion":
        return problem.prompt
    task = (problem.instruction, "") if problem.instruction else (COMPLETION_TASK, problem.prompt)
    if prompt_format == "chat":
        return user_message(*task).strip()
    return format_prompt(*task, style=prompt_format)


def stop_strings(problem: Problem, prompt_format: PromptFormat) -> tuple[str, ...]:
    """Return the strings at which a completion ends."""
    if prompt_format == "chat":
        return ()
    if prompt_format != "completion":
        return PROMPT_STYLES[prompt_format].stops
    return problem.stops if problem.language != "python" else FUNCTION_STOPS


def is_truncated(row: dict[str, Any]) -> bool:
    """Return whether a token limit or a server's filter truncated a sample."""
    return row.get("finish_reason") not in (*FINISHED_REASONS, *NO_RESPONSE_REASONS)


def is_empty(row: dict[str, Any]) -> bool:
    """Return whether a sample has no text besides its reasoning."""
    text = row["solution"] if "solution" in row else row["completion"]
    return not strip_reasoning(text).strip()
