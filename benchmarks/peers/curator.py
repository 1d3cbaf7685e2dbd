"""Complete prompts with Bespoke Curator: {url, requests, concurrency} -> {seconds}."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time

os.environ.update(
    OPENAI_API_KEY="none", CURATOR_DISABLE_CACHE="1", TELEMETRY_ENABLED="0", CURATOR_VIEWER="0"
)


def main() -> None:
    from bespokelabs import curator

    request = json.load(sys.stdin)
    llm = curator.LLM(
        model_name="openai/offline-teacher",
        backend="litellm",
        backend_params={
            "base_url": request["url"],
            "max_concurrent_requests": request["concurrency"],
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
            "require_all_responses": True,
        },
    )
    prompts = [f"Write exactly 1 new tasks, number {n}." for n in range(request["requests"])]
    started = time.monotonic()
    with contextlib.redirect_stdout(sys.stderr):
        responses = llm(prompts)
    seconds = time.monotonic() - started
    responses = getattr(responses, "dataset", responses)
    assert len(responses) == len(prompts), len(responses)
    print(json.dumps({"seconds": seconds}))


if __name__ == "__main__":
    main()
