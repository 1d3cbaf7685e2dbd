"""Complete prompts with a model behind an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn

import openai

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
from code_alpaca.teacher.capabilities import ProcessMemory, ServerCapabilities
from code_alpaca.teacher.error_classification import RequestFailure, classify_exception
from code_alpaca.teacher.http_client import create_client, decode_reply, post
from code_alpaca.teacher.reply_parsing import read_completion
from code_alpaca.teacher.request_body import (
    ENDPOINT_PATHS,
    Api,
    SamplingParams,
    build_request_body,
)
from code_alpaca.teacher.scheduling import ConnectionSettings

TIMEOUT_S = 600.0  # without a response
MAX_RETRIES = 5  # of the client, after errors of the connection or the server
RETRY_DELAY_S = 0.5  # before another attempt, times the number of attempts so far
MAX_ATTEMPTS = 3  # at a reply without a completion, such as one without choices
SAMPLING_KEYS = ("temperature", "top_p")
MAX_SENT_STOPS = 4  # OpenAI's limit; `truncate_at_stop` applies all of them
REFUSED_STATUSES = (400, 403, 413, 422)  # of one prompt: too long, or moderated
NO_ACCESS_STATUSES = (401, 404)
MAX_FAILURES_IN_A_ROW = 8  # more than that is the endpoint's fault, not the prompts'


@dataclass
class EndpointBackend:
    """An OpenAI-compatible endpoint: the URL of a server, or of several, separated by commas.

    Chats are sent to /chat/completions, all other prompts to /completions, in the same form as to a
    teacher. A parameter that the server refuses is dropped.
    """

    base_url: str
    model: str
    settings: GenerationSettings
    batch_size: int  # requests in flight
    has_responded: bool = False  # it has completed a prompt: a refusal is then the prompt's fault
    extra_headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may be secret
    # Only the last one may have a text: see `_keep`.
    _unsaved: list[tuple[CompletionRequest, Completion]] = field(default_factory=list, init=False)

    def complete(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        """Complete requests, `batch_size` at a time.

        A prompt that the server refuses, or fails at repeatedly, has an empty completion with the
        reason, as long as the server completes other prompts.
        """
        asyncio.run(self._run(requests, save))

    async def _run(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        connection = ConnectionSettings(
            self._api, self.batch_size, TIMEOUT_S, extra_headers=self.extra_headers
        )
        slots = asyncio.Semaphore(self.batch_size)

        async def complete_one(client: openai.AsyncOpenAI, request: CompletionRequest) -> None:
            async with slots:
                self._keep(request, await self._complete(client, request), save)

        async with contextlib.AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(
                    create_client(url, connection, default_key="none").with_options(
                        max_retries=MAX_RETRIES
                    )
                )
                for url in self._urls
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

    @property
    def _urls(self) -> list[str]:
        return [url.strip() for url in self.base_url.split(",")]

    @property
    def _api(self) -> Api:
        return "chat" if self.settings.prompt_format == "chat" else "completions"

    @cached_property
    def _capabilities(self) -> ServerCapabilities:
        return ServerCapabilities(ProcessMemory(), self._urls)

    async def _complete(self, client: openai.AsyncOpenAI, request: CompletionRequest) -> Completion:
        stops = stop_strings(request.problem, self.settings.prompt_format)
        body = self._build_body(request, stops)
        reason, attempt = "", 0
        while attempt < MAX_ATTEMPTS:
            sent = self._capabilities.adapt(body)
            try:
                text, finish_reason = await self._send(client, sent)
                stopped = truncate_at_stop(text, stops)
                ending = "stop" if stopped != text else finish_reason
                not_sent = tuple(key for key in SAMPLING_KEYS if key in body and key not in sent)
                return Completion(stopped, ending, not_sent=not_sent)
            except openai.APIStatusError as error:
                if self._capabilities.downgrade(classify_exception(error), sent):
                    continue
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
            except RequestFailure as failure:
                reason = failure.message
            except ValueError as error:  # a body that is not JSON, or JSON of another form
                reason = _one_line_without_key(error)
            attempt += 1
            if attempt < MAX_ATTEMPTS:
                await asyncio.sleep(RETRY_DELAY_S * attempt)
        return Completion("", "error", reason)

    def _build_body(self, request: CompletionRequest, stops: Sequence[str]) -> dict[str, Any]:
        settings = self.settings
        sampling = SamplingParams(
            self.model,
            settings.temperature,
            settings.top_p,
            settings.max_new_tokens,
            tuple(stops[:MAX_SENT_STOPS]) if self._api == "completions" else (),
            settings.reasoning_effort,
            settings.extra_body or {},
        )
        prompt = build_prompt(request.problem, settings.prompt_format)
        return build_request_body(self._api, prompt, sampling, None)

    async def _send(
        self, client: openai.AsyncOpenAI, body: dict[str, Any]
    ) -> tuple[str, str | None]:
        """Return the text of a reply, with reasoning between tags in it, and its finish_reason."""
        reply = decode_reply(await post(client, ENDPOINT_PATHS[self._api], body))
        return read_completion(reply)

    def _stop(self, reason: str) -> NoReturn:
        raise Stopped(
            f"the endpoint {self.base_url} failed ({reason}); completions so far are saved: rerun "
            "the same command to resume"
        ) from None


def _one_line_without_key(error: Exception) -> str:
    """Return an error in one line, without the API key that some servers repeat in it."""
    key, text = os.environ.get("OPENAI_API_KEY"), error_message(error)
    return text.replace(key, "***") if key else text
