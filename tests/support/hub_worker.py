"""Run commands, pushes and loads against a Hub double: one JSON list per line of standard input.

A separate process, because huggingface_hub reads HF_ENDPOINT once, at import. It draws no plots,
since they take most of the time of a small dataset.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError, Stopped
from code_alpaca.dataset import plots
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
    """Push a dataset folder, preview the push, or upload its full shards; return a `report`."""
    from code_alpaca.dataset.push import preupload_shards, preview_push, push_dataset
    from code_alpaca.hub.release_plan import ReleaseTerms

    def act(lines: list[str]) -> dict[str, Any]:
        if mode == "preupload":
            preupload_shards(Path(folder), repo, set())
        elif mode == "preview":
            lines += preview_push(Path(folder), repo, Path(folder).parent, ReleaseTerms(**terms))
        else:
            return {"sha": push_dataset(Path(folder), repo, ReleaseTerms(**terms), lines.append)}
        return {}

    return report(act)


def load_dataset(repo: str, revision: str | None) -> dict[str, Any]:
    """Load the `rows` of a dataset; return a `report` with them and their `sha`."""
    from code_alpaca.dataset.load import ALPACA, load_rows

    def act(lines: list[str]) -> dict[str, Any]:
        rows, sha = load_rows(repo, "default", revision, log=lines.append)
        return {"sha": sha, "rows": [[row[key] for key in ALPACA] for row in rows]}

    return report(act)


def run_model(name: str, revision: str | None, adapter: bool) -> list[Any]:
    """Return the prompt ids, the logits and the response of a model for one task."""
    import peft
    import torch
    import transformers

    import code_alpaca

    where = {"revision": revision} if revision else {}
    auto = peft.AutoPeftModelForCausalLM if adapter else transformers.AutoModelForCausalLM
    model = auto.from_pretrained(name, **where)
    tokenizer = transformers.AutoTokenizer.from_pretrained(name, **where)
    chat = [{"role": "user", "content": "Return 3."}]
    ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)["input_ids"]
    with torch.no_grad():
        logits = model(ids).logits
    response = code_alpaca.respond(name, "Return 3.", max_new_tokens=5, **where)
    return [ids.tolist(), logits.double().flatten().tolist(), response]


def report(act: Callable[[list[str]], dict[str, Any]]) -> dict[str, Any]:
    """Return the result of a function, the `lines` that it logged, and how it ended.

    `error` is the message that ended it and `kind` the name of its class, "" for none.
    """
    lines: list[str] = []
    result: dict[str, Any] = {"kind": "", "error": "", "lines": lines}
    try:
        result |= act(lines)
    except (InputError, Stopped) as error:
        result |= {"kind": type(error).__name__, "error": str(error)}
    return result


if __name__ == "__main__":
    errors.MAX_DELAY_S = 0.05  # between two attempts of a request
    plots.draw_plots = lambda summary, folder: []
    functions = {each.__name__: each for each in (run, push, load_dataset, run_model)}
    for line in sys.stdin:
        function, arguments, client.MAX_ATTEMPTS, os.environ["HF_TOKEN"] = json.loads(line)
        print(json.dumps(functions[function](*arguments)), flush=True)
