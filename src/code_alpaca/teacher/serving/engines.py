"""The model servers that can be started for a run: their names and command lines.

vLLM, SGLang and llama.cpp pin other packages than code-alpaca, so each is a program of its own
environment.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from code_alpaca.core.errors import InputError, did_you_mean
from code_alpaca.core.extras import install_command

GGUF = ".gguf"


@dataclass(frozen=True, slots=True)
class Demand:
    """What a server must be able to hold."""

    num_requests: int  # in flight
    num_tokens: int  # of one request: its prompt and reply
    neutral_sampling: bool = (
        False  # ignore the model's own sampling parameters, as a benchmark does
    )


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, the server that serves it, and its name in requests."""

    engine: Engine
    model: str  # a file, a folder or a Hub id
    name: str

    @property
    def path(self) -> Path:
        return Path(self.model).expanduser()


@dataclass(frozen=True, slots=True)
class Engine:
    """A model server.

    `program` and `subcommand` start it, `build_arguments` returns the arguments that depend on the
    model, and `install` is what to do if there is no such program.
    """

    name: str
    program: str
    subcommand: tuple[str, ...]
    build_arguments: Callable[[ServedModel, Demand], list[str]]
    install: Callable[[], str]
    takes_any_name: bool = True

    def find_command(self, configured: str | None) -> list[str]:
        """Return the words that start the server, without arguments.

        The program is searched on PATH, and next to this Python interpreter. If `configured` ends
        with the program (`/opt/vllm/bin/vllm`), the subcommand is added.

        Raises:
            InputError: there is no such program.
        """
        words = shlex.split(configured) if configured else [self.program]
        program = os.path.expanduser(words[0])
        found = shutil.which(program) or shutil.which(program, path=Path(sys.executable).parent)
        if found is None:
            where = "of serving_command " if configured else ""
            raise InputError(
                f"the program {words[0]} {where}was not found; {self.install()}, then put it on "
                "PATH or set serving_command to its path"
            )
        words[0] = os.path.abspath(found)
        return [*words, *(self.subcommand if Path(words[-1]).name == self.program else ())]


def _vllm_arguments(served: ServedModel, demand: Demand) -> list[str]:
    sampling = ["--generation-config", "vllm"] if demand.neutral_sampling else []
    return [str(served.path), "--served-model-name", served.name, *sampling]


def _sglang_arguments(served: ServedModel, demand: Demand) -> list[str]:
    sampling = ["--sampling-defaults", "openai"] if demand.neutral_sampling else []
    model = ["--model-path", str(served.path), "--served-model-name", served.name]
    return [*model, *sampling]


def _llama_server_arguments(served: ServedModel, demand: Demand) -> list[str]:
    """Give every request in flight a slot of its own: llama-server has four by default."""
    source = ["-m", str(served.path)] if served.model.endswith(GGUF) else ["-hf", served.model]
    slots = ["-np", str(demand.num_requests), "-c", str(demand.num_requests * demand.num_tokens)]
    neutral = ["--top-k", "0", "--top-p", "1", "--min-p", "0"]
    sampling = neutral if demand.neutral_sampling else []
    return [*source, "--alias", served.name, *slots, "--no-webui", *sampling]


def _transformers_arguments(served: ServedModel, demand: Demand) -> list[str]:
    return [served.name]  # a folder is found from its parent: see `working_directory`


def _own_environment(package: str) -> Callable[[], str]:
    return lambda: f"install {package} in an environment of its own"


ENGINES = {
    engine.name: engine
    for engine in (
        Engine("vllm", "vllm", ("serve",), _vllm_arguments, _own_environment("vllm")),
        Engine("sglang", "sglang", ("serve",), _sglang_arguments, _own_environment("sglang")),
        Engine(
            "llama-server",
            "llama-server",
            (),
            _llama_server_arguments,
            lambda: "install llama.cpp",
        ),
        Engine(
            "transformers-serve",
            "transformers",
            ("serve",),
            _transformers_arguments,
            lambda: f"install it with `{install_command('serving')}`",
            takes_any_name=False,
        ),
    )
}
# In `teacher_base_url`, where transformers never runs in this process.
PREFIXES = {**ENGINES, "transformers": ENGINES["transformers-serve"]}


def parse_served_model(text: str | None) -> ServedModel | None:
    """Return the model of `ENGINE:MODEL`, such as `llama-server:qwen.gguf`; None for a URL.

    Raises:
        ValueError: the model is missing, or the engine is misspelled.
    """
    prefix, colon, model = (text or "").partition(":")
    if not colon or model.startswith("//"):
        return None
    if prefix not in PREFIXES:
        if hint := did_you_mean(prefix, PREFIXES, "", min_similarity=0.75):
            raise ValueError(f"unknown model server {prefix!r}; {hint}")
        return None
    if not model.strip():
        raise ValueError(f"names no model; write it as {prefix}:MODEL")
    return describe_model(PREFIXES[prefix], model)


def describe_model(engine: Engine, model: str) -> ServedModel:
    """Return a model with the name that requests use: its Hub id, or that of its file or folder."""
    path = Path(model).expanduser()
    if path.suffix == GGUF and engine.takes_any_name:
        return ServedModel(engine, model, path.stem)
    is_path = path.exists() or model.startswith((".", "/", "~"))
    return ServedModel(engine, model, path.resolve().name if is_path else model)


def check_model(served: ServedModel) -> None:
    """Raise InputError for a file or folder that does not exist."""
    is_path = served.path.suffix == GGUF or served.model.startswith((".", "/", "~"))
    if is_path and not served.path.exists():
        raise InputError(f"{served.engine.name} cannot serve {served.path}: no such file or folder")


def working_directory(served: ServedModel) -> Path | None:
    """Return where to start the server; None for the working directory of this process.

    `transformers serve` expects requests with the very text that names its model. From the parent
    folder that is the name of the model's folder, and no local path gets into the dataset.
    """
    if served.engine.takes_any_name or not served.path.exists():
        return None
    return served.path.resolve().parent
