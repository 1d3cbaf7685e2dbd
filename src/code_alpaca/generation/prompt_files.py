"""Describe the prompts of a run for readers of its dataset, in Markdown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from code_alpaca.core.markdown import block, code
from code_alpaca.core.plugins import PluginError
from code_alpaca.generation.request_plan import RequestPlan
from code_alpaca.generation.strategies.base import Strategy

SYNTAX = (
    "Each text is a Jinja template: a request has values in place of `{{ ... }}`, and `{% ... %}` "
    "is a condition, a loop, or the place of another template. The tasks that a request showed are "
    "those that `seed_ids` of its rows names."
)


def describe_prompts(plan: RequestPlan) -> dict[str, str]:
    """Return a description of the prompt of each strategy, by its version."""
    api = plan.config.request_api
    return {
        strategy.prompt_version(plan.templates, api): "\n\n".join(_describe(strategy, plan)) + "\n"
        for strategy in plan.mix.strategies.values()
    }


def _describe(strategy: Strategy, plan: RequestPlan) -> Iterator[str]:
    version = strategy.prompt_version(plan.templates, plan.config.request_api)
    names = _list_templates(strategy, plan)
    yield f"# Prompt {version}"
    yield (
        f"What the strategy {code(strategy.name)} sent to the teacher for the rows whose "
        f"`prompt_version` is {code(version)}. {SYNTAX if names else ''}".rstrip()
    )
    if strategy.plugin:
        yield (
            "The strategy is a function of whoever made the dataset, which may write text of its "
            "own. Its code is not part of the dataset."
        )
    for name in names:
        yield f"## {name}"
        yield block(plan.templates.source(name).rstrip("\n"), "jinja")
    for name, texts in strategy.phrases.items():
        yield f"## Values of `{name}`"
        yield "\n".join(f"- {text}" for text in texts)
    # Other text that a prompt shows, such as the user's code in `snippets`, is not published.
    if not strategy.plugin and not plan.config.snippets:
        with contextlib.suppress(PluginError):  # a user's template that needs the labels of quotas
            (prompt,) = plan.first_prompts(strategy, {}, count=1)
            yield "## Example of a request"
            yield block(prompt)


def _list_templates(strategy: Strategy, plan: RequestPlan) -> list[str]:
    """Return the templates of a strategy, then those that they include.

    A function that declares none may render any: the user's own and those rendered so far.
    """
    templates = plan.templates
    names = list(strategy.used_templates(plan.config.request_api))
    names = names or sorted(templates.rendered.union(templates.users))
    return [*names, *sorted(templates.with_included(names).difference(names))]
