"""Run the `code-alpaca` command: one subcommand per stage, with `--config FILE` and `--key value`.

Only the requested stage is imported, so that `--help` is fast and generation needs no torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Collection, Sequence
from typing import NamedTuple

from code_alpaca import __version__
from code_alpaca.core import console
from code_alpaca.core.config import StageConfig, UnknownKeyError, add_arguments, parse
from code_alpaca.core.errors import (
    INTERRUPTED,
    Diverged,
    InputError,
    Stopped,
    did_you_mean,
    explain_environment_error,
)
from code_alpaca.core.extras import explain_missing_package
from code_alpaca.core.redact import redact


class Command(NamedTuple):
    """A subcommand: its entry point, and its line in `--help`."""

    module: str
    config: str  # the config class; "" if `function` parses the arguments itself
    function: str
    help: str


STAGES = {
    "quickstart": Command("quickstart", "QuickstartConfig", "run_quickstart",
                          "run the whole pipeline on this machine; no key, no GPU"),
    "generate": Command("generation.command", "GenerateConfig", "generate_dataset",
                        "generate new tasks and answers with a teacher model"),
    "curate": Command("curation.command", "CurateConfig", "curate_dataset",
                      "filter, decontaminate, verify and dedup an existing dataset"),
    "publish": Command("dataset.publish", "PublishConfig", "publish_dataset",
                       "build the versioned dataset folder with its card, and push it"),
    "convert-llama": Command("conversion.command", "ConvertLlamaConfig", "convert_llama",
                             "convert Meta's LLaMA 1 or 2 weights to Hub format"),
    "sft": Command("training.command", "", "main", "fine-tune a model on a dataset"),
    "eval": Command("evaluation.command", "EvalConfig", "evaluate",
                    "measure pass@k on a benchmark"),
    "release": Command("release.command", "ReleaseConfig", "release_model",
                       "release a model with its card and results"),
    "recover": Command("release.recover", "RecoverConfig", "recover_model",
                       "rebuild a model from its weight diff and base model"),
    "demo": Command("release.demo", "DemoConfig", "serve_demo", "serve a web page to try a model"),
    "report": Command("report.command", "ReportConfig", "write_report",
                      "report what a run generated, spent and rejected"),
    "teacher": Command("teacher.offline.server", "TeacherConfig", "serve_teacher",
                       "serve the embedded teacher on loopback"),
    "recipes": Command("recipes", "", "run_recipes", "list, show or copy the shipped recipes"),
}  # fmt: skip
# How long an idle OpenMP thread spins before it sleeps.
OPENMP_WAIT_VARIABLES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 2 bad input, 3 stopped, 1 diverged or bug."""
    _open_closed_streams()
    _set_openmp_wait_policy()
    if not sys.stderr.isatty():  # a bar in a log is noise
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    try:
        code = _run(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        console.exit_if_unread()
        raise
    return code


def _run(argv: Sequence[str] | None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] == "--version":
        print(f"code-alpaca {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        _print_help()
        return 0 if words else InputError.exit_code
    stage, rest = words[0], words[1:]
    if stage not in STAGES:
        advice = did_you_mean(stage, STAGES, f"choose one of {', '.join(STAGES)}")
        return _fail(stage, InputError(f"no such command; {advice}"))
    try:
        run_stage(stage, rest)
    except UnknownKeyError as error:
        owners = [name for name in STAGES if name != stage and error.key in _keys(name)]
        return _fail(stage, UnknownKeyError(error.key, error.valid, error.where, owners))
    except (InputError, Stopped, Diverged) as error:
        return _fail(stage, error)
    except KeyboardInterrupt:
        return _fail(stage, Stopped(INTERRUPTED))
    except Exception as error:
        if explained := explain_environment_error(error) or explain_missing_package(error):
            return _fail(stage, explained)
        raise
    return 0


def run_stage(stage: str, argv: Sequence[str]) -> None:
    """Run a stage in this process with the words that follow its name."""
    command = STAGES[stage]
    module = importlib.import_module(f"code_alpaca.{command.module}")
    function = getattr(module, command.function)
    if not command.config:
        function(list(argv))
    elif {"-h", "--help"} & set(argv):
        _print_stage_help(stage, getattr(module, command.config), module.__doc__)
    else:
        function(parse(getattr(module, command.config), argv))


def _keys(stage: str) -> Collection[str]:
    """Return the keys of a stage; of TRL's keys for `sft` those that have a role here."""
    command = STAGES[stage]
    if command.config:
        module = importlib.import_module(f"code_alpaca.{command.module}")
        return getattr(module, command.config).model_fields
    if stage != "sft":
        return ()
    from code_alpaca.training.arguments import TRL_KEYS, SFTArguments

    return {*SFTArguments.__dataclass_fields__, *TRL_KEYS}


def _print_stage_help(stage: str, config: type[StageConfig], description: str | None) -> None:
    parser = argparse.ArgumentParser(
        prog=f"code-alpaca {stage}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    about = "these keys as YAML; or the name of a shipped recipe"
    parser.add_argument("--config", metavar="FILE.yaml", help=about)
    add_arguments(parser, config)
    parser.print_help()


def _open_closed_streams() -> None:
    """Replace closed standard streams (`>&-`) by the null device.

    The next file that is opened, such as the ledger, would get the descriptor of a closed stream,
    and with it what child processes print.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    for name, descriptor in {"stdout": 1, "stderr": 2}.items():
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.dup(descriptor), "w", encoding="utf-8"))


def _set_openmp_wait_policy() -> None:
    """Make idle OpenMP threads sleep, unless the user set a wait policy.

    By default they spin, which makes training several times slower on a busy machine. OpenMP reads
    the variable when torch is loaded; child processes inherit it.
    """
    if not any(name in os.environ for name in OPENMP_WAIT_VARIABLES):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _print_help() -> None:
    print("usage: code-alpaca COMMAND [--config FILE.yaml] [--key value ...]\n")
    print("From seed tasks to a released, evaluated code model. Commands, in pipeline order:\n")
    for name, command in STAGES.items():
        print(f"  {name:<15}{command.help}")
    print("\n`code-alpaca COMMAND --help` lists every key. Start with: code-alpaca quickstart")


def _fail(stage: str, error: InputError | Stopped | Diverged) -> int:
    print(f"code-alpaca {stage}: {redact(' '.join(str(error).split()))}", file=sys.stderr)
    return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
