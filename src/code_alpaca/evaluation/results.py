"""Build the results of an evaluation, as results.json records them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from code_alpaca.core.errors import InputError
from code_alpaca.core.extras import installed_versions
from code_alpaca.core.records import EvalResults
from code_alpaca.evaluation import metrics
from code_alpaca.evaluation.completions import NO_RESPONSE_REASONS, is_empty, is_truncated
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.evaluation.overlap import score_uncontaminated
from code_alpaca.evaluation.target import EvaluationTarget
from code_alpaca.problems import Problem
from code_alpaca.sandbox import ProbeResult


@dataclass(frozen=True, slots=True)
class EvalContext:
    """What an evaluation was started with: its config and what that resolved to."""

    config: EvalConfig
    target: EvaluationTarget
    sandbox: ProbeResult
    problems: Sequence[Problem]  # the first `limit` of the benchmark
    source: Mapping[str, str]  # of the benchmark, as it was when the problems were loaded


def build_results(
    context: EvalContext, rows: Sequence[dict[str, Any]], failing_references: dict[str, str]
) -> EvalResults:
    """Return the scores of graded rows of samples.jsonl, with the facts that they depend on.

    Raises:
        InputError: a problem has fewer samples than a k, or `training_data` cannot be read.
    """
    config, target, sandbox = context.config, context.target, context.sandbox
    num_samples = Counter(row["task_id"] for row in rows)
    num_passed = Counter(row["task_id"] for row in rows if row["status"] == "passed")
    counts = {p.task_id: (num_samples[p.task_id], num_passed[p.task_id]) for p in context.problems}
    try:
        scores = metrics.summarize(list(counts.values()), config.k)
    except ValueError as error:
        raise InputError(str(error)) from None
    values = {
        "schema_version": EvalResults.SCHEMA_VERSION,
        "benchmark": config.benchmark,
        "source": dict(context.source),
        "problems": len(counts),
        "task_ids": list(counts),
        "samples": len(rows),
        "problems_without_samples": sum(not samples for samples, _ in counts.values()),
        **scores,
        **score_uncontaminated(config, target, counts),
        "statuses": dict(Counter(row["status"] for row in rows).most_common()),
        "answers": _count_finish_reasons(rows),
        "failing_references": failing_references,
        "sandbox": {"backend": sandbox.backend, "canary_escaped": list(sandbox.escaped)},
        "judges": _count_judges(rows),
        "model": _describe_model(config, target),
        "prompt_format": target.prompt_format,
        "sampling": _describe_sampling(target),
        "config": json.loads(config.model_dump_json()),
        "versions": installed_versions("transformers"),
    }
    return EvalResults.parse(values, EvalResults.FILE)


def _count_finish_reasons(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count how completions ended: truncated or empty ones do not fail for a wrong answer."""
    reasons = Counter(str(row.get("finish_reason") or "unknown") for row in rows)
    return {
        "truncated": sum(map(is_truncated, rows)),
        "empty": sum(map(is_empty, rows)),
        "missing": sum(row.get("finish_reason") in NO_RESPONSE_REASONS for row in rows),
        "finish_reasons": dict(reasons.most_common()),
    }


def _count_judges(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Count verdicts that rest on one process, and passes in it that were refused (`grading`)."""
    in_process = [row["task_id"] for row in rows if row.get("shared_process")]
    refused = Counter(row.get("refused") for row in rows)
    return {
        "samples_judged_in_one_process": len(in_process),
        "problems_judged_in_one_process": sorted(set(in_process)),
        "refused_by_values": refused["values"],
        "refused_as_forged": refused["forged"],
    }


def _describe_model(config: EvalConfig, target: EvaluationTarget) -> dict[str, Any]:
    """Return the model's Hub commit, or the hashes of its files."""
    dataset = target.training.dataset if target.training else None
    return {
        "name": config.model,
        "revision": target.fingerprint.get("commit"),
        "sha256": target.fingerprint.get("weights"),
        "files": target.fingerprint,
        "dtype": target.dtype,
        "base_url": config.base_url,
        "dataset": dataset.model_dump() if dataset else None,
    }


def _describe_sampling(target: EvaluationTarget) -> dict[str, Any] | None:
    """Return the sampling settings; for a server only those that it was sent are known."""
    settings = target.settings
    if settings is None:
        return None
    keys = ("temperature", "top_p", "max_new_tokens")
    sent = {key: getattr(settings, key) for key in keys}
    if target.source is None or target.served is not None:
        return {**sent, "others": "defaults of the server"}
    unused = {"top_k": None, "repetition_penalty": None, "num_beams": 1}
    return {"do_sample": settings.temperature > 0, **sent, "seed": settings.seed, **unused}
