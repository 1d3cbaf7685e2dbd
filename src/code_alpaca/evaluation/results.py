"""What a run of eval found: as results.json, as a Markdown table, and on the screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from code_alpaca.core.errors import InputError
from code_alpaca.evaluation import metrics
from code_alpaca.evaluation.completions import NO_RESPONSE_REASONS, is_empty, is_truncated

MANY = 0.05  # the share of truncated, empty or missing answers that is worth a warning


def scores(counts: Sequence[tuple[int, int]], ks: Sequence[int]) -> dict[str, Any]:
    """pass@k with its intervals, from (samples, passed) of each problem.

    Raises:
        InputError: there are too few samples for a k.
    """
    try:
        return metrics.summarize(counts, ks)
    except ValueError as error:
        raise InputError(str(error)) from None


def count_answers(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the answers ended: a truncated or empty one fails for another reason than a wrong one."""
    reasons = Counter(str(row.get("finish_reason") or "unknown") for row in rows)
    return {
        "truncated": sum(map(is_truncated, rows)),
        "empty": sum(map(is_empty, rows)),
        "missing": sum(row.get("finish_reason") in NO_RESPONSE_REASONS for row in rows),
        "finish_reasons": dict(reasons.most_common()),
    }


def count_judges(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Which verdicts rest on one process alone, and which passes there were refused (`grading`)."""
    shared = [row for row in rows if row.get("shared_process")]
    return {
        "samples_judged_in_one_process": len(shared),
        "problems_judged_in_one_process": sorted({row["task_id"] for row in shared}),
        "refused_by_values": sum(row.get("refused") == "values" for row in rows),
        "refused_as_forged": sum(row.get("refused") == "forged" for row in rows),
    }


def as_markdown(results: dict[str, Any]) -> str:
    """The scores as a table, and how the answers ended."""
    rows = [("all", results)]
    clean = results.get("uncontaminated")
    if clean and clean["is_training_data"] is False:
        rows.append((f"without a match in {clean['training_data']} (not its training data)", clean))
    elif clean:
        rows.append(("without a match in the training data", clean))
    lines = ["| problems | n | k | pass@k | 95% interval |", "|---|---|---|---|---|"]
    for name, found in rows:
        for k in results["config"]["k"]:
            if f"pass@{k}" in found:
                low, high = found[f"pass@{k}_interval"]
                value = f"{found[f'pass@{k}']:.1%} | {low:.1%} to {high:.1%}"
                lines.append(f"| {_cell(name)} | {found['problems']} | {k} | {value} |")
    answers = results["answers"]
    lines += [
        "",
        f"{results['samples']} answers: {answers['truncated']} truncated, {answers['empty']} "
        f"empty, {answers['missing']} missing.",
    ]
    if shared := results["judges"]["problems_judged_in_one_process"]:
        lines.append(f"Problems judged in the program's own process: {_cell(', '.join(shared))}.")
    if results["failing_references"]:
        failing = ", ".join(results["failing_references"])
        lines.append(f"Problems that fail with their own reference solution: {_cell(failing)}.")
    if clean:
        for source in clean["sources"]:
            lines.append(
                f"Compared with {_cell(source['name'])}, config {source['config']}, "
                f"{source['revision']}: {source['rows']} rows."
            )
    if "training_data_not_checked" in results:
        lines.append(f"Training data not checked: {results['training_data_not_checked']}")
    return "\n".join(lines) + "\n"


def report(results: dict[str, Any]) -> None:
    """Print the scores, and warn of answers that are not a measure of the model."""
    console = Console(highlight=False, soft_wrap=True)
    benchmark, config = results["benchmark"], results["config"]
    for k in config["k"]:
        low, high = results[f"pass@{k}_interval"]
        console.print(
            f"eval      {benchmark}: pass@{k} {results[f'pass@{k}']:.1%} "
            f"(95% interval {low:.1%} to {high:.1%}), {results['problems']} problems",
            markup=False,
        )
    statuses = ", ".join(f"{status} {count}" for status, count in results["statuses"].items())
    console.print(f"eval      {results['samples']} samples: {statuses or 'none'}")
    if results["problems_without_samples"]:
        console.print(
            f"eval      {results['problems_without_samples']} problems had no sample and count as "
            "unsolved"
        )
    for line in warnings(results):
        console.print(f"eval      {line}", markup=False)


def warnings(results: dict[str, Any]) -> list[str]:
    """Lines on what makes the scores say less than they seem to."""
    answers, total = results["answers"], max(1, results["samples"])
    advice = {
        "truncated": f"raise max_new_tokens (now {results['config']['max_new_tokens']})",
        "empty": "check prompt_format, and max_new_tokens of a reasoning model",
        "missing": "see `error` in samples.jsonl; rerun the same command to ask again",
    }
    lines = []
    for kind, action in advice.items():
        if answers[kind]:
            prefix = "warning: " if answers[kind] / total >= MANY else ""
            lines.append(f"{prefix}{answers[kind]} of {total} answers are {kind}; {action}")
    judges = results["judges"]
    if shared := judges["problems_judged_in_one_process"]:
        lines.append(
            f"{judges['samples_judged_in_one_process']} samples of {len(shared)} problems were "
            "judged in their own process, which a program can cheat; see judges in results.json"
        )
    if refused := judges["refused_by_values"] + judges["refused_as_forged"]:
        lines.append(
            f"warning: {refused} samples pass in their own process and were refused "
            "(`refused` in samples.jsonl says why)"
        )
    if failing := results["failing_references"]:
        task_id, reason = next(iter(failing.items()))
        lines.append(
            f"warning: {len(failing)} of {results['problems']} problems fail with their own "
            f"reference solution ({task_id}: {reason}); see failing_references in results.json"
        )
    clean = results.get("uncontaminated", {})
    if clean.get("is_training_data") is False:
        lines.append(
            f"warning: {clean['training_data']} ({clean['revision']}) is not what run.json says "
            "the model was trained on; results.json says so"
        )
    if reason := results.get("training_data_not_checked"):
        lines.append(f"training data not checked for problems of the benchmark: {reason}")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
