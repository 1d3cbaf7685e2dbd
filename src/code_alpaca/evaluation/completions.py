"""Answers of a model to problems: a local one through transformers, or an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from code_alpaca.benchmarks import Problem
from code_alpaca.errors import InputError, Stopped, one_line
from code_alpaca.formatting import format_prompt
from code_alpaca.quiet import quiet

PromptFormat = Literal["alpaca", "alpaca_nl", "completion", "chat"]
COMPLETE = "Complete the following Python function. Reply with the whole function."
# Where an answer has ended and a model goes on: the next thing at the left margin after a
# function's body, or the next turn of an Alpaca prompt.
AFTER_A_FUNCTION = ("\ndef ", "\nclass ", "\nif __name__", "\nprint(", "\nassert ", "\n@", "\n```")
AFTER_AN_ANSWER = ("\n### Instruction:", "\n### Input:", "\n### Response:")


@dataclass(frozen=True, slots=True)
class Job:
    """One answer wanted: sample number `sample` of `problem`."""

    problem: Problem
    sample: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What an answer depends on besides model and problem."""

    prompt_format: PromptFormat
    temperature: float
    max_new_tokens: int
    seed: int


Save = Callable[[Job, str], None]


def prompt_of(problem: Problem, prompt_format: PromptFormat) -> str:
    """What the model continues: the Alpaca prompt, the problem's own, or the words of a chat."""
    if prompt_format == "completion":
        return problem.prompt
    task = (problem.instruction, "") if problem.instruction else (COMPLETE, problem.prompt)
    if prompt_format == "chat":
        return "\n\n".join(task).strip()
    return format_prompt(*task, style=prompt_format)


def stops_of(problem: Problem, prompt_format: PromptFormat) -> tuple[str, ...]:
    """The strings at which an answer ends."""
    if prompt_format == "chat":
        return ()
    if prompt_format != "completion":
        return AFTER_AN_ANSWER
    return problem.stops if problem.language != "python" else AFTER_A_FUNCTION


def until(text: str, stops: Sequence[str]) -> str:
    """The text up to the first of the stops, without it."""
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def complete_locally(
    path: str,
    jobs: Sequence[Job],
    save: Save,
    settings: Settings,
    *,
    batch_size: int,
    dtype: str,
) -> None:
    """Answer `jobs` with a model folder or Hub id, longest prompts first, saving each answer.

    An answer depends on its own prompt, seed and sample number: not on its batch or process,
    as far as the arithmetic of padded batches allows.

    Args:
        dtype: of the weights; auto: bfloat16 where the GPU has it, else float32.

    Raises:
        InputError: the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessorList

    quiet()
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    if dtype == "auto":
        bf16 = device != "cpu" and torch.cuda.is_bf16_supported()
        dtype = "bfloat16" if bf16 else "float32"
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(path, dtype=dtype)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load model {path}: {str(error).splitlines()[0]}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device).eval()
    # Neighbours of like length waste the least padding; the longest first shows early whether
    # a batch fits the memory.
    ordered = sorted(jobs, key=lambda job: -len(_text(job, settings, tokenizer)))
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        texts = [_text(job, settings, tokenizer) for job in batch]
        special = settings.prompt_format != "chat"  # a chat template writes its own
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=special)
        inputs.pop("token_type_ids", None)
        form = settings.prompt_format
        stops = sorted({stop for job in batch for stop in stops_of(job.problem, form)})
        processors = LogitsProcessorList()
        if settings.temperature:
            processors.append(_Sampler(batch, settings, device))
        with torch.inference_mode():
            out = model.generate(
                **inputs.to(device),
                max_new_tokens=settings.max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                do_sample=False,
                logits_processor=processors,
                **({"stop_strings": stops, "tokenizer": tokenizer} if stops else {}),
            )
        answers = out[:, inputs["input_ids"].shape[1] :]
        decoded = tokenizer.batch_decode(answers, skip_special_tokens=True)
        for job, text in zip(batch, decoded, strict=True):
            save(job, until(text, stops_of(job.problem, form)))


def _text(job: Job, settings: Settings, tokenizer: Any) -> str:
    prompt = prompt_of(job.problem, settings.prompt_format)
    if settings.prompt_format != "chat":
        return prompt
    if tokenizer.chat_template is None:
        raise InputError("the model has no chat template; use prompt_format alpaca or completion")
    turns = [{"role": "user", "content": prompt}]
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


class _Sampler:
    """Draw each row's next token by a random source of its own.

    The Gumbel-max trick (Gumbel 1954; https://arxiv.org/abs/1411.0030): the arg max of
    logits / temperature - log(exponential noise) is a draw from the softmax. So `generate` runs
    greedily, and a row's draws do not depend on the other rows of its batch.
    """

    def __init__(self, batch: Sequence[Job], settings: Settings, device: str) -> None:
        import torch

        self._temperature = settings.temperature
        self._sources = []
        for job in batch:
            text = json.dumps([settings.seed, job.problem.task_id, job.sample])
            seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
            self._sources.append(torch.Generator(device).manual_seed(seed))

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        scores = scores.float() / self._temperature
        for row, source in zip(scores, self._sources, strict=True):
            row -= torch.empty_like(row).exponential_(generator=source).log()
        return scores


def complete_remotely(
    base_url: str,
    model: str,
    jobs: Sequence[Job],
    save: Save,
    settings: Settings,
    *,
    batch_size: int,
) -> None:
    """Answer `jobs` through an endpoint, `batch_size` at a time, saving each answer.

    A chat goes to /chat/completions; every other form is a text for /completions to continue.

    Raises:
        Stopped: the endpoint failed; what was answered is saved and the same command goes on.
    """
    import openai

    sampling = {"model": model, "temperature": settings.temperature}

    async def run() -> None:
        client = openai.AsyncOpenAI(
            base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=5
        )
        slots = asyncio.Semaphore(batch_size)

        async def ask(job: Job) -> str | None:
            prompt = prompt_of(job.problem, settings.prompt_format)
            stops = stops_of(job.problem, settings.prompt_format)
            if settings.prompt_format == "chat":
                reply = await client.chat.completions.create(
                    **sampling,
                    messages=[{"role": "user", "content": prompt}],
                    max_completion_tokens=settings.max_new_tokens,
                )
                return reply.choices[0].message.content if reply.choices else None
            answer = await client.completions.create(
                **sampling,
                prompt=prompt,
                max_tokens=settings.max_new_tokens,
                stop=list(stops[:4]) or None,  # OpenAI takes four; `until` knows them all
            )
            return answer.choices[0].text if answer.choices else None

        async def answer(job: Job) -> None:
            async with slots:
                text = await ask(job)
            stops = stops_of(job.problem, settings.prompt_format)
            save(job, until(text or "", stops))  # no answer is a wrong one

        async with client:
            tasks = [asyncio.create_task(answer(job)) for job in jobs]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()

    try:
        asyncio.run(run())
    except openai.OpenAIError as error:
        raise Stopped(
            f"the endpoint {base_url} failed ({one_line(error)}); answers so far are kept: the "
            "same command goes on"
        ) from None
