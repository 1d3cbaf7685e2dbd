"""Refuse a config or seed tasks with which a run would fail later, before anything is paid for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from code_alpaca.core import console
from code_alpaca.core.config import check_base_urls
from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.ledger import Decision
from code_alpaca.core.plugins import PluginError
from code_alpaca.core.redact import find_secret
from code_alpaca.core.schema import Example, SeedTask
from code_alpaca.curation.pipeline import Curator
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.generation.quotas import Quotas
from code_alpaca.generation.request_plan import RequestPlan
from code_alpaca.generation.strategies import STRATEGIES
from code_alpaca.generation.strategies.self_instruct import SelfInstruct
from code_alpaca.teacher import offline
from code_alpaca.teacher.prices import Price, find_price


def check_environment(config: GenerateConfig) -> None:
    """Refuse a base URL in the environment that the config would refuse."""
    url = os.environ.get("OPENAI_BASE_URL")
    if config.teacher_base_url is not None or not url:
        return
    if secret := find_secret(url):
        raise InputError(
            f"OPENAI_BASE_URL is a URL with credentials ({secret}); put the key in OPENAI_API_KEY"
        )
    try:
        check_base_urls(url)
    except ValueError as error:
        raise InputError(f"OPENAI_BASE_URL is {error}") from None


def check_model(config: GenerateConfig) -> None:
    """Refuse a teacher on another machine whose model is not named."""
    from code_alpaca.teacher.http_client import is_local  # loads the OpenAI SDK

    urls = config.teacher_base_url or os.environ.get("OPENAI_BASE_URL") or ""
    here = offline.is_offline(urls) or all(map(is_local, urls.split(",")))
    if not here and "teacher_model" not in config.model_fields_set:
        raise InputError(
            f"teacher_model is not set; name a model of {urls or 'OpenAI'} (--teacher_model NAME), "
            "or set teacher_base_url: offline for the embedded teacher"
        )


def find_teacher_price(config: GenerateConfig) -> Price | None:
    """Return the teacher's price, None where it is unknown and no cap needs it."""
    prices = (config.price_per_mtok_input, config.price_per_mtok_output)
    if prices.count(None) == 1:
        raise InputError("set both price_per_mtok_input and price_per_mtok_output, or neither")
    model, url, batch = config.teacher_model, config.teacher_base_url, config.teacher_api == "batch"
    if offline.is_offline(url) and None in prices:
        price = None
    else:
        price = find_price(model, url, configured=prices, batch=batch)
    if price is None and config.max_cost_usd is not None:
        raise InputError(
            f"max_cost_usd is set and the price of {model} is unknown; set "
            "price_per_mtok_input and price_per_mtok_output"
        )
    return price


def check_limits(config: GenerateConfig, plan: RequestPlan, price: Price | None) -> None:
    """Refuse keys that contradict each other or have no effect, and limits that are too low."""
    if config.teacher_api == "batch" and offline.is_offline(config.teacher_base_url):
        raise InputError("the embedded teacher has no Batch API; use teacher_api: chat with it")
    if config.teacher_api == "batch" and config.served_model:
        raise InputError("a model that is served here has no Batch API; use teacher_api: chat")
    if config.reasoning_effort and config.teacher_api == "completions":
        raise InputError(
            "reasoning_effort has no effect with teacher_api completions; leave it out"
        )
    if config.push_to_hub and not config.hub_dataset_id:
        raise InputError("push_to_hub needs hub_dataset_id: ORG/NAME on the Hub")
    for name, strategy in STRATEGIES.items():
        for key in strategy.own_keys if name not in plan.mix.strategies else ():
            if getattr(config, key) != type(config).model_fields[key].default:
                raise InputError(f"{key} has an effect only with strategy {name}; leave it out")
    labels = Quotas(config.quotas, config.lookahead).next_labels(0)  # refuses invalid quotas
    payload = plan.build_request(0, [], labels).payload  # a user's strategy may fail here
    _warn_of_few_seed_tasks(config, plan)
    _warn_of_ignored_quotas(config, plan, labels)
    _warn_of_unused_prompts(config, plan, labels)
    cost = price.bound_cost(payload) if price else 0.0
    if config.max_cost_usd is not None and cost > config.max_cost_usd:
        raise InputError(
            f"max_cost_usd {config.max_cost_usd:g} is less than one request may cost "
            f"(${cost:.4f}); raise it, or lower max_completion_tokens"
        )
    if config.tokens_per_minute and config.tokens_per_minute < config.max_completion_tokens:
        raise InputError(
            f"tokens_per_minute {config.tokens_per_minute:g} is less than the limit of one reply "
            f"(max_completion_tokens {config.max_completion_tokens}); lower the latter"
        )
    if config.max_concurrency > config.lookahead:
        console.stage("generate").print(
            f"note: lookahead {config.lookahead} limits max_concurrency "
            f"{config.max_concurrency} to {config.lookahead}; a larger one needs a new run_dir"
        )


def _warn_of_few_seed_tasks(config: GenerateConfig, plan: RequestPlan) -> None:
    """Warn of prompts that all show the same seed tasks, which only their order can vary."""
    count, wanted = len(plan.seed_tasks), config.seeds_per_request
    if SelfInstruct.name in plan.mix.strategies and count < wanted:
        are = console.plural(count, "seed task is", "seed tasks are")
        console.warning(
            f"{are} fewer than seeds_per_request ({wanted}), so every prompt shows all of them and "
            f"the teacher may soon repeat its tasks; write at least {wanted}"
        )


def _warn_of_ignored_quotas(
    config: GenerateConfig, plan: RequestPlan, labels: Mapping[str, str]
) -> None:
    """Warn of quotas on which the prompts of a strategy do not depend."""
    for name, strategy in plan.mix.strategies.items():
        ignored = []
        for dimension, weights in config.quotas.items():
            with contextlib.suppress(PluginError):  # it reads the labels
                prompts = [
                    plan.first_prompts(strategy, {**labels, dimension: label})
                    for label in (*weights, "another")
                ]
                if all(texts == prompts[0] for texts in prompts):
                    ignored.append(dimension)
        if ignored:
            console.warning(
                f"the prompts of strategy {name} do not depend on the quotas for "
                f"{', '.join(ignored)}: use `labels` in its template, or remove these quotas"
            )


def _warn_of_unused_prompts(
    config: GenerateConfig, plan: RequestPlan, labels: Mapping[str, str]
) -> None:
    """Warn of files in `prompts` that have no effect, most likely because of their names."""
    templates, names = plan.templates, set[str]()
    for strategy in plan.mix.strategies.values() if templates.users else ():
        names.update(declared := strategy.used_templates(config.request_api))
        with contextlib.suppress(PluginError):  # a later request may fail: not decided here
            if not declared:
                plan.first_prompts(strategy, labels)
    used = templates.with_included(names | templates.rendered)
    unused = {name: path for name, path in templates.users.items() if name not in used}
    if unused and len(unused) == len(templates.users):
        files = ", ".join(path.name for path in unused.values())
        console.warning(
            f"prompts {config.prompts}: the prompts of {config.strategy} use none of its templates "
            f"({files}); they use {', '.join(sorted(used)) or 'none'}"
        )
    others = templates.built_in.difference(templates.users)
    for name in unused.keys() - templates.built_in:
        if hint := did_you_mean(name, others, "", min_similarity=0.75):
            console.warning(f"prompt template {unused[name]} is not used; {hint}")


def verify_seed_tasks(seed_tasks: Sequence[SeedTask], curator: Curator, *, refuse: bool) -> None:
    """Run the tests of seed tasks, which every prompt shows, and name those that fail.

    A test that needs something no sandbox has (a module, a file, a network) counts as passed.

    Args:
        refuse: raise InputError instead of printing a warning, while the run has no replies yet and
            its seed tasks can be changed.
    """
    tested = [task for task in seed_tasks if task.tests.strip()]
    rows = [
        Decision(Example(t.instruction, t.input, t.output, language=t.language, tests=t.tests), "")
        for t in tested
    ]
    with ThreadPoolExecutor(curator.num_workers) as threads:
        verdicts = list(threads.map(curator.verify, rows))
    failed = {
        task.id: verdict.reason.removeprefix("run_")
        for task, verdict in zip(tested, verdicts, strict=True)
        if verdict.reason.startswith("run_")
    }
    if not failed:
        return
    names = ", ".join(f"{task_id} ({verdict})" for task_id, verdict in failed.items())
    fail = console.plural(
        len(failed), "seed task fails its own tests", "seed tasks fail their own tests"
    )
    message = f"{fail}: {names}; correct them"
    if refuse and set(failed.values()) != {"timeout"}:  # maybe a busy machine
        raise InputError(f"{message}, or set verify: false")
    console.warning(f"{message} in the next run")
