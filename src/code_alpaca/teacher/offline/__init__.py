"""The embedded teacher: a grammar behind an OpenAI-compatible endpoint on loopback.

`teacher_base_url: offline` starts it, `offline?wrong_answer=0.05&latency=0.2` with faults.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import TypeGuard
from urllib.parse import parse_qsl

from pydantic import ValidationError

from code_alpaca.core.config import unknown_key
from code_alpaca.core.errors import InputError


def is_offline(url: str | None) -> TypeGuard[str]:
    """Whether a `teacher_base_url` means the embedded teacher."""
    return url is not None and (url == "offline" or url.startswith("offline?"))


@contextlib.contextmanager
def serving(url: str = "offline", seed: int = 0) -> Iterator[str]:
    """Run the embedded teacher in a process of its own and yield its base URL.

    The process ends with this one, however this one ends.

    Raises:
        InputError: an option of `url` does not exist or has a bad value.
    """
    options = options_of(url)
    command = [sys.executable, "-m", "code_alpaca.cli", "teacher", "--port", "0", "--until_eof"]
    command += ["--seed", str(seed)]
    for key, value in options.items():
        command += [f"--{key}", value]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin and process.stdout  # they are pipes
        try:
            line = process.stdout.readline()
            if not line.startswith("serving "):
                raise InputError(f"the embedded teacher did not start with {url!r}; see above")
            yield line.split()[1]
        finally:
            process.stdin.close()
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()


def options_of(url: str) -> dict[str, str]:
    """The options in `offline?key=value&...`, checked.

    Raises:
        InputError: an option does not exist or has a bad value.
    """
    from code_alpaca.teacher.offline.faults import Faults

    options = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    for key in options:
        if key not in Faults.model_fields:
            raise InputError(unknown_key(key, Faults.model_fields, "teacher_base_url"))
    try:
        Faults.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        name, told = str(first["loc"][0]), first["msg"]
        raise InputError(
            f"bad value for {name!r} (teacher_base_url): {told}, got {options[name]!r}"
        ) from None
    return options
