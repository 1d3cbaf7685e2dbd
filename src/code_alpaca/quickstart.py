"""The whole way on this machine: no key, no GPU, nothing but what is installed.

The embedded teacher stands in for a language model, and a tiny LLaMA trained from nothing
stands in for a real base. Everything else is the real thing: the same stages, files and
commands as a paid run. Each stage resumes where it was, so the same command may be given again.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import Field, PositiveInt
from rich.console import Console
from rich.table import Table

from code_alpaca.core.config import StageConfig, read_yaml, write_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.dataset.publish import PublishConfig, publish_dataset
from code_alpaca.evaluation.command import EvalConfig, evaluate
from code_alpaca.generation.command import GenerateConfig, generate_dataset
from code_alpaca.release.command import ReleaseConfig, release_model
from code_alpaca.training.command import launch_on_cpu

# The teacher misbehaves a little, so that every later stage has something to catch.
TEACHER = (
    "offline?near_duplicate=0.03&truncated=0.02&malformed=0.02&refusal=0.02"
    "&wrong_answer=0.03&empty_output=0.02&benchmark_copy=0.02"
)


class QuickstartConfig(StageConfig):
    """The keys of `code-alpaca quickstart`."""

    run_dir: Path = Field(Path("runs/quickstart"), description="where everything goes")
    num_examples: PositiveInt = Field(1000, description="accepted examples to make")
    epochs: float | None = Field(None, gt=0, description="training epochs; none: as tuned")
    fresh: bool = Field(False, description="delete run_dir first and start over")


def run_quickstart(config: QuickstartConfig) -> None:
    """Seed tasks to released student, then one table of what happened.

    Raises:
        InputError, Stopped: as the stages do.
    """
    console = Console(highlight=False)
    run_dir = config.run_dir
    if config.fresh:
        _delete_run(run_dir)
    _forget_another_student(config)
    started = time.monotonic()
    stages: list[tuple[str, Callable[[], Any]]] = [
        (
            "generate: the embedded teacher writes tasks, curation decides",
            lambda: _generate(config),
        ),
        ("publish: a versioned dataset folder with its card", lambda: _publish(run_dir)),
        ("sft: a tiny LLaMA from nothing, by accelerate launch", lambda: _sft(config)),
        (
            "eval: pass@1 on 20 problems that the training data does not hold",
            lambda: _eval(run_dir),
        ),
        ("release: the model folder with its card", lambda: _release(run_dir)),
    ]
    seconds = []
    for number, (title, stage) in enumerate(stages, 1):
        console.print(f"[bold]\\[{number}/{len(stages)}] {title}[/bold]")
        begun = time.monotonic()
        stage()
        seconds.append(time.monotonic() - begun)
    console.print(_table(run_dir, seconds, time.monotonic() - started))
    console.print(_next_files(run_dir), soft_wrap=True)


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


def _publish(run_dir: Path) -> None:
    publish_dataset(PublishConfig(run_dir=run_dir, dataset_version="0.1.0", license="apache-2.0"))


def _sft(config: QuickstartConfig) -> None:
    text = resources.files("code_alpaca").joinpath("data/quickstart_sft.yaml")
    with resources.as_file(text) as path:
        settings = read_yaml(path)
    settings["dataset_name"] = str(config.run_dir / "dataset")
    settings["output_dir"] = str(config.run_dir / "model")
    if config.epochs is not None:
        settings["num_train_epochs"] = config.epochs
    launch_on_cpu(settings)


def _eval(run_dir: Path) -> None:
    model = EvalConfig(benchmark="mini", model=str(run_dir / "model"), output_dir=run_dir / "eval")
    evaluate(model)
    evaluate(
        EvalConfig(benchmark="mini", samples="reference", output_dir=run_dir / "eval-reference")
    )


def _release(run_dir: Path) -> None:
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
    """Delete a run of ours, and nothing that only carries its name."""
    if not run_dir.exists():
        return
    if not (run_dir / "ledger.sqlite").exists():
        raise InputError(f"{run_dir} holds no run (no ledger.sqlite); it is not deleted")
    shutil.rmtree(run_dir)


def _forget_another_student(config: QuickstartConfig) -> None:
    """Drop what was trained and measured with other keys; the generated rows stay."""
    path = config.run_dir / "quickstart.yaml"
    keys = config.model_dump(include={"num_examples", "epochs"})
    if path.exists() and read_yaml(path) != keys:
        for name in ("model", "eval", "eval-reference", "release"):
            shutil.rmtree(config.run_dir / name, ignore_errors=True)
    config.run_dir.mkdir(parents=True, exist_ok=True)
    write_yaml(path, keys)


def _table(run_dir: Path, seconds: list[float], total: float) -> Table:
    """One row a stage: what it made and how long it took."""
    training = _json(run_dir / "model" / "run.json")
    student = _json(run_dir / "eval" / "results.json")
    reference = _json(run_dir / "eval-reference" / "results.json")
    manifest = _json(run_dir / "dataset" / "manifest.json")
    with Ledger(run_dir / "ledger.sqlite", write=False) as ledger:
        usage = ledger.usage()
    candidates, reasons = manifest["candidates"], manifest["rejected_by_reason"]
    rejected = ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "none"
    counts = manifest["counts"]
    table = Table(title=f"quickstart: {total:.0f} s", title_justify="left", show_lines=True)
    for column in ("stage", "result", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    rows = [
        (
            "generate",
            f"{usage['replies']} replies, {candidates} candidates, "
            f"{counts['default']} accepted\nrejected: {rejected}",
        ),
        (
            "publish",
            f"version {manifest['version']}: "
            + ", ".join(f"{name} {count}" for name, count in counts.items()),
        ),
        (
            "sft",
            f"{training['parameters'] / 1e6:.1f}M parameters, loss "
            f"{training['first_loss']:.2f} first, {training['last_loss']:.2f} last",
        ),
        (
            "eval",
            f"pass@1 {_score(student)}\nreference solutions {_score(reference)} "
            "(proof of the scorer)",
        ),
        ("release", str(run_dir / "release")),
    ]
    for (stage, result), spent in zip(rows, seconds, strict=True):
        table.add_row(stage, result, f"{spent:.0f}")
    return table


def _score(results: dict[str, Any]) -> str:
    low, high = results["pass@1_interval"]
    solved = results["statuses"].get("passed", 0)
    return (
        f"{results['pass@1']:.0%} ({solved} of {results['problems']}; "
        f"95% interval {low:.0%} to {high:.0%})"
    )


def _next_files(run_dir: Path) -> str:
    files = [
        ("dataset/README.md", "the dataset card"),
        ("release/README.md", "the model card"),
        ("eval/samples.jsonl", "what the student answered, and the verdicts"),
        ("ledger.sqlite", "every request, reply and decision"),
    ]
    lines = "\n".join(f"  {run_dir / name}  {what}" for name, what in files)
    return f"Open next:\n{lines}"


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
