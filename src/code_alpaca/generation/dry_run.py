"""Estimate the requests, tokens, time and cost of a run without sending anything."""

from __future__ import annotations

from code_alpaca.core.console import plural
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.generation.quotas import Quotas
from code_alpaca.generation.request_plan import RequestPlan, read_prompt
from code_alpaca.teacher import offline
from code_alpaca.teacher.prices import Price

TYPICAL_ACCEPTANCE = 0.6  # of candidates
TYPICAL_TASK_TOKENS = 250
TYPICAL_REPLY_S = 15.0
BYTES_PER_TOKEN = 4


def describe_dry_run(config: GenerateConfig, plan: RequestPlan, price: Price | None) -> str:
    """Return the first prompt and the estimates of a run, as text."""
    labels = Quotas(config.quotas, config.lookahead).next_labels(0)
    prompt, _ = read_prompt(plan.build_request(0, [], labels).payload)
    prompt_tokens = len(prompt.encode()) // BYTES_PER_TOKEN
    reply_tokens = min(config.tasks_per_request * TYPICAL_TASK_TOKENS, config.max_completion_tokens)
    minimum = -(-config.num_examples // config.tasks_per_request)
    requests = round(minimum / TYPICAL_ACCEPTANCE)
    minutes = _estimate_minutes(config, requests, prompt_tokens + reply_tokens)
    teacher = config.teacher_base_url or "OpenAI"
    lines = [
        f"{prompt}\n",
        f"plan      {plural(config.num_examples, 'row')} from {config.teacher_model} at {teacher}, "
        f"{config.strategy}",
        f"requests  at least {minimum}; about {requests} if {TYPICAL_ACCEPTANCE:.0%} is accepted",
        f"tokens    about {requests * prompt_tokens:,} in and {requests * reply_tokens:,} out",
        f"time      about {plural(round(minutes), 'minute')} at these limits",
    ]
    if price is None and offline.is_offline(config.teacher_base_url):
        lines.append("cost      none: the embedded teacher is free")
    elif price is None and config.served_model:
        lines.append("cost      none: the model is served on this machine")
    elif price is None:
        lines.append("cost      unknown; set price_per_mtok_input and price_per_mtok_output")
    else:
        cap = "no cap" if config.max_cost_usd is None else f"never above ${config.max_cost_usd:g}"
        cost = price.compute_cost(requests * prompt_tokens, requests * reply_tokens)
        rates = f"${price.input:g} in, ${price.output:g} out per million"
        lines.append(f"cost      about ${cost:.2f} ({price.source}: {rates}); {cap}")
    return "\n".join([*lines, "nothing was sent"])


def _estimate_minutes(config: GenerateConfig, requests: int, tokens_per_request: int) -> float:
    concurrency = min(config.max_concurrency, config.lookahead)
    minutes = [requests * TYPICAL_REPLY_S / 60 / concurrency]
    if config.requests_per_minute:
        minutes.append(requests / config.requests_per_minute)
    if config.tokens_per_minute:
        minutes.append(requests * tokens_per_request / config.tokens_per_minute)
    return max(minutes)
