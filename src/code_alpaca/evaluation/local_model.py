"""Answers of a model that transformers runs on this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from code_alpaca.core.errors import InputError, Stopped, error_message
from code_alpaca.core.quiet import silence_libraries
from code_alpaca.evaluation.completions import (
    Completion,
    CompletionRequest,
    GenerationSettings,
    SaveCompletion,
    build_prompt,
    stop_strings,
    truncate_at_stop,
)
from code_alpaca.evaluation.inference import (
    decode,
    decode_continuation,
    decode_response,
    load_model,
    neutral_generation_config,
)
from code_alpaca.hub.model_source import ModelSource, find_model

TAIL = 8  # tokens to decode beyond one for each character of a stop string


def complete_with_model(
    model: str | ModelSource,
    jobs: Sequence[CompletionRequest],
    save: SaveCompletion,
    settings: GenerationSettings,
    *,
    batch_size: int,
    dtype: str,
) -> None:
    """Answer `jobs`, longest prompts first, saving each answer.

    An answer depends on its own prompt, seed and sample number: not on its batch or process, as
    far as the arithmetic of padded batches allows. At temperature 0 it is the most likely token
    at every place, whatever the model's generation_config says. A prompt that the model fails at
    has an answer with finish_reason `error`; one that fills the window, an empty one.

    Args:
        model: a folder, a Hub id, or what `find_model` found.
        dtype: of the weights; auto: bfloat16 where the GPU has it, else float32.

    Raises:
        InputError: the model cannot be loaded, or fails at every prompt.
        Stopped: the GPU failed; what was answered is saved.
    """
    silence_libraries()
    source = model if isinstance(model, ModelSource) else find_model(model)
    network, tokenizer = load_model(source, dtype=resolve_dtype(dtype))
    writer = _Writer(network, tokenizer, settings)
    failed: list[
        tuple[CompletionRequest, Completion]
    ] = []  # kept back until one prompt was answered
    answered = False
    for batch in writer.batches(jobs, batch_size):
        for job, answer in zip(batch, writer.answer(batch), strict=True):
            answered = answered or not answer.error
            failed.append((job, answer))
        if answered:
            for job, answer in failed:
                save(job, answer)
            failed.clear()
        elif len(failed) >= batch_size:
            break
    if failed:
        raise InputError(
            f"model {source.name} fails at every prompt ({failed[0][1].error}); check that its "
            "config, weights and tokenizer belong together"
        )


def resolve_dtype(dtype: str) -> str:
    """The data type of the weights: for auto bfloat16 where the GPU has it, else float32."""
    import torch

    if dtype != "auto":
        return dtype
    bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bfloat16" if bf16 else "float32"


class _Writer:
    """One loaded model, and what each job gives it to continue."""

    def __init__(self, network: Any, tokenizer: Any, settings: GenerationSettings) -> None:
        self._network, self._tokenizer, self._settings = network, tokenizer, settings
        config = network.config.get_text_config()
        self._window = getattr(config, "max_position_embeddings", None)
        self._prompts: dict[tuple[str, int], list[int]] = {}

    def batches(
        self, jobs: Sequence[CompletionRequest], size: int
    ) -> Iterator[list[CompletionRequest]]:
        """Neighbours of similar length waste the least padding; the longest prompts come first
        and show early whether a batch fits into memory.

        A batch holds prompts that leave the same room: where the window is the limit, an answer
        would otherwise depend on its neighbours.
        """
        for job in jobs:
            self._prompts[_key(job)] = _prompt_ids(job, self._settings, self._tokenizer)
        ordered = sorted(jobs, key=lambda job: -len(self._prompts[_key(job)]))
        for _, group in groupby(ordered, self._room):
            same = list(group)
            for start in range(0, len(same), size):
                yield same[start : start + size]

    def answer(self, batch: list[CompletionRequest]) -> list[Completion]:
        """The answers to a batch; a row that fails in it is tried alone."""
        import torch

        if self._room(batch[0]) < 1:
            return [Completion("", "length") for _ in batch]
        try:
            return self._generate(batch)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            if len(batch) == 1:
                raise InputError(
                    "one answer does not fit into the memory of the GPU; lower max_new_tokens, or "
                    "set dtype bfloat16"
                ) from None
            half = len(batch) // 2
            return [*self.answer(batch[:half]), *self.answer(batch[half:])]
        except Exception as error:  # whatever a model, its cache or its tokenizer raises
            if isinstance(error, getattr(torch, "AcceleratorError", ())):
                raise Stopped(
                    f"the GPU failed ({error_message(error)}); answers so far are saved: rerun the "
                    "same command to resume"
                ) from None
            if len(batch) == 1:
                return [Completion("", "error", f"{type(error).__name__}: {error_message(error)}")]
        return [answer for job in batch for answer in self.answer([job])]

    def _room(self, job: CompletionRequest) -> int:
        """The tokens that an answer may have."""
        most = self._settings.max_new_tokens
        return min(most, self._window - len(self._prompts[_key(job)])) if self._window else most

    def _generate(self, batch: list[CompletionRequest]) -> list[Completion]:
        import torch
        from transformers import LogitsProcessorList, StoppingCriteriaList

        form, device = self._settings.prompt_format, self._network.device
        prompts = [self._prompts[_key(job)] for job in batch]
        stops = [stop_strings(job.problem, form) for job in batch]
        width = max(map(len, prompts))
        with (
            neutral_generation_config(self._network, self._tokenizer) as ends,
            torch.inference_mode(),
        ):
            padding = self._network.generation_config.pad_token_id
            rows = [[padding] * (width - len(ids)) + ids for ids in prompts]
            mask = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
            processors = LogitsProcessorList()
            if self._settings.temperature:
                processors.append(GumbelSampler(batch, self._settings, device))
            criteria = StoppingCriteriaList()
            if any(stops):
                criteria.append(_StopStrings(self._tokenizer, width, stops))
            written = self._network.generate(
                torch.tensor(rows, device=device),
                attention_mask=torch.tensor(mask, device=device),
                max_new_tokens=self._room(batch[0]),
                do_sample=False,
                logits_processor=processors,
                stopping_criteria=criteria,
            )
        return [
            self._as_answer(prompt, ids, ends, row_stops)
            for prompt, ids, row_stops in zip(
                prompts, written[:, width:].tolist(), stops, strict=True
            )
        ]

    def _as_answer(
        self, prompt: list[int], ids: list[int], ends: list[int], stops: tuple[str, ...]
    ) -> Completion:
        end = next((at for at, token in enumerate(ids) if token in ends), None)
        ids = ids[:end]
        if self._settings.prompt_format == "completion":
            text = decode_continuation(self._tokenizer, prompt, ids)
        else:  # an answer of its own, which training tokenizes apart from the prompt
            text = decode_response(self._tokenizer, ids)
        kept = truncate_at_stop(text, stops)
        return Completion(kept, "length" if end is None and kept == text else "stop")


def _key(job: CompletionRequest) -> tuple[str, int]:
    return job.problem.task_id, job.sample


def _prompt_ids(job: CompletionRequest, settings: GenerationSettings, tokenizer: Any) -> list[int]:
    prompt = build_prompt(job.problem, settings.prompt_format)
    if settings.prompt_format == "chat":
        if tokenizer.chat_template is None:
            raise InputError(
                "the model has no chat template; set prompt_format to alpaca or completion"
            )
        turns = [{"role": "user", "content": prompt}]
        try:
            return tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=False
            )
        except Exception as error:  # jinja2's, or whatever the template raises
            raise InputError(
                f"the chat template of the model fails ({error_message(error)}); set prompt_format "
                "to alpaca or completion"
            ) from None
    ids = tokenizer(prompt)["input_ids"]
    if settings.prompt_format == "completion" and ids[-1:] == [tokenizer.eos_token_id]:
        ids = ids[:-1]  # of `add_eos_token`: a text that has ended is not continued
    begin = next(
        (each for each in (tokenizer.bos_token_id, tokenizer.eos_token_id) if each is not None), 0
    )
    return ids or [begin]  # an empty prompt


class _StopStrings:
    """End a row once its answer holds one of its stop strings.

    That of transformers also matches a string which begins in the prompt: a prompt that ends in
    a newline then has an answer that may not begin with "def".
    """

    def __init__(self, tokenizer: Any, width: int, stops: Sequence[tuple[str, ...]]) -> None:
        self._tokenizer, self._width, self._stops = tokenizer, width, stops
        longest = max((len(stop) for row in stops for stop in row), default=0)
        self._tail = longest + TAIL
        self._ended = [False] * len(stops)

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        start = max(self._width, input_ids.shape[1] - self._tail)
        for row, ids in enumerate(input_ids[:, start:].tolist()):
            if not self._ended[row] and self._stops[row]:
                text = decode(self._tokenizer, ids)
                self._ended[row] = any(stop in text for stop in self._stops[row])
        return torch.tensor(self._ended, device=input_ids.device)


class GumbelSampler:
    """Draw each row's next token by a random source of its own.

    The Gumbel-max trick (Gumbel 1954; https://arxiv.org/abs/1411.0030): the arg max of
    logits / temperature - log(exponential noise) is a draw from the softmax. So `generate` runs
    greedily, and a row's draws do not depend on the other rows of its batch.
    """

    def __init__(
        self, batch: Sequence[CompletionRequest], settings: GenerationSettings, device: Any
    ) -> None:
        import torch

        self._settings = settings
        self._sources = []
        for job in batch:
            text = json.dumps([settings.seed, job.problem.task_id, job.sample])
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
            self._sources.append(torch.Generator(device).manual_seed(seed))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch
        from transformers import TopPLogitsWarper

        scores = scores.float() / self._settings.temperature
        if self._settings.top_p is not None and self._settings.top_p < 1:
            scores = TopPLogitsWarper(self._settings.top_p)(input_ids, scores)
        for row, source in zip(scores, self._sources, strict=True):
            row -= torch.empty_like(row).exponential_(generator=source).log()
        return scores
