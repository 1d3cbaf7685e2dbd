"""Print the results of an evaluation, and write them as a Markdown table."""

from __future__ import annotations

from pathlib import Path

from code_alpaca.core import console
from code_alpaca.core.records import EvalResults
from code_alpaca.evaluation.compare import Comparison
from code_alpaca.sandbox import ESCAPES, ProbeResult
from code_alpaca.sandbox.interpreters import INTERPRETERS

WARNING_FRACTION = 0.05  # of truncated, empty or missing completions

out = console.stage("eval")


def print_report(results: EvalResults, path: Path) -> None:
    """Print scores, statuses, and warnings of what makes the scores unreliable."""
    for score in results.scores:
        out.print(
            f"{results.benchmark}: pass@{score.k} {score.value:.1%} "
            f"(95% interval {score.low:.1%} to {score.high:.1%}), "
            f"{console.plural(results.problems, 'problem')}"
        )
    statuses = ", ".join(f"{status} {count}" for status, count in results.statuses.items())
    out.print(f"{console.plural(results.samples, 'sample')}: {statuses or 'none'}")
    if missing := results.problems_without_samples:
        out.print(f"{console.plural(missing, 'problem')} had no sample and counted as unsolved")
    for line in _find_warnings(results):
        out.print(line)
    out.print(str(path))


def render_markdown(results: EvalResults) -> str:
    """Return the scores as a table, and how the completions ended."""
    parts = [("all", results)]
    if clean := results.uncontaminated:
        data = "the training data"
        if clean.is_training_data is False:
            data = f"{clean.training_data} (not its training data)"
        parts.append((f"without a match in {data}", clean))
    lines = ["| problems | n | k | pass@k | 95% interval |", "|---|---|---|---|---|"]
    for name, part in parts:
        for score in part.scores:
            value = f"{score.value:.1%} | {score.low:.1%} to {score.high:.1%}"
            lines.append(f"| {_cell(name)} | {part.problems} | {score.k} | {value} |")
    answers = results.answers
    lines += [
        "",
        f"{console.plural(results.samples, 'sample')}: {answers.truncated} truncated, "
        f"{answers.empty} empty, {answers.missing} missing.",
    ]
    if in_process := results.judges.problems_judged_in_one_process:
        names = _cell(", ".join(in_process))
        lines.append(f"Problems judged in the program's own process: {names}.")
    if results.failing_references:
        names = _cell(", ".join(results.failing_references))
        lines.append(f"Problems that fail with their own reference solution: {names}.")
    for source in clean.sources if clean else ():
        lines.append(
            f"Compared with {_cell(source.name)}, config {source.config}, "
            f"{source.revision}: {console.plural(source.rows, 'row')}."
        )
    if reason := results.training_data_not_checked:
        lines.append(f"Training data not checked: {reason}")
    return "\n".join(lines) + "\n"


def print_comparison(comparison: Comparison, other: Path) -> None:
    """Print the difference from another run, with its interval and McNemar's test."""
    low, high = comparison.interval
    out.print(
        f"against {other}: pass@1 {comparison.ours:.1%} and {comparison.theirs:.1%}, "
        f"difference {comparison.difference:+.1%} (95% interval {low:+.1%} to {high:+.1%}); "
        f"{console.plural(len(comparison.won), 'problem')} won, {len(comparison.lost)} lost, "
        f"p = {comparison.p_value:.3g} (McNemar)"
    )


def print_probes(probes: list[ProbeResult]) -> None:
    """Print a table of what the canary program managed to do in each sandbox backend."""
    rows = [(escape, *(_probe_cell(probe, escape) for probe in probes)) for escape in ESCAPES]
    rows.append(("safe", *("yes" if probe.safe else "no" for probe in probes)))
    columns = ("canary", *(probe.backend for probe in probes))
    out.table(columns, rows, left=len(columns))
    for probe in probes:
        if probe.problem:
            out.print(f"{probe.backend}: {probe.problem}")


def _find_warnings(results: EvalResults) -> list[str]:
    """Return a line for each reason not to trust the scores."""
    total = max(1, results.samples)
    samples = console.plural(total, "sample")
    advice = {
        "truncated": f"raise max_new_tokens (now {results.config.get('max_new_tokens')})",
        "empty": "check prompt_format, and max_new_tokens of a reasoning model",
        "missing": "see `error` in samples.jsonl; rerun the same command to retry them",
    }
    lines = []
    for ending, action in advice.items():
        if count := getattr(results.answers, ending):
            prefix = "warning: " if count / total >= WARNING_FRACTION else ""
            lines.append(f"{prefix}{count} of {samples} {ending}; {action}")
    if ungraded := results.statuses.get("unsupported"):
        graded = ", ".join(["python", *INTERPRETERS])
        lines.append(
            f"warning: {ungraded} of {samples} not graded, and counted as unsolved: only {graded} "
            "can be graded"
        )
    judges = results.judges
    if in_process := judges.problems_judged_in_one_process:
        lines.append(
            f"{console.plural(judges.samples_judged_in_one_process, 'sample')} of "
            f"{console.plural(len(in_process), 'problem')} judged in the program's own process, "
            "which a program can cheat; see judges in results.json"
        )
    if refused := judges.refused_by_values + judges.refused_as_forged:
        lines.append(
            f"warning: {console.plural(refused, 'sample')} passed in the program's own process, "
            "and failed by the other checks (see `refused` in samples.jsonl)"
        )
    if failing := results.failing_references:
        task_id, reason = next(iter(failing.items()))
        lines.append(
            f"warning: {len(failing)} of {console.plural(results.problems, 'problem')} failed with "
            f"the benchmark's own solution ({task_id}: {reason}); see failing_references in "
            "results.json"
        )
    clean = results.uncontaminated
    if clean and clean.is_training_data is False:
        lines.append(
            f"warning: {clean.training_data} ({clean.revision}) is not the training data that "
            "run.json records; results.json is labelled so"
        )
    if reason := results.training_data_not_checked:
        lines.append(f"training data not checked for problems of the benchmark: {reason}")
    return lines


def _probe_cell(probe: ProbeResult, escape: str) -> str:
    return "-" if probe.problem else "escaped" if escape in probe.escaped else "blocked"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
