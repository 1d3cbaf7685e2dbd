"""Complete prompts with distilabel's TextGeneration: {url, requests, concurrency} -> {seconds}."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time


def main() -> None:
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    request = json.load(sys.stdin)
    concurrency = request["concurrency"]
    prompts = [f"Write exactly 1 new tasks, number {n}." for n in range(request["requests"])]
    with Pipeline(name="speed", cache_dir=tempfile.mkdtemp()) as pipeline:
        rows = [{"instruction": prompt} for prompt in prompts]
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        llm = OpenAILLM(model="offline-teacher", base_url=request["url"], api_key="none")
        load >> TextGeneration(llm=llm, input_batch_size=concurrency)
    started = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        dataset = pipeline.run(use_cache=False)["default"]["train"]
    seconds = time.monotonic() - started
    assert len(dataset) == len(prompts) and all(dataset["generation"])
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
