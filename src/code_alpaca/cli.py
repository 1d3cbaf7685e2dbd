"""The `code-alpaca` command: one subcommand a stage, each with `--config FILE.yaml` and `--key`.

Only the stage that was asked for is imported, so `--help` is instant and a machine that
only generates data needs no torch.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from code_alpaca import __version__
from code_alpaca.core.config import add_arguments, parse
from code_alpaca.core.errors import INTERRUPTED, Diverged, InputError, Stopped, machine_trouble
from code_alpaca.core.redact import redact

# command: (module with `Config` and `run`, or with `main` where another parser is in charge; help)
STAGES = {
    "quickstart": ("code_alpaca.quickstart", "the whole way on this machine, no key, no GPU"),
    "generate": ("code_alpaca.generation.generate", "ask a teacher for new tasks and answers"),
    "curate": ("code_alpaca.generation.curate", "decide the rows of a dataset that exists"),
    "publish": ("code_alpaca.dataset.publish", "build the versioned dataset folder and its card"),
    "convert-llama": ("code_alpaca.training.convert_llama", "read Meta's LLaMA 1 or 2 weights"),
    "sft": ("code_alpaca.training.launch", "fine-tune a model on a dataset"),
    "eval": ("code_alpaca.evaluation.evaluate", "measure pass@k on a benchmark"),
    "release": ("code_alpaca.release.release", "release a model with its card and results"),
    "recover": ("code_alpaca.release.recover", "a released difference plus its base model"),
    "demo": ("code_alpaca.release.demo", "serve a page on which people try a model"),
    "report": ("code_alpaca.report", "tell what a run made, spent and rejected"),
    "teacher": ("code_alpaca.teacher.offline.server", "serve the embedded teacher on loopback"),
}
EXIT_FAILED, EXIT_INPUT, EXIT_STOPPED = 1, 2, 3
# What a user may have set about how long an idle OpenMP thread spins before it sleeps.
SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code (see ARCHITECTURE: 0, 2, 3; 1 is a defect)."""
    _let_idle_threads_sleep()
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] == "--version":
        print(f"code-alpaca {__version__}")
        return 0
    if not words or words[0] in ("-h", "--help"):
        _print_help()
        return 0 if words else EXIT_INPUT
    stage, rest = words[0], words[1:]
    if stage not in STAGES:
        return _fail(stage, f"no such command; there are {', '.join(STAGES)}", EXIT_INPUT)
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
        trouble = machine_trouble(error)
        if trouble is None:
            raise
        return _fail(stage, str(trouble), EXIT_INPUT)
    return 0


def run_stage(stage: str, argv: Sequence[str]) -> None:
    """Run one stage in this process with the words that follow its name.

    Raises:
        InputError, Stopped: as the stage says.
    """
    module = importlib.import_module(STAGES[stage][0])
    if hasattr(module, "main"):
        module.main(list(argv))
        return
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
            help="any of these keys, as YAML; or the name of a shipped recipe",
        )
        add_arguments(parser, module.Config)
        parser.print_help()
        return
    module.run(parse(module.Config, argv))


def _let_idle_threads_sleep() -> None:
    """Have OpenMP threads sleep while they wait for others, unless the user chose otherwise.

    By default they spin on their cores. Where anything else runs on these, a thread with work
    waits for the others' spinning to end at every operation, and training takes several times as
    long. OpenMP reads this once, when torch is loaded; processes started from here inherit it.
    """
    if not any(name in os.environ for name in SPINNING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _print_help() -> None:
    print("usage: code-alpaca COMMAND [--config FILE.yaml] [--key value ...]\n")
    print("From seed tasks to a released, evaluated code model. Commands, in pipeline order:\n")
    for name, (_, help_text) in STAGES.items():
        print(f"  {name:<15}{help_text}")
    print("\n`code-alpaca COMMAND --help` lists every key. Start with: code-alpaca quickstart")


def _fail(stage: str, message: str, code: int) -> int:
    print(f"code-alpaca {stage}: {redact(' '.join(message.split()))}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
