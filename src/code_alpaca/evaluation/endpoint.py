"""Complete prompts with a model behind an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from code_alpaca.core.errors import InputError, Stopped, error_message
from code_alpaca.evaluation.completions import (
    Completion,
    CompletionRequest,
    GenerationSettings,
    SaveCompletion,
    build_prompt,
    stop_strings,
)
from code_alpaca.evaluation.text_generation import truncate_at_stop

MAX_RETRIES = 5  # of the client, after errors of the connection or the server
RETRY_DELAY_S = 0.5  # before another attempt, times the number of attempts so far
MAX_ATTEMPTS = 3  # at a reply without a completion, such as one without choices
MAX_SENT_STOPS = 4  # OpenAI's limit; `truncate_at_stop` applies all of them
REFUSED_STATUSES = (400, 403, 413, 422)  # of one prompt: too long, or moderated
NO_ACCESS_STATUSES = (401, 404)
MAX_FAILURES_IN_A_ROW = 8  # more than that is the endpoint's fault, not the prompts'


@dataclass(frozen=True, slots=True)
class EndpointBackend:
    """An OpenAI-compatible endpoint.

    Chats are sent to /chat/completions, all other prompts to /completions.

    Attributes:
        batch_size: requests in flight.
        has_responded: whether it completed a prompt before: a refusal is then the prompt's fault.
    """

    base_url: str
    model: str
    settings: GenerationSettings
    batch_size: int
    has_responded: bool = False

    def complete(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        """Complete requests, `batch_size` at a time.

        A prompt that the server refuses, or fails at repeatedly, has an empty completion with the
        reason, as long as the server completes other prompts.

        Raises:
            InputError: the endpoint accepts no request: key, model or settings are wrong.
            Stopped: the endpoint failed; what was saved is kept.
        """
        asyncio.run(_EndpointRun(self, save).run(requests))


class _NoCompletion(Exception):
    """A reply without a completion."""


class _EndpointRun:
    """The requests of one call of `EndpointBackend.complete`."""

    def __init__(self, backend: EndpointBackend, save: SaveCompletion) -> None:
        self._backend, self._settings, self._save = backend, backend.settings, save
        self._has_responded = backend.has_responded
        # Missing completions are saved only after a success: see `_keep`.
        self._missing: list[tuple[CompletionRequest, Completion]] = []

    async def run(self, requests: Sequence[CompletionRequest]) -> None:
        """Send all requests; save each completion when it arrives."""
        import openai

        self._client = openai.AsyncOpenAI(
            base_url=self._backend.base_url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=MAX_RETRIES,
        )
        slots = asyncio.Semaphore(self._backend.batch_size)

        async def complete_one(request: CompletionRequest) -> None:
            async with slots:
                self._keep(request, await self._complete(request))

        async with self._client:
            tasks = [asyncio.create_task(complete_one(request)) for request in requests]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
        if self._missing and not self._has_responded:
            self._give_up()
        self._flush()

    def _keep(self, request: CompletionRequest, completion: Completion) -> None:
        """Save a completion; a missing one only once it is clear that its prompt is the reason."""
        self._has_responded = self._has_responded or not completion.error
        self._missing.append((request, completion))
        refused = completion.finish_reason == "refused"
        if not completion.error or (self._has_responded and refused):
            self._flush()
        elif len(self._missing) >= max(self._backend.batch_size, MAX_FAILURES_IN_A_ROW):
            self._give_up()

    def _flush(self) -> None:
        for request, completion in self._missing:
            self._save(request, completion)
        self._missing.clear()

    def _give_up(self) -> NoReturn:
        completion = self._missing[0][1]
        text = f"the endpoint {self._backend.base_url} completes no prompt ({completion.error})"
        if completion.finish_reason == "refused":
            raise InputError(f"{text}; check model, max_new_tokens and prompt_format")
        raise Stopped(f"{text}; rerun the same command to resume")

    async def _complete(self, request: CompletionRequest) -> Completion:
        import openai

        reason = ""
        for attempt in range(MAX_ATTEMPTS):
            await asyncio.sleep(RETRY_DELAY_S * attempt)
            try:
                text, finish_reason = await self._send(request)
                stops = stop_strings(request.problem, self._settings.prompt_format)
                stopped = truncate_at_stop(text, stops)
                return Completion(stopped, "stop" if stopped != text else finish_reason)
            except openai.APIStatusError as error:
                reason = _one_line_without_key(error)
                if error.status_code in NO_ACCESS_STATUSES:
                    raise InputError(
                        f"the endpoint {self._backend.base_url} refuses access ({reason}); check "
                        "OPENAI_API_KEY, base_url and model"
                    ) from None
                if error.status_code in REFUSED_STATUSES:
                    return Completion("", "refused", reason)
                if error.status_code != 500:  # the client has retried the others
                    self._stop(reason)
                break
            except openai.APIConnectionError as error:
                self._stop(_one_line_without_key(error))
            except Exception as error:  # a body that is not JSON, or JSON of another form
                reason = f"{type(error).__name__}: {_one_line_without_key(error)}"
        return Completion("", "error", reason)

    async def _send(self, request: CompletionRequest) -> tuple[str, str | None]:
        """Return the text of a reply and its finish_reason."""
        settings = self._settings
        prompt = build_prompt(request.problem, settings.prompt_format)
        sampling: dict[str, Any] = {
            "model": self._backend.model,
            "temperature": settings.temperature,
        }
        if settings.top_p is not None:
            sampling["top_p"] = settings.top_p
        if settings.prompt_format == "chat":
            reply = await self._client.chat.completions.create(
                **sampling,
                messages=[{"role": "user", "content": prompt}],
                max_completion_tokens=settings.max_new_tokens,
            )
            choice = _first_choice(reply)
            text = choice.message.content
        else:
            stops = stop_strings(request.problem, settings.prompt_format)
            reply = await self._client.completions.create(
                **sampling,
                prompt=prompt,
                max_tokens=settings.max_new_tokens,
                stop=list(stops[:MAX_SENT_STOPS]) or None,
            )
            choice = _first_choice(reply)
            text = choice.text
        if text is not None and not isinstance(text, str):
            raise _NoCompletion(f"the completion is {type(text).__name__}, not text")
        return text or "", choice.finish_reason

    def _stop(self, reason: str) -> NoReturn:
        raise Stopped(
            f"the endpoint {self._backend.base_url} failed ({reason}); completions so far are "
            "saved: rerun the same command to resume"
        ) from None


def _one_line_without_key(error: Exception) -> str:
    """Return an error in one line, without the API key that some servers repeat in it."""
    key = os.environ.get("OPENAI_API_KEY")
    text = error_message(error)
    return text.replace(key, "***") if key else text


def _first_choice(reply: Any) -> Any:
    error = getattr(reply, "error", None)
    choices = getattr(reply, "choices", None)
    if error or not choices:
        raise _NoCompletion(f"a reply without a completion: {error or reply!r}")
    if getattr(choices[0], "error", None):
        raise _NoCompletion(f"a reply with an error: {choices[0].error}")
    return choices[0]
