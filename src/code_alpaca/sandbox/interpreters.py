"""Programs of other languages: which interpreter runs them, and with what.

Their tests run in the program's own process, as MultiPL-E's do (Cassano et al. 2022,
https://arxiv.org/abs/2208.08227): in the sandbox, so nothing gets out; but a program that looks
for its tests could fool them. Leaving early does not: the last thing a program does is to print
a word that is new each time.
"""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass

from code_alpaca.core.errors import InputError
from code_alpaca.sandbox import ResourceLimits, RunResult, WorkerPool, backends


@dataclass(frozen=True, slots=True)
class Language:
    """`last` prints a word; `memory_mb` is 0 where the runtime reserves more than it uses.

    `files` lie beside the program, for the command.
    """

    command: tuple[str, ...]
    file: str
    last: str
    memory_mb: int
    processes: int = 0
    files: tuple[tuple[str, str], ...] = ()


INTERPRETERS = {
    "javascript": Language(
        # Without the flag, node reads OpenSSL's configuration, which the sandbox does not show.
        ("node", "--openssl-config=/dev/null", "--max-old-space-size=512", "-r", "./.streams.js"),
        "program.js",
        'console.log("{}");',
        memory_mb=0,
        # The sandbox counts what is written, and for that refuses several buffers in one call.
        files=((".streams.js", "require('fs').WriteStream.prototype._writev = null;\n"),),
    ),
    "bash": Language(("bash",), "program.sh", "echo '{}'", memory_mb=512, processes=64),
}


def check_interpreter(language: str, backend: backends.Backend) -> None:
    """Whether programs of a language can be run here.

    Raises:
        InputError: no interpreter, or one that the sandbox does not show, or a sandbox that
            does not hold programs which start others.
    """
    wanted = INTERPRETERS[language]
    name = wanted.command[0]
    found = shutil.which(name)
    if found is None:
        raise InputError(f"{language} needs {name}, which is not installed")
    real = os.path.realpath(found)
    if not real.startswith(tuple(f"{folder}/" for folder in backends.SYSTEM)):
        raise InputError(
            f"the sandbox does not show {real}; install {name} under /usr (Debian: apt install)"
        )
    if wanted.processes and (backend != "bwrap" or os.geteuid() == 0):
        raise InputError(
            f"{language} programs start others, which sandbox bwrap alone can hold, and for no "
            "root: run as another user, with bubblewrap installed"
        )


def run_program(pool: WorkerPool, language: str, program: str, wall_s: float) -> RunResult:
    """Run a program to its end; passed if it got there with exit code 0."""
    wanted, word = INTERPRETERS[language], secrets.token_hex(16)
    limits = ResourceLimits(
        wall_s=wall_s,
        memory_mb=wanted.memory_mb,
        folder_bytes=16 << 20,
        max_processes=wanted.processes,
        max_open_files=256,
    )
    interpreter = os.path.realpath(shutil.which(wanted.command[0]) or wanted.command[0])
    argv = [interpreter, *wanted.command[1:], wanted.file]
    files = {**dict(wanted.files), wanted.file: f"{program}\n{wanted.last.format(word)}\n"}
    result = pool.run(lambda worker: worker.run_command(argv, limits, files))
    if result.status == "passed" and not result.stdout.rstrip().endswith(word):
        return RunResult("exited", result.stdout, result.stderr, result.duration)
    return result
