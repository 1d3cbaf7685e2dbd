"""Run programs of other languages than Python in their own interpreters.

Their tests run in the program's own process, as MultiPL-E's do (Cassano et al. 2022,
https://arxiv.org/abs/2208.08227), so a program that searches for its tests could forge their
verdict. Exiting early does not pass: the last thing that a program does is to print a nonce.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass, field, replace

from code_alpaca.core import languages
from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import ResourceLimits, RunResult, WorkerPool, backends


@dataclass(frozen=True, slots=True)
class InterpreterSettings:
    """How programs of one language are run."""

    file: str
    print_nonce: str  # a statement
    memory_mb: int  # as in `ResourceLimits`
    arguments: tuple[str, ...] = ()  # of the interpreter, before the file
    max_processes: int = 0
    extra_files: dict[str, str] = field(default_factory=dict)  # next to the program, by name


INTERPRETERS = {  # by the canonical name of their language
    "javascript": InterpreterSettings(
        "program.js",
        'console.log("{}");',
        memory_mb=0,
        # Without the first, node reads OpenSSL's configuration, which the sandbox does not show.
        arguments=("--openssl-config=/dev/null", "--max-old-space-size=512", "-r", "./.streams.js"),
        # The sandbox counts written bytes, so it refuses several buffers in one call.
        extra_files={".streams.js": "require('fs').WriteStream.prototype._writev = null;\n"},
    ),
    "bash": InterpreterSettings("program.sh", "echo '{}'", memory_mb=512, max_processes=64),
}


def run_program(pool: WorkerPool, language: str, source: str, wall_s: float) -> RunResult:
    """Run a program; it passes if it runs to its end and exits with code 0."""
    settings, nonce = INTERPRETERS[language], secrets.token_hex(16)
    limits = ResourceLimits(
        wall_s=wall_s,
        memory_mb=settings.memory_mb,
        folder_bytes=16 << 20,
        max_open_files=256,
        max_processes=settings.max_processes,
    )
    interpreter = languages.find(language).interpreter
    path = os.path.realpath(shutil.which(interpreter) or interpreter)
    argv = [path, *settings.arguments, settings.file]
    program = f"{source}\n{settings.print_nonce.format(nonce)}\n"
    files = {**settings.extra_files, settings.file: program}
    result = pool.run(lambda worker: worker.run_command(argv, limits, files))
    if result.status == "passed" and not result.stdout.rstrip().endswith(nonce):
        return replace(result, status="exited")
    return result


def check_interpreter(language: str, backend: backends.Backend) -> None:
    """Raise InputError if programs of a language cannot be run on this machine."""
    name = languages.find(language).interpreter
    path = shutil.which(name)
    if path is None:
        raise InputError(f"{language} needs {name}, which is not installed")
    real_path = os.path.realpath(path)
    if not real_path.startswith(tuple(f"{folder}/" for folder in backends.SYSTEM_PATHS)):
        raise InputError(
            f"the sandbox does not show {real_path}; install {name} under /usr (Debian: apt "
            "install)"
        )
    if INTERPRETERS[language].max_processes and not backends.can_limit_processes(backend):
        raise InputError(
            f"{language} programs start other processes; only sandbox bwrap can limit these, and "
            "not as root: run as another user, with bubblewrap installed"
        )
