"""Run the whole pipeline on this machine: no API key, no GPU, no download.

The embedded teacher replaces a language model, and a tiny LLaMA with random weights replaces a
base model. Stages, files and commands are those of a paid run. Rerun the command to resume.
"""

from __future__ import annotations

import shlex
import shutil
import time
from importlib import resources
from pathlib import Path

from pydantic import Field, PositiveInt

from code_alpaca.core import console
from code_alpaca.core.config import StageConfig, read_yaml, write_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.extras import require_package
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.records import EvalResults, Manifest, RunRecord
from code_alpaca.dataset.publish import PublishConfig, publish_dataset
from code_alpaca.evaluation.command import EvalConfig, evaluate
from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.release.command import ReleaseConfig, release_model
from code_alpaca.training.command import launch_on_cpu
from code_alpaca.training.metrics import format_parameters

# The embedded teacher makes some mistakes, so that curation has something to reject.
TEACHER = (
    "offline?near_duplicate=0.03&truncated=0.02&malformed=0.02&refusal=0.02"
    "&wrong_answer=0.03&empty_output=0.02&benchmark_copy=0.02"
)
MODEL_FOLDERS = ("model", "eval", "eval-reference", "release")
NEXT_FILES = {
    "dataset/README.md": "the dataset card",
    "release/README.md": "the model card",
    "eval/samples.jsonl": "the model's responses, with verdicts",
}


class QuickstartConfig(StageConfig):
    """The keys of `code-alpaca quickstart`."""

    run_dir: Path = Field(Path("runs/quickstart"), description="folder of everything it writes")
    num_examples: PositiveInt = Field(1000, description="accepted examples to generate")
    epochs: float | None = Field(None, gt=0, description="training epochs; unset: as tuned")
    fresh: bool = Field(False, description="delete run_dir first and start over")


def run_quickstart(config: QuickstartConfig) -> None:
    """Run every stage from seed tasks to a released model, then print a summary."""
    require_package("accelerate")
    if config.fresh:
        _delete_run(config.run_dir)
    _delete_outdated_model(config)
    stages = {
        "generate: the embedded teacher writes tasks, curation filters them": _generate,
        "publish: a versioned dataset folder with its card": _publish,
        "sft: a tiny LLaMA from random weights, with accelerate launch": _sft,
        "eval: pass@1 on 20 problems that are not in the training data": _eval,
        "release: the model folder with its card": _release,
    }
    output, seconds = console.stage(""), []
    for number, (title, run_stage) in enumerate(stages.items(), 1):
        output.rich.print(f"[bold]\\[{number}/{len(stages)}] {title}[/bold]")
        started = time.monotonic()
        run_stage(config)
        seconds.append(time.monotonic() - started)
    _print_summary(config.run_dir, seconds, output)
    output.print("Open next:")
    for name, description in NEXT_FILES.items():
        output.print(f"  {config.run_dir / name}  {description}")
    run_dir = shlex.quote(str(config.run_dir))
    output.print(f"  code-alpaca report --run_dir {run_dir}  writes a page to browse its rows")


def _generate(config: QuickstartConfig) -> None:
    generate_dataset(
        GenerateConfig(
            run_dir=config.run_dir,
            num_examples=config.num_examples,
            teacher_base_url=TEACHER,
            decontaminate=["mini"],
            dataset_version="0.1.0",
        )
    )


def _publish(config: QuickstartConfig) -> None:
    publish_dataset(
        PublishConfig(run_dir=config.run_dir, dataset_version="0.1.0", license="apache-2.0")
    )


def _sft(config: QuickstartConfig) -> None:
    resource = resources.files("code_alpaca").joinpath("data/quickstart_sft.yaml")
    with resources.as_file(resource) as path:
        settings = read_yaml(path)
    settings["dataset_name"] = str(config.run_dir / "dataset")
    settings["output_dir"] = str(config.run_dir / "model")
    if config.epochs is not None:
        settings["num_train_epochs"] = config.epochs
    launch_on_cpu(settings)


def _eval(config: QuickstartConfig) -> None:
    model, output_dir = str(config.run_dir / "model"), config.run_dir / "eval"
    evaluate(EvalConfig(benchmark="mini", model=model, output_dir=output_dir))
    console.stage("eval").print("sanity check of the grader, with the reference solutions:")
    output_dir = config.run_dir / "eval-reference"
    evaluate(EvalConfig(benchmark="mini", samples="reference", output_dir=output_dir))


def _release(config: QuickstartConfig) -> None:
    run_dir = config.run_dir
    release_model(
        ReleaseConfig(
            model_dir=run_dir / "model",
            results=run_dir / "eval" / "results.json",
            output_dir=run_dir / "release",
            dataset_card=run_dir / "dataset" / "README.md",
            model_version="0.1.0",
            license="apache-2.0",
        )
    )


def _delete_run(run_dir: Path) -> None:
    if run_dir.exists():
        if not (run_dir / "ledger.sqlite").exists():
            raise InputError(f"{run_dir} contains no run (no ledger.sqlite), so it is not deleted")
        shutil.rmtree(run_dir)


def _delete_outdated_model(config: QuickstartConfig) -> None:
    """Delete a model that was trained with other keys; the generated rows are kept."""
    path = config.run_dir / "quickstart.yaml"
    keys = config.model_dump(include={"num_examples", "epochs"})
    if path.exists() and read_yaml(path) != keys:
        for name in MODEL_FOLDERS:
            shutil.rmtree(config.run_dir / name, ignore_errors=True)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    write_yaml(path, keys)


def _print_summary(run_dir: Path, seconds: list[float], output: console.Stage) -> None:
    """Print a table of the results and the time of each stage."""
    from rich.table import Table

    table = Table(title=f"quickstart: {sum(seconds):.0f} s", title_justify="left", show_lines=True)
    for column in ("stage", "result", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for (stage, result), spent in zip(_summarize(run_dir).items(), seconds, strict=True):
        table.add_row(stage, result, f"{spent:.0f}")
    output.print(table)


def _summarize(run_dir: Path) -> dict[str, str]:
    """Return the results of each stage."""
    training = RunRecord.load(run_dir / "model")
    manifest = Manifest.load(run_dir / "dataset")
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        replies = ledger.usage()["replies"]
    reasons = manifest.rejected_by_reason
    rejected = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "none"
    return {
        "generate": f"{console.plural(replies, 'reply', 'replies')}, "
        f"{console.plural(manifest.candidates, 'candidate')}, "
        f"{manifest.counts['default']} accepted\nrejected: {rejected}",
        "publish": f"version {manifest.version}: {manifest.printed_counts}",
        "sft": f"{format_parameters(training.parameters or 0)} parameters, loss "
        f"{training.first_loss:.2f} first, {training.last_loss:.2f} last",
        "eval": f"pass@1 {_score(run_dir / 'eval')}\n"
        f"reference solutions {_score(run_dir / 'eval-reference')} (sanity check of the grader)",
        "release": str(run_dir / "release"),
    }


def _score(output_dir: Path) -> str:
    results = EvalResults.load(output_dir)
    score = results.pass_at(1)
    solved = results.statuses.get("passed", 0)
    return (
        f"{score.value:.0%} ({solved} of {results.problems}; "
        f"95% interval {score.low:.0%} to {score.high:.0%})"
    )
