"""The `code-alpaca` command: one subcommand per stage, with `--config FILE.yaml` and `--key value`.

Only the requested stage is imported, so that `--help` is fast and a machine that only generates
data needs no torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from code_alpaca import __version__
from code_alpaca.core.config import add_arguments, parse
from code_alpaca.core.errors import (
    INTERRUPTED,
    Diverged,
    InputError,
    Stopped,
    explain_environment_error,
)
from code_alpaca.core.redact import redact


class Command(NamedTuple):
    """One subcommand: where its config and its entry point are, and its line in `--help`."""

    module: str
    config: str  # the config class; "" where `function` parses the arguments itself
    function: str
    help: str


STAGES = {
    "quickstart": Command(
        "quickstart", "QuickstartConfig", "run_quickstart",
        "run the whole pipeline on this machine; no key, no GPU",
    ),
    "generate": Command(
        "generation.command", "GenerateConfig", "generate_dataset",
        "generate new tasks and answers with a teacher model",
    ),
    "curate": Command(
        "curation.command", "CurateConfig", "curate_dataset",
        "filter, decontaminate, verify and dedup an existing dataset",
    ),
    "publish": Command(
        "dataset.publish", "PublishConfig", "publish_dataset",
        "build the versioned dataset folder with its card, and push it",
    ),
    "convert-llama": Command(
        "conversion.command", "ConvertLlamaConfig", "convert_llama",
        "convert Meta's LLaMA 1 or 2 weights to Hub format",
    ),
    "sft": Command("training.command", "", "main", "fine-tune a model on a dataset"),
    "eval": Command(
        "evaluation.command", "EvalConfig", "evaluate", "measure pass@k on a benchmark"
    ),
    "release": Command(
        "release.command", "ReleaseConfig", "release_model",
        "release a model with its card and results",
    ),
    "recover": Command(
        "release.recover", "RecoverConfig", "recover_model",
        "rebuild a model from its weight diff and base model",
    ),
    "demo": Command(
        "release.demo", "DemoConfig", "serve_demo", "serve a web page to try a model"
    ),
    "report": Command(
        "report.command", "ReportConfig", "write_report",
        "report what a run generated, spent and rejected",
    ),
    "teacher": Command(
        "teacher.offline.server", "TeacherConfig", "serve_teacher",
        "serve the embedded teacher on loopback",
    ),
}  # fmt: skip
EXIT_FAILED, EXIT_INPUT, EXIT_STOPPED = 1, 2, 3
# Environment variables that control how long an idle OpenMP thread spins before it sleeps.
OPENMP_WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 bad input, 3 stopped, 1 diverged or bug."""
    _set_openmp_wait_policy()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] == "--version":
        print(f"code-alpaca {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        _print_help()
        return 0 if words else EXIT_INPUT
    stage, rest = words[0], words[1:]
    if stage not in STAGES:
        return _fail(stage, f"no such command; choose one of {', '.join(STAGES)}", EXIT_INPUT)
    try:
        run_stage(stage, rest)
    except InputError as error:
        return _fail(stage, str(error), EXIT_INPUT)
    except Stopped as error:
        return _fail(stage, str(error), EXIT_STOPPED)
    except Diverged as error:
        return _fail(stage, str(error), EXIT_FAILED)
    except KeyboardInterrupt:
        return _fail(stage, INTERRUPTED, EXIT_STOPPED)
    except Exception as error:
        explained = explain_environment_error(error)
        if explained is None:
            raise
        return _fail(stage, str(explained), EXIT_INPUT)
    return 0


def run_stage(stage: str, argv: Sequence[str]) -> None:
    """Run a stage in this process with the words that follow its name.

    Raises:
        InputError, Stopped, Diverged: from the stage.
    """
    entry = STAGES[stage]
    module = importlib.import_module(f"code_alpaca.{entry.module}")
    function = getattr(module, entry.function)
    if not entry.config:
        function(list(argv))
        return
    config = getattr(module, entry.config)
    if {"-h", "--help"} & set(argv):
        parser = argparse.ArgumentParser(
            prog=f"code-alpaca {stage}",
            description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        parser.add_argument(
            "--config",
            metavar="FILE.yaml",
            help="these keys as YAML; or the name of a shipped recipe",
        )
        add_arguments(parser, config)
        parser.print_help()
        return
    function(parse(config, argv))


def _set_openmp_wait_policy() -> None:
    """Make idle OpenMP threads sleep, unless the user set a wait policy.

    By default they spin on their cores. On a busy machine every operation then waits for spinning
    threads, and training takes several times as long. OpenMP reads the variable when torch is
    loaded; child processes inherit it.
    """
    if not any(name in os.environ for name in OPENMP_WAIT_VARIABLES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _print_help() -> None:
    print("usage: code-alpaca COMMAND [--config FILE.yaml] [--key value ...]\n")
    print("From seed tasks to a released, evaluated code model. Commands, in pipeline order:\n")
    for name, entry in STAGES.items():
        print(f"  {name:<15}{entry.help}")
    print("\n`code-alpaca COMMAND --help` lists every key. Start with: code-alpaca quickstart")


def _fail(stage: str, message: str, code: int) -> int:
    print(f"code-alpaca {stage}: {redact(' '.join(message.split()))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
