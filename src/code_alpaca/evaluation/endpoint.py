"""Complete prompts with a model behind an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NoReturn

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

if TYPE_CHECKING:
    from openai import AsyncOpenAI

MAX_RETRIES = 5  # of the client, after errors of the connection or the server
RETRY_DELAY_S = 0.5  # before another attempt, times the number of attempts so far
MAX_ATTEMPTS = 3  # at a reply without a completion, such as one without choices
MAX_SENT_STOPS = 4  # OpenAI's limit; `truncate_at_stop` applies all of them
REFUSED_STATUSES = (400, 403, 413, 422)  # of one prompt: too long, or moderated
NO_ACCESS_STATUSES = (401, 404)
MAX_FAILURES_IN_A_ROW = 8  # more than that is the endpoint's fault, not the prompts'


@dataclass(slots=True)
class EndpointBackend:
    """An OpenAI-compatible endpoint: the URL of a server, or of several, separated by commas.

    Chats are sent to /chat/completions, all other prompts to /completions.
    """

    base_url: str
    model: str
    settings: GenerationSettings
    batch_size: int  # requests in flight
    has_responded: bool = False  # it has completed a prompt: a refusal is then the prompt's fault
    # Only the last one may have a text: see `_keep`.
    _unsaved: list[tuple[CompletionRequest, Completion]] = field(default_factory=list, init=False)

    def complete(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        """Complete requests, `batch_size` at a time.

        A prompt that the server refuses, or fails at repeatedly, has an empty completion with the
        reason, as long as the server completes other prompts.
        """
        asyncio.run(self._run(requests, save))

    async def _run(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        import openai

        slots = asyncio.Semaphore(self.batch_size)

        async def complete_one(client: AsyncOpenAI, request: CompletionRequest) -> None:
            async with slots:
                self._keep(request, await self._complete(client, request), save)

        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    openai.AsyncOpenAI(
                        base_url=url.strip(),
                        api_key=os.environ.get("OPENAI_API_KEY") or "none",
                        max_retries=MAX_RETRIES,
                    )
                )
                for url in self.base_url.split(",")
            ]
            pairs = zip(itertools.cycle(clients), requests, strict=False)
            tasks = [asyncio.create_task(complete_one(*pair)) for pair in pairs]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
        if self._unsaved and not self.has_responded:
            self._give_up()
        self._flush(save)

    def _keep(
        self, request: CompletionRequest, completion: Completion, save: SaveCompletion
    ) -> None:
        """Save a completion; a missing one only once it is clear that its prompt is the reason."""
        self.has_responded = self.has_responded or not completion.error
        self._unsaved.append((request, completion))
        refused = completion.finish_reason == "refused"
        if not completion.error or (self.has_responded and refused):
            self._flush(save)
        elif len(self._unsaved) >= max(self.batch_size, MAX_FAILURES_IN_A_ROW):
            self._give_up()

    def _flush(self, save: SaveCompletion) -> None:
        for request, completion in self._unsaved:
            save(request, completion)
        self._unsaved.clear()

    def _give_up(self) -> NoReturn:
        completion = self._unsaved[0][1]
        text = f"the endpoint {self.base_url} completes no prompt ({completion.error})"
        if completion.finish_reason == "refused":
            raise InputError(f"{text}; check model, max_new_tokens and prompt_format")
        raise Stopped(f"{text}; rerun the same command to resume")

    async def _complete(self, client: AsyncOpenAI, request: CompletionRequest) -> Completion:
        import openai

        stops = stop_strings(request.problem, self.settings.prompt_format)
        reason = ""
        for attempt in range(MAX_ATTEMPTS):
            await asyncio.sleep(RETRY_DELAY_S * attempt)
            try:
                text, finish_reason = await self._send(client, request, stops)
                stopped = truncate_at_stop(text, stops)
                return Completion(stopped, "stop" if stopped != text else finish_reason)
            except openai.APIStatusError as error:
                reason = _one_line_without_key(error)
                if error.status_code in NO_ACCESS_STATUSES:
                    raise InputError(
                        f"the endpoint {self.base_url} refuses access ({reason}); check "
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

    async def _send(
        self, client: AsyncOpenAI, request: CompletionRequest, stops: Sequence[str]
    ) -> tuple[str, str | None]:
        """Return the text of a reply and its finish_reason."""
        settings = self.settings
        prompt = build_prompt(request.problem, settings.prompt_format)
        sampling: dict[str, Any] = {"model": self.model, "temperature": settings.temperature}
        if settings.top_p is not None:
            sampling["top_p"] = settings.top_p
        if settings.prompt_format == "chat":
            reply = await client.chat.completions.create(
                **sampling,
                messages=[{"role": "user", "content": prompt}],
                max_completion_tokens=settings.max_new_tokens,
            )
        else:
            reply = await client.completions.create(
                **sampling,
                prompt=prompt,
                max_tokens=settings.max_new_tokens,
                stop=list(stops[:MAX_SENT_STOPS]) or None,
            )
        choice = _first_choice(reply)
        text = choice.message.content if settings.prompt_format == "chat" else choice.text
        if text is not None and not isinstance(text, str):
            raise ValueError(f"the completion is {type(text).__name__}, not text")
        return text or "", choice.finish_reason

    def _stop(self, reason: str) -> NoReturn:
        raise Stopped(
            f"the endpoint {self.base_url} failed ({reason}); completions so far are saved: rerun "
            "the same command to resume"
        ) from None


def _one_line_without_key(error: Exception) -> str:
    """Return an error in one line, without the API key that some servers repeat in it."""
    key, text = os.environ.get("OPENAI_API_KEY"), error_message(error)
    return text.replace(key, "***") if key else text


def _first_choice(reply: Any) -> Any:
    error, choices = getattr(reply, "error", None), getattr(reply, "choices", None)
    if error or not choices:
        raise ValueError(f"a reply without a completion: {error or reply!r}")
    if getattr(choices[0], "error", None):
        raise ValueError(f"a reply with an error: {choices[0].error}")
    return choices[0]
