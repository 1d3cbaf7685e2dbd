"""Serve a page on which people try a trained model, on this machine.

Answers appear token by token; Stop and a closed tab end them. The page needs no network. What is
served is the very app.py that a Hugging Face Space gets.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import re
import socket
import threading
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from code_alpaca.core.config import NonEmptyStr, StageConfig
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import PromptStyle
from code_alpaca.hub.model_source import find_model, read_run_json
from code_alpaca.release import space

LIMITS = ("max_new_tokens", "max_characters", "max_seconds", "concurrency", "queue_size")


class DemoConfig(StageConfig):
    """The keys of `code-alpaca demo`."""

    model: NonEmptyStr = Field(description="model folder or Hub id")
    model_revision: NonEmptyStr | None = Field(
        None, description="commit, tag or branch of a Hub id"
    )
    prompt_style: PromptStyle | None = Field(
        None,
        description="alpaca or alpaca_nl; by default what run.json says, else alpaca",
    )
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="of the weights; auto: bfloat16 where the GPU has it, else float32"
    )
    title: NonEmptyStr | None = Field(
        None, description="heading of the page; by default with the model"
    )
    host: NonEmptyStr = Field(
        "127.0.0.1", description="address to serve on; 0.0.0.0: whoever reaches this machine"
    )
    port: int = Field(7860, ge=0, le=65535, description="port to serve on; 0: any free one")
    share: bool = Field(False, description="a public link as well, through gradio's own servers")
    max_new_tokens: int = Field(512, gt=0, description="longest answer a visitor may ask for")
    max_characters: int = Field(
        8000, gt=0, description="longest instruction and input together, in characters"
    )
    max_seconds: float = Field(300, gt=0, description="longest time for one answer")
    concurrency: int = Field(2, gt=0, le=40, description="answers written at the same time")
    queue_size: int = Field(
        64, gt=0, description="visitors that may wait; more are asked to come back"
    )


def serve_demo(config: DemoConfig) -> None:
    """Serve until Ctrl-C.

    Raises:
        InputError: gradio is not installed, the port is taken, or the model cannot be loaded.
    """
    if importlib.util.find_spec("gradio") is None:
        raise InputError(space.NO_GRADIO)
    port = free_port(config.host, config.port)
    settings = settings_of(config)
    source = find_model(config.model, config.model_revision)
    from code_alpaca.core.quiet import silence_libraries
    from code_alpaca.release import app

    silence_libraries()
    try:
        model = app.Model(
            app.Settings(**settings | {"model": str(source.folder), "revision": None})
        )
        model.settings = app.Settings(**settings)  # the page names the model as it was asked for
    except Exception as error:  # transformers, tokenizers and safetensors each have their own
        told = " ".join(str(error).split())[:300]
        raise InputError(
            f"cannot load model {config.model}: {told or type(error).__name__}"
        ) from None
    page = app.build(model)
    host = f"[{config.host}]" if ":" in config.host else config.host
    try:
        app.serve(page, server_name=host, server_port=port, share=config.share)
    except OSError:
        raise InputError(_taken(config.host, port)) from None
    print(f"demo      http://{host}:{port} (model {config.model}); Ctrl-C ends it", flush=True)
    try:
        with contextlib.suppress(KeyboardInterrupt):  # the way to end a server, and no failure
            threading.Event().wait()
    finally:
        page.close(verbose=False)


def settings_of(config: DemoConfig) -> dict[str, Any]:
    """The settings of app.py for a model; its run.json tells prompt style and dataset.

    Raises:
        InputError: the model folder does not exist or holds no model.
    """
    folder = Path(config.model)
    if folder.exists() and not (folder / "config.json").is_file():
        raise InputError(f"{config.model} is no model folder: it holds no config.json")
    if folder.exists() and config.model_revision:
        raise InputError(f"{config.model} is on this disk; leave model_revision out")
    if not folder.exists() and not space.is_hub_id(config.model):
        raise InputError(f"model {config.model} is neither a folder nor a Hub id like ORG/NAME")
    trained = _run_json(config)
    dataset = trained.get("dataset") or {}
    style = config.prompt_style or (trained.get("config") or {}).get("prompt_style") or "alpaca"
    # The revision of a folder is words; a Hub's is a commit.
    commit = re.fullmatch(r"[0-9a-f]{40}", str(dataset.get("revision")))
    return space.settings(
        config.model,
        revision=config.model_revision,
        prompt_style=style,
        datasets={dataset["name"]: commit[0] if commit else None} if dataset.get("name") else {},
        title=config.title or f"Ask {folder.resolve().name} for code",
        **config.model_dump(include={"dtype", *LIMITS}),
    )


def _run_json(config: DemoConfig) -> dict[str, Any]:
    """What sft wrote beside the weights; nothing for a model that is not of ours."""
    return read_run_json(find_model(config.model, config.model_revision).folder)


def free_port(host: str, port: int) -> int:
    """The port to serve on: `port`, or any free one for 0.

    Raises:
        InputError: it is taken, not allowed, or `host` is no address of this machine.
    """
    try:
        kind, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return probe.getsockname()[1]
    except (OSError, UnicodeError) as error:
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise InputError(_taken(host, port)) from None
        told = getattr(error, "strerror", None) or error
        raise InputError(f"cannot serve on {host}:{port} ({told}); choose another one") from None


def _taken(host: str, port: int) -> str:
    return f"port {port} of {host} is taken; choose another --port, or 0 for any free one"
