"""Complete prompts with a model that transformers runs on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from code_alpaca.core.errors import InputError, Stopped, error_message
from code_alpaca.core.quiet import silence_libraries
from code_alpaca.evaluation import text_generation
from code_alpaca.evaluation.completions import (
    Completion,
    CompletionRequest,
    GenerationSettings,
    SaveCompletion,
    build_prompt,
    stop_strings,
)
from code_alpaca.evaluation.inference import encode_chat, load_model
from code_alpaca.hub.model_source import ModelSource

STOP_CHECK_TOKENS = 8  # decoded in addition to one token per character of the longest stop string


@dataclass(frozen=True, slots=True)
class LocalModelBackend:
    """A model on this machine.

    A completion depends on its own prompt, seed and sample number, and not on its batch or
    process, except for rounding in padded batches. The model's generation_config does not apply.
    """

    source: ModelSource
    settings: GenerationSettings
    batch_size: int
    dtype: str = "auto"  # of the weights; auto: bfloat16 if the GPU has it, else float32

    def complete(self, requests: Sequence[CompletionRequest], save: SaveCompletion) -> None:
        """Complete requests, longest prompts first.

        A prompt at which the model fails has a completion with finish_reason `error`; one that
        fills the context window, an empty one.
        """
        silence_libraries()
        loaded = load_model(self.source, dtype=text_generation.resolve_dtype(self.dtype))
        completer = _BatchCompleter(loaded, self.settings)
        # Nothing is saved before a first success: if every prompt fails, the model is broken.
        pending: list[tuple[CompletionRequest, Completion]] = []
        succeeded = False
        for batch in completer.plan(requests, self.batch_size):
            pending += zip(batch, completer.complete(batch), strict=True)
            succeeded = succeeded or not all(completion.error for _, completion in pending)
            if succeeded:
                for request, completion in pending:
                    save(request, completion)
                pending.clear()
            elif len(pending) >= self.batch_size:
                break
        if pending:
            raise InputError(
                f"model {self.source.name} fails at every prompt ({pending[0][1].error}); check "
                "that its config, weights and tokenizer belong together"
            )


class _BatchCompleter:
    """Plans batches of requests and completes them."""

    def __init__(self, loaded: text_generation.LoadedModel, settings: GenerationSettings) -> None:
        self._loaded, self._settings = loaded, settings
        self._prompts: dict[tuple[str, int], list[int]] = {}

    def plan(
        self, requests: Sequence[CompletionRequest], batch_size: int
    ) -> Iterator[list[CompletionRequest]]:
        """Yield batches of prompts of similar length, which need the least padding.

        The longest come first and show early whether a batch fits into memory. All prompts of a
        batch leave the same number of tokens for the completion: otherwise a completion that the
        context window limits would depend on its batch.
        """
        self._prompts = {request.key: self._encode(request) for request in requests}
        ordered = sorted(requests, key=lambda request: -len(self._prompts[request.key]))
        for _, group in groupby(ordered, self._max_new_tokens):
            same_limit = list(group)
            for start in range(0, len(same_limit), batch_size):
                yield same_limit[start : start + batch_size]

    def complete(self, batch: list[CompletionRequest]) -> list[Completion]:
        """Return the completions of a batch; after an error each prompt is retried alone."""
        import torch

        if self._max_new_tokens(batch[0]) < 1:
            return [Completion("", "length") for _ in batch]
        try:
            return self._generate(batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if len(batch) == 1:
                raise InputError(
                    "one completion does not fit into the memory of the GPU; lower "
                    "max_new_tokens, or set dtype bfloat16"
                ) from None
            half = len(batch) // 2
            return [*self.complete(batch[:half]), *self.complete(batch[half:])]
        except Exception as error:  # any of the model's code, its cache or its tokenizer
            if isinstance(error, getattr(torch, "AcceleratorError", ())):
                raise Stopped(
                    f"the GPU failed ({error_message(error)}); completions so far are saved: rerun "
                    "the same command to resume"
                ) from None
            if len(batch) == 1:
                return [Completion("", "error", f"{type(error).__name__}: {error_message(error)}")]
        return [completion for request in batch for completion in self.complete([request])]

    def _max_new_tokens(self, request: CompletionRequest) -> int:
        limit, window = self._settings.max_new_tokens, self._loaded.window
        return min(limit, window - len(self._prompts[request.key])) if window else limit

    def _generate(self, batch: list[CompletionRequest]) -> list[Completion]:
        from transformers import LogitsProcessorList, StoppingCriteriaList

        prompts = [self._prompts[request.key] for request in batch]
        stops = [stop_strings(r.problem, self._settings.prompt_format) for r in batch]
        processors, criteria = LogitsProcessorList(), StoppingCriteriaList()
        if self._settings.temperature:
            sampler = GumbelSampler(batch, self._settings, self._loaded.model.device)
            processors.append(sampler)
        if any(stops):
            width = max(map(len, prompts))
            criteria.append(_StopStrings(self._loaded.tokenizer, width, stops))
        generated = self._loaded.generate(
            prompts,
            max_new_tokens=self._max_new_tokens(batch[0]),
            logits_processor=processors,
            stopping_criteria=criteria,
        )
        return [self._decode(*row) for row in zip(prompts, generated, stops, strict=True)]

    def _decode(
        self, prompt: list[int], generated: text_generation.Generated, stops: tuple[str, ...]
    ) -> Completion:
        tokenizer = self._loaded.tokenizer
        if self._settings.prompt_format == "completion":
            text = text_generation.decode_continuation(tokenizer, prompt, generated.ids)
        else:  # training tokenizes a response separately from its prompt
            text = text_generation.decode_response(tokenizer, generated.ids)
        stopped = text_generation.truncate_at_stop(text, stops)
        return Completion(stopped, "stop" if generated.ended or stopped != text else "length")

    def _encode(self, request: CompletionRequest) -> list[int]:
        """Return the token ids of a prompt, never empty."""
        tokenizer, prompt_format = self._loaded.tokenizer, self._settings.prompt_format
        prompt = build_prompt(request.problem, prompt_format)
        if prompt_format == "chat":
            return _encode_chat(tokenizer, prompt)
        ids = tokenizer(prompt)["input_ids"]
        if prompt_format == "completion" and ids[-1:] == [tokenizer.eos_token_id]:
            ids = ids[:-1]  # added by `add_eos_token`; a model does not continue after it
        begin_ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        return ids or [next(token for token in begin_ids if token is not None)]


def _encode_chat(tokenizer: Any, message: str) -> list[int]:
    advice = "set prompt_format to alpaca or completion"
    if tokenizer.chat_template is None:
        raise InputError(f"the model has no chat template; {advice}")
    try:
        return encode_chat(tokenizer, message)
    except Exception as error:  # jinja2's, or one that the template raises
        reason = error_message(error)
        raise InputError(f"the chat template of the model fails ({reason}); {advice}") from None


class _StopStrings:
    """Stop a row of a batch when its completion contains one of its stop strings.

    transformers' own criterion also matches a string that begins in the prompt: after a prompt
    that ends in a newline, a completion could then not begin with "def".
    """

    def __init__(self, tokenizer: Any, prompt_width: int, stops: Sequence[tuple[str, ...]]) -> None:
        self._tokenizer, self._prompt_width, self._stops = tokenizer, prompt_width, stops
        self._num_checked = max(len(stop) for row in stops for stop in row) + STOP_CHECK_TOKENS
        self._stopped = [False] * len(stops)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        start = max(self._prompt_width, input_ids.shape[1] - self._num_checked)
        for row, ids in enumerate(input_ids[:, start:].tolist()):
            if not self._stopped[row]:
                text = text_generation.decode(self._tokenizer, ids)
                self._stopped[row] = any(stop in text for stop in self._stops[row])
        return torch.tensor(self._stopped, device=input_ids.device)


class GumbelSampler:
    """Sample the next token of each row with its own random generator.

    The Gumbel-max trick (Gumbel 1954; https://arxiv.org/abs/1411.0030): the arg max of
    logits / temperature - log(exponential noise) is a sample from the softmax. So `generate` runs
    greedily, and the samples of a row do not depend on the other rows of its batch.
    """

    def __init__(
        self, batch: Sequence[CompletionRequest], settings: GenerationSettings, device: Any
    ) -> None:
        import torch

        self._settings, self._generators = settings, []
        for request in batch:
            text = json.dumps([settings.seed, request.problem.task_id, request.sample])
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
            self._generators.append(torch.Generator(device).manual_seed(seed))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return logits (batch, vocabulary) whose arg max is the sampled token."""
        import torch
        from transformers import TopPLogitsWarper

        scores = scores.float() / self._settings.temperature
        if self._settings.top_p is not None and self._settings.top_p < 1:
            scores = TopPLogitsWarper(self._settings.top_p)(input_ids, scores)
        for row, generator in zip(scores, self._generators, strict=True):
            row -= torch.empty_like(row).exponential_(generator=generator).log()
        return scores
