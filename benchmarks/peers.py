"""Ask one teacher through Bespoke Curator or distilabel: what `generation_speed.py --peers` times.

It runs in an environment of its own, whose versions are its own:

    python -m venv peers && peers/bin/pip install bespokelabs-curator 'distilabel[openai]'
    peers/bin/python benchmarks/peers.py curator http://127.0.0.1:8377/v1 640 64
"""

from __future__ import annotations

import os
import sys
import tempfile
import time


def curator(url: str, requests: int, at_a_time: int) -> float:
    """Seconds of one run of Curator's LLM over so many prompts."""
    os.environ.update(CURATOR_DISABLE_CACHE="1", TELEMETRY_ENABLED="0", CURATOR_VIEWER="0")
    from bespokelabs import curator

    llm = curator.LLM(
        model_name="openai/offline-teacher",
        backend="litellm",
        backend_params={
            "base_url": url,
            "max_concurrent_requests": at_a_time,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "require_all_responses": True,
        },
    )
    began = time.monotonic()
    answers = llm([prompt(number) for number in range(requests)])
    seconds = time.monotonic() - began
    answers = getattr(answers, "dataset", answers)
    assert len(answers) == requests, len(answers)
    return seconds


def distilabel(url: str, requests: int, at_a_time: int) -> float:
    """Seconds of one run of a distilabel pipeline with one TextGeneration step."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    with Pipeline(name="speed", cache_dir=tempfile.mkdtemp()) as pipeline:
        rows = [{"instruction": prompt(number)} for number in range(requests)]
        load = LoadDataFromDicts(data=rows, batch_size=at_a_time)
        llm = OpenAILLM(model="offline-teacher", base_url=url, api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=at_a_time)
    began = time.monotonic()
    made = pipeline.run(use_cache=False)["default"]["train"]
    seconds = time.monotonic() - began
    assert len(made) == requests and all(made["generation"])
    return seconds


def prompt(number: int) -> str:
    return f"Write exactly 1 new tasks, number {number}."


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_API_KEY", "none")
    name, url, requests, at_a_time = sys.argv[1:]
    seconds = {"curator": curator, "distilabel": distilabel}[name](
        url, int(requests), int(at_a_time)
    )
    print(f"seconds {seconds:.3f}")
