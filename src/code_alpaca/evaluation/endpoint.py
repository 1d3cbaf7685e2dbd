"""Answers of a model behind an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any, NoReturn

from code_alpaca.core.errors import InputError, Stopped, error_message
from code_alpaca.evaluation.completions import (
    Completion,
    CompletionRequest,
    GenerationSettings,
    SaveCompletion,
    build_prompt,
    stop_strings,
    truncate_at_stop,
)

WAIT_S = 0.5  # before another try, times the number of tries so far
TRIES = 3  # of a reply that is no answer, such as one without choices
MAX_STOPS = 4  # that OpenAI takes; `until` knows them all
REFUSED = (400, 403, 413, 422)  # of one prompt: too long, or moderated
NO_ACCESS = (401, 404)
FAILS_IN_A_ROW = 8  # without an answer in between: then it is the endpoint, not the prompt


def complete_with_endpoint(
    base_url: str,
    model: str,
    jobs: Sequence[CompletionRequest],
    save: SaveCompletion,
    settings: GenerationSettings,
    *,
    batch_size: int,
    answered: bool = False,
) -> None:
    """Answer `jobs` through an endpoint, `batch_size` at a time, saving each answer.

    A chat goes to /chat/completions; every other form is a text for /completions to continue. A
    prompt that the server refuses, or has no answer for after a few tries, is an empty answer
    that says why, as long as the server answers others.

    Args:
        answered: whether the endpoint answered before: then a refusal is about its prompt.

    Raises:
        InputError: the endpoint accepts no request: key, model or settings are wrong.
        Stopped: the endpoint failed; what was answered is saved.
    """
    asyncio.run(_Asker(base_url, model, save, settings, answered).run(jobs, batch_size))


class _NoAnswer(Exception):
    """A reply that holds no answer."""


class _Asker:
    def __init__(
        self,
        base_url: str,
        model: str,
        save: SaveCompletion,
        settings: GenerationSettings,
        answered: bool,
    ) -> None:
        self._base_url, self._model, self._settings = base_url, model, settings
        self._save, self._answered = save, answered
        self._without: list[
            tuple[CompletionRequest, Completion]
        ] = []  # kept back until one prompt was answered

    async def run(self, jobs: Sequence[CompletionRequest], batch_size: int) -> None:
        import openai

        self._client = openai.AsyncOpenAI(
            base_url=self._base_url,
            api_key=os.environ.get("OPENAI_API_KEY") or "none",
            max_retries=5,
        )
        slots = asyncio.Semaphore(batch_size)

        async def take(job: CompletionRequest) -> None:
            async with slots:
                self._keep(job, await self._answer(job), batch_size)

        async with self._client:
            tasks = [asyncio.create_task(take(job)) for job in jobs]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
        if self._without and not self._answered:
            self._give_up()
        self._flush()

    def _keep(self, job: CompletionRequest, answer: Completion, batch_size: int) -> None:
        """Save an answer; a missing one only once it is known to be about its prompt."""
        self._answered = self._answered or not answer.error
        self._without.append((job, answer))
        if not answer.error or (self._answered and answer.finish_reason == "refused"):
            self._flush()
        elif len(self._without) >= max(batch_size, FAILS_IN_A_ROW):
            self._give_up()

    def _flush(self) -> None:
        for each in self._without:
            self._save(*each)
        self._without.clear()

    def _give_up(self) -> NoReturn:
        answer = self._without[0][1]
        text = f"the endpoint {self._base_url} answers no prompt ({answer.error})"
        if answer.finish_reason == "refused":
            raise InputError(f"{text}; check model, max_new_tokens and prompt_format")
        raise Stopped(f"{text}; rerun the same command to resume")

    async def _answer(self, job: CompletionRequest) -> Completion:
        import openai

        reason = ""
        for attempt in range(TRIES):
            await asyncio.sleep(WAIT_S * attempt)
            try:
                text, finish = await self._ask(job)
                stops = stop_strings(job.problem, self._settings.prompt_format)
                kept = truncate_at_stop(text, stops)
                return Completion(kept, "stop" if kept != text else finish)
            except openai.APIStatusError as error:
                reason = self._one_line(error)
                if error.status_code in NO_ACCESS:
                    raise InputError(
                        f"the endpoint {self._base_url} refuses ({reason}); check OPENAI_API_KEY, "
                        "base_url and model"
                    ) from None
                if error.status_code in REFUSED:
                    return Completion("", "refused", reason)
                if error.status_code != 500:  # the client has retried all of them
                    self._stop(reason)
                break
            except openai.APIConnectionError as error:
                self._stop(self._one_line(error))
            except Exception as error:  # a body that is no JSON, or JSON of another form
                reason = f"{type(error).__name__}: {self._one_line(error)}"
        return Completion("", "error", reason)

    async def _ask(self, job: CompletionRequest) -> tuple[str, str | None]:
        """The text of a reply and its finish_reason."""
        settings = self._settings
        prompt = build_prompt(job.problem, settings.prompt_format)
        sampling: dict[str, Any] = {"model": self._model, "temperature": settings.temperature}
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
            stops = stop_strings(job.problem, settings.prompt_format)
            reply = await self._client.completions.create(
                **sampling,
                prompt=prompt,
                max_tokens=settings.max_new_tokens,
                stop=list(stops[:MAX_STOPS]) or None,
            )
            choice = _first_choice(reply)
            text = choice.text
        if text is not None and not isinstance(text, str):
            raise _NoAnswer(f"the answer is no text but {type(text).__name__}")
        return text or "", choice.finish_reason

    def _stop(self, reason: str) -> NoReturn:
        raise Stopped(
            f"the endpoint {self._base_url} failed ({reason}); answers so far are saved: rerun the "
            "same command to resume"
        ) from None

    def _one_line(self, error: Exception) -> str:
        """An error in one line, without the key that some servers repeat in it."""
        key = os.environ.get("OPENAI_API_KEY")
        text = error_message(error)
        return text.replace(key, "***") if key else text


def _first_choice(reply: Any) -> Any:
    error = getattr(reply, "error", None)
    choices = getattr(reply, "choices", None)
    if error or not choices:
        raise _NoAnswer(f"a reply without an answer: {error or reply!r}")
    if getattr(choices[0], "error", None):
        raise _NoAnswer(f"a reply with an error: {choices[0].error}")
    return choices[0]
