"""The tasks in a reply: how a teacher writes one, and the candidate that is parsed from it.

Nothing is guessed: every field of a candidate is in the reply. A broken record costs only itself,
or also the records after it if its end is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator

from code_alpaca.core.errors import InputError
from code_alpaca.core.row_formats import is_unicode
from code_alpaca.core.schema import Example
from code_alpaca.curation.language_detection import label_language
from code_alpaca.curation.pipeline import INTERNAL_ERROR, describe_failure
from code_alpaca.teacher.reply_parsing import ParsedReply

NO_INPUT = ("", "<noinput>")
MAX_REJECTED_CHARACTERS = 2_000  # stored of a rejected text
MAX_LANGUAGE_LENGTH = 40  # characters; a longer value names no language


class GeneratedTask(BaseModel):
    """One task as a teacher writes it: the source of the JSON schema, and what is parsed.

    Servers without JSON schemas omit optional fields, or write null or another type, which is
    ignored.
    """

    model_config = ConfigDict(extra="ignore")

    instruction: str
    input: str = ""
    output: str
    language: str | None = None  # None: it is detected
    tests: str = ""

    @field_validator("input", mode="before")
    @classmethod
    def _data_as_text(cls, value: Any) -> str:
        if isinstance(value, str):
            return value
        return "" if value is None else json.dumps(value, ensure_ascii=False)

    @field_validator("language", mode="before")
    @classmethod
    def _language_name(cls, value: Any) -> str | None:
        return value if isinstance(value, str) and len(value) <= MAX_LANGUAGE_LENGTH else None

    @field_validator("tests", mode="before")
    @classmethod
    def _join_lines(cls, value: Any) -> str:
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            return "\n".join(value)
        return value if isinstance(value, str) else ""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One record of a reply; `reason` is "" unless it is unusable."""

    instruction: str = ""
    input: str = ""
    output: str = ""
    language: str = ""
    tests: str = ""
    reason: str = ""


def build_schema(num_tasks: int) -> dict[str, Any]:
    """Return the strict JSON schema of a reply with `num_tasks` tasks.

    OpenAI's strict mode requires that every key is required and no others are allowed
    (https://platform.openai.com/docs/guides/structured-outputs).
    """
    task = _object_schema({key: {"type": "string"} for key in GeneratedTask.model_fields})
    tasks = {"type": "array", "items": task, "minItems": num_tasks, "maxItems": num_tasks}
    return _object_schema({"tasks": tasks})


def _object_schema(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def build_candidate(task: GeneratedTask) -> Candidate:
    """Return a task as a candidate; one with invalid Unicode is rejected as `not_text`."""
    task_input = "" if task.input.strip().lower() in NO_INPUT else task.input
    texts = task.instruction.strip(), task_input, task.output
    if task.language is None:
        language = label_language(Example(*texts))
    else:
        language = task.language.strip().lower()
    values = *texts, language, task.tests
    if all(map(is_unicode, values)):
        return Candidate(*values)
    return Candidate(*map(_replace_surrogates, values), reason="not_text")


def reject_text(text: str, reason: str) -> Candidate:
    """Return a rejected candidate with the beginning of the text that it was in."""
    return Candidate(output=_replace_surrogates(text[:MAX_REJECTED_CHARACTERS]), reason=reason)


def reject_reply(reply: ParsedReply) -> Candidate | None:
    """Return a reply without any text, or a refusal, as a rejected candidate; else None."""
    if not reply.readable:
        return Candidate(reason="no_reply")
    return reject_text(reply.refusal, "refusal") if reply.refusal else None


def catch_parse_errors(
    parse: Callable[[ParsedReply], list[Candidate]],
) -> Callable[[ParsedReply], list[Candidate]]:
    """Wrap a parser so that a reply it fails on becomes one rejected candidate."""

    def parse_safely(reply: ParsedReply) -> list[Candidate]:
        try:
            return parse(reply)
        except InputError:  # of a user's strategy
            raise
        except Exception as error:
            failure = describe_failure(error)
            return [reject_text(f"this reply could not be parsed: {failure}", INTERNAL_ERROR)]

    return parse_safely


def _replace_surrogates(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")
