"""Answers of a model to problems: a local one through transformers, or an OpenAI-compatible URL."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from code_alpaca.benchmarks import Problem
from code_alpaca.errors import InputError, Stopped
from code_alpaca.formatting import format_prompt
from code_alpaca.quiet import quiet

COMPLETE = "Complete the following Python function. Reply with the whole function."


@dataclass(frozen=True, slots=True)
class Job:
    """One answer wanted: sample number `sample` of `problem`."""

    problem: Problem
    sample: int


Save = Callable[[Job, str], None]


def task_of(problem: Problem) -> tuple[str, str]:
    """A problem as an Alpaca task: (instruction, input)."""
    return (problem.instruction, "") if problem.instruction else (COMPLETE, problem.prompt)


def prompt_of(problem: Problem, prompt_format: str) -> str:
    """What the model is given to continue: the Alpaca prompt, or the problem's own."""
    if prompt_format == "completion":
        return problem.prompt
    return format_prompt(*task_of(problem), style=prompt_format)  # type: ignore[arg-type]


def complete_locally(
    path: str,
    jobs: Sequence[Job],
    save: Save,
    *,
    prompt_format: str,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
    seed: int,
) -> None:
    """Answer `jobs` with a model folder or Hub id, longest prompts first, saving each answer.

    Raises:
        InputError: the model cannot be loaded.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

    quiet()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot load model {path}: {str(error).splitlines()[0]}") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).eval()
    sampling = (
        {"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}
    )
    # Neighbours of like length waste the least padding; the longest first shows early whether
    # a batch fits the memory.
    ordered = sorted(jobs, key=lambda job: -len(prompt_of(job.problem, prompt_format)))
    for start in range(0, len(ordered), batch_size):
        batch = ordered[start : start + batch_size]
        prompts = [prompt_of(job.problem, prompt_format) for job in batch]
        inputs = tokenizer(prompts, return_tensors="pt", padding=True)
        inputs.pop("token_type_ids", None)
        set_seed(_seed_of(seed, batch))
        with torch.inference_mode():
            out = model.generate(
                **inputs.to(device),
                max_new_tokens=max_new_tokens,
                pad_token_id=tokenizer.pad_token_id,
                **sampling,
            )
        answers = out[:, inputs["input_ids"].shape[1] :]
        for job, text in zip(
            batch, tokenizer.batch_decode(answers, skip_special_tokens=True), strict=True
        ):
            save(job, text)


def _seed_of(seed: int, batch: Sequence[Job]) -> int:
    """A seed of the batch's own: later samples of a problem must not repeat the earlier ones."""
    text = json.dumps([seed, [(job.problem.task_id, job.sample) for job in batch]])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])


def complete_remotely(
    base_url: str,
    model: str,
    jobs: Sequence[Job],
    save: Save,
    *,
    temperature: float,
    max_new_tokens: int,
    batch_size: int,
) -> None:
    """Answer `jobs` through a chat endpoint, `batch_size` at a time, saving each answer.

    Raises:
        Stopped: the endpoint failed; what was answered is saved and the same command goes on.
    """
    import openai

    async def run() -> None:
        client = openai.AsyncOpenAI(
            base_url=base_url, api_key=os.environ.get("OPENAI_API_KEY") or "none", max_retries=5
        )
        slots = asyncio.Semaphore(batch_size)

        async def answer(job: Job) -> None:
            instruction, input = task_of(job.problem)
            async with slots:
                reply = await client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": f"{instruction}\n\n{input}".strip()}],
                    temperature=temperature,
                    max_completion_tokens=max_new_tokens,
                )
            text = reply.choices[0].message.content if reply.choices else None
            save(job, text or "")  # no answer is a wrong one

        async with client, asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(answer(job))

    try:
        asyncio.run(run())
    except* openai.OpenAIError as errors:
        first = " ".join(str(errors.exceptions[0]).split())[:200]
        raise Stopped(
            f"the endpoint {base_url} failed ({first}); answers so far are kept: the same command "
            "goes on"
        ) from None
