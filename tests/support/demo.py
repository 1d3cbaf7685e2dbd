"""Models and pages of the demo, with responses that a test can observe."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

import gradio as gr

from code_alpaca.evaluation import text_generation
from code_alpaca.release import app
from code_alpaca.release.demo import DemoConfig, demo_settings, free_port

TASK = "Write a Python function that adds two numbers."
LONG = 4000  # tokens; a random model hardly ever ends by itself
TIMEOUT_S = 60


class ObservedStream(app.ResponseStream):
    """A response that records when it starts, and how many are generated at the same time."""

    created: ClassVar[list[ObservedStream]] = []
    lock = threading.Lock()
    active = max_active = 0

    def __init__(self, *arguments) -> None:
        self.started = threading.Event()
        super().__init__(*arguments)
        self.created.append(self)

    def put(self, ids) -> None:
        super().put(ids)
        if not self.started.is_set():
            self.started.set()
            with self.lock:
                type(self).active += 1
                type(self).max_active = max(self.max_active, self.active)

    def end(self) -> None:
        with self.lock:
            type(self).active -= 1


def make_settings(folder: Path, **keys: object) -> app.DemoSettings:
    config = DemoConfig(**{"model": str(folder), "max_new_tokens": LONG, **keys})
    return app.DemoSettings(**demo_settings(config))


def load_model(folder: Path, **keys: object) -> app.DemoModel:
    loaded = text_generation.load(folder, dtype="auto")
    return app.DemoModel(make_settings(folder, **keys), loaded, ObservedStream)


def with_settings(model: app.DemoModel, folder: Path, **keys: object) -> app.DemoModel:
    """Return the same loaded model with other settings."""
    return app.DemoModel(make_settings(folder, **keys), model.loaded, ObservedStream)


def start_response(model: app.DemoModel, *request: object) -> ObservedStream:
    return ObservedStream(model, *model.parse_request(*request))


def respond(model: app.DemoModel, *request: object) -> ObservedStream:
    """Return a response that has ended."""
    stream = start_response(model, *request)
    wait_for([stream])
    return stream


def wait_for(streams: Iterable[ObservedStream]) -> None:
    """Wait until none of these responses is being generated."""
    for stream in streams:
        assert stream.wait(TIMEOUT_S)


def serve(model: app.DemoModel) -> gr.Blocks:
    """Serve the page of a model; the test closes it."""
    page = app.build_page(model)
    app.serve_page(page, server_name="127.0.0.1", server_port=free_port("127.0.0.1", 0))
    return page
