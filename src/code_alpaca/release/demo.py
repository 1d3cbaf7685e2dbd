"""Serve a web page on this machine to try a trained model.

Responses are streamed; the Stop button or closing the tab ends them. The page works offline. A
Hugging Face Space serves the same app.py.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from code_alpaca.core import console
from code_alpaca.core.config import NonEmptyStr, StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.core.extras import require_package
from code_alpaca.core.prompts import PromptStyle
from code_alpaca.core.records import RunRecord
from code_alpaca.hub.model_source import find_model, read_run_record
from code_alpaca.release import space
from code_alpaca.release.card import is_commit

LIMITS = ("max_new_tokens", "max_characters", "max_seconds", "concurrency", "queue_size")


class DemoConfig(StageConfig):
    """The keys of `code-alpaca demo`."""

    model: NonEmptyStr = Field(description="model folder or Hub id")
    model_revision: NonEmptyStr | None = Field(
        None, description="commit, tag or branch of a Hub id"
    )
    prompt_style: PromptStyle | None = Field(
        None, description="prompt style of the training; unset: the one in run.json, else alpaca"
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the weights; auto: bfloat16 if the GPU has it, else float32"
    )
    title: NonEmptyStr | None = Field(
        None, description="heading of the page; unset: one with the model's name"
    )
    host: NonEmptyStr = Field(
        "127.0.0.1", description="address to serve on; 0.0.0.0 for every network of this machine"
    )
    port: int = Field(7860, ge=0, le=65535, description="port to serve on; 0 for any free one")
    share: bool = Field(False, description="also serve a public link through gradio's servers")
    max_new_tokens: int = Field(512, gt=0, description="maximum tokens of a response")
    max_characters: int = Field(
        8000, gt=0, description="maximum characters of an instruction and its input together"
    )
    max_seconds: float = Field(300, gt=0, description="maximum time for one response, in seconds")
    concurrency: int = Field(2, gt=0, le=40, description="responses generated at the same time")
    queue_size: int = Field(
        64, gt=0, description="visitors that may wait; others are asked to try later"
    )


def serve_demo(config: DemoConfig) -> None:
    """Serve until Ctrl-C."""
    require_package("gradio")
    port = free_port(config.host, config.port)
    settings = demo_settings(config)
    source = find_model(config.model, config.model_revision)
    from code_alpaca.core.quiet import silence_libraries
    from code_alpaca.evaluation.inference import load_model
    from code_alpaca.evaluation.text_generation import resolve_dtype
    from code_alpaca.release import app

    silence_libraries()
    loaded = load_model(source, dtype=resolve_dtype(config.dtype))
    if not settings["prompt_without_input"] and not loaded.tokenizer.chat_template:
        raise InputError(
            f"prompt_style chat: {config.model} has no chat template; set prompt_style to alpaca"
        )
    page = app.build_page(app.DemoModel(app.DemoSettings(**settings), loaded))
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        app.serve_page(page, server_name=host, server_port=port, share=config.share)
    except OSError:
        raise InputError(_port_in_use(config.host, port)) from None
    console.stage("demo").print(f"http://{host}:{port} (model {config.model}); Ctrl-C stops it")
    try:
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    finally:
        page.close(verbose=False)


def demo_settings(config: DemoConfig) -> dict[str, Any]:
    """Return the settings of app.py, with prompt style and dataset from the model's run.json."""
    folder = Path(config.model)
    if folder.exists() and not (folder / "config.json").is_file():
        raise InputError(
            f"{config.model} is not a model folder: it contains no config.json; give a folder that "
            "sft wrote, or a Hub id"
        )
    if folder.exists() and config.model_revision:
        raise InputError(f"{config.model} is a local folder; leave model_revision out")
    if not folder.exists() and not space.is_hub_id(config.model):
        raise InputError(f"model {config.model} is neither a folder nor a Hub id; correct it")
    run = read_run_record(find_model(config.model, config.model_revision).folder) or RunRecord()
    name, revision = (run.dataset.name, run.dataset.revision) if run.dataset else (None, None)
    style = config.prompt_style or run.prompt_style or "alpaca"
    return space.make_settings(
        config.model,
        revision=config.model_revision,
        prompt_style=style,
        datasets={name: revision if is_commit(revision) else None} if name else {},
        title=config.title or f"Ask {folder.resolve().name} for code",
        **config.model_dump(include={"dtype", *LIMITS}),
    )


def free_port(host: str, port: int) -> int:
    """Return `port`, or any free one for 0, after checking that it can be used."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return probe.getsockname()[1]
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise InputError(_port_in_use(host, port)) from None
        reason = getattr(error, "strerror", None) or error
        raise InputError(
            f"cannot serve on {host}:{port} ({reason}); choose another host or port"
        ) from None


def _port_in_use(host: str, port: int) -> str:
    return f"port {port} of {host} is in use; choose another --port, or 0 for any free one"
