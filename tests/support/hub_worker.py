"""Run commands and dataset pushes against a Hub double: one JSON list per line of standard input.

A separate process, because huggingface_hub reads HF_ENDPOINT and HF_TOKEN once, at import.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.hub import client, errors


def run(words: list[str], cwd: str | None) -> list[Any]:
    """Run a command, and return its exit code, output and error output."""
    if cwd:
        os.chdir(cwd)
    output, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        code = main(words)
    return [code, output.getvalue(), errors.getvalue()]


def push(folder: str, repo: str, mode: str, terms: dict[str, bool]) -> dict[str, Any]:
    """Push a dataset folder, preview the push, or upload its full shards.

    Returns:
        The printed `lines`, the commit `sha` of a push, and the `error` that ended it with the
        name of its class as `kind`, "" for none.
    """
    from code_alpaca.dataset.push import preupload_shards, preview_push, push_dataset
    from code_alpaca.hub.release_plan import ReleaseTerms

    lines: list[str] = []
    result: dict[str, Any] = {"kind": "", "error": "", "lines": lines}
    try:
        if mode == "preupload":
            preupload_shards(Path(folder), repo, set())
        elif mode == "preview":
            lines += preview_push(Path(folder), repo, Path(folder).parent, ReleaseTerms(**terms))
        else:
            result["sha"] = push_dataset(Path(folder), repo, ReleaseTerms(**terms), lines.append)
    except (InputError, Stopped) as error:
        result |= {"kind": type(error).__name__, "error": str(error)}
    return result


if __name__ == "__main__":
    errors.MAX_DELAY_S = 0.05  # between two attempts of a request
    for line in sys.stdin:
        function, arguments, client.MAX_ATTEMPTS = json.loads(line)
        print(json.dumps({"run": run, "push": push}[function](*arguments)), flush=True)
