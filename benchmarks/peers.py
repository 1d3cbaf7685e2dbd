"""Run Bespoke Curator or distilabel against a teacher, for `generation_speed.py --peers`.

It needs an environment of its own:

    python -m venv peers && peers/bin/pip install bespokelabs-curator 'distilabel[openai]'
    peers/bin/python benchmarks/peers.py curator http://127.0.0.1:8377/v1 640 64
"""

from __future__ import annotations

import os
import sys
import tempfile
import time


def time_curator(url: str, requests: int, concurrency: int) -> float:
    """Return the seconds that Curator's LLM takes for this number of prompts."""
    os.environ.update(CURATOR_DISABLE_CACHE="1", TELEMETRY_ENABLED="0", CURATOR_VIEWER="0")
    from bespokelabs import curator

    llm = curator.LLM(
        model_name="openai/offline-teacher",
        backend="litellm",
        backend_params={
            "base_url": url,
            "max_concurrent_requests": concurrency,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "require_all_responses": True,
        },
    )
    started = time.monotonic()
    responses = llm([write_prompt(number) for number in range(requests)])
    seconds = time.monotonic() - started
    responses = getattr(responses, "dataset", responses)
    assert len(responses) == requests, len(responses)
    return seconds


def time_distilabel(url: str, requests: int, concurrency: int) -> float:
    """Return the seconds of a distilabel pipeline with one TextGeneration step."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    with Pipeline(name="speed", cache_dir=tempfile.mkdtemp()) as pipeline:
        rows = [{"instruction": write_prompt(number)} for number in range(requests)]
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        llm = OpenAILLM(model="offline-teacher", base_url=url, api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)
    started = time.monotonic()
    dataset = pipeline.run(use_cache=False)["default"]["train"]
    seconds = time.monotonic() - started
    assert len(dataset) == requests and all(dataset["generation"])
    return seconds


def write_prompt(number: int) -> str:
    return f"Write exactly 1 new tasks, number {number}."


if __name__ == "__main__":
    os.environ.setdefault("OPENAI_API_KEY", "none")
    name, url, requests, concurrency = sys.argv[1:]
    time_peer = {"curator": time_curator, "distilabel": time_distilabel}[name]
    print(f"seconds {time_peer(url, int(requests), int(concurrency)):.3f}")
