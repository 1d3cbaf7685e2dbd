"""The embedded teacher: a grammar behind an OpenAI-compatible endpoint on 127.0.0.1.

`teacher_base_url: offline` starts it; options follow a question mark, as in
`offline?wrong_answer=0.05&latency=0.2`.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from typing import TypeGuard
from urllib.parse import parse_qsl

from pydantic import ValidationError

from code_alpaca.core.config import UnknownKeyError, describe_bad_value
from code_alpaca.core.errors import InputError


def is_offline(url: str | None) -> TypeGuard[str]:
    """Return whether a `teacher_base_url` selects the embedded teacher."""
    return url is not None and (url == "offline" or url.startswith("offline?"))


@contextlib.contextmanager
def start_server(url: str = "offline", seed: int = 0) -> Iterator[str]:
    """Run the embedded teacher in a child process and yield its base URL.

    The child ends with this process, even if this process is killed.
    """
    options = {"port": "0", "until_eof": "true", "seed": str(seed), **parse_options(url)}
    args = [sys.executable, "-m", "code_alpaca.cli", "teacher"]
    args += [f"--{key}={value}" for key, value in options.items()]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(args, **pipes, text=True, start_new_session=True) as child:
        assert child.stdin and child.stdout  # they are pipes
        try:
            line = child.stdout.readline()
            if not line.startswith("serving "):
                raise InputError(f"the embedded teacher did not start with {url!r}; see above")
            yield line.split()[1]
        finally:
            child.stdin.close()
            try:
                child.wait(timeout=5)
            except subprocess.TimeoutExpired:
                child.kill()


def parse_options(url: str) -> dict[str, str]:
    """Return the options in `offline?key=value&...`; InputError for an invalid one."""
    from code_alpaca.teacher.offline.faults import Faults

    options = dict(parse_qsl(url.partition("?")[2], keep_blank_values=True))
    for key in options:
        if key not in Faults.model_fields:
            raise InputError(str(UnknownKeyError(key, Faults.model_fields, "teacher_base_url")))
    try:
        Faults.model_validate(options)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise InputError(describe_bad_value(key, "teacher_base_url", first)) from None
    return options
