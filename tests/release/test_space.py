"""The Space of a model: its files, and its app without code-alpaca."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata

import httpx
import pytest
from gradio_client import Client
from huggingface_hub import SpaceCard, metadata_load
from support.demo import TASK

from code_alpaca.core.prompts import format_prompt
from code_alpaca.release import space
from code_alpaca.release.demo import free_port


@pytest.fixture
def space_folder(demo_folder, tmp_path):
    folder = tmp_path / "space"
    settings = space.make_settings(
        str(demo_folder),
        revision=None,
        prompt_style="alpaca_nl",
        datasets={"some-org/some-data": "v1.0.0", "my/own/rows": None},
        title="Ask: it's for code",
        max_new_tokens=50,
    )
    space.write_space(folder, settings)
    return folder


def test_the_folder_of_a_space_is_complete(space_folder):
    assert {path.name for path in space_folder.iterdir()} == set(space.FILES)
    pins = (space_folder / "requirements.txt").read_text().splitlines()
    versions = {name: metadata.version(name).split("+")[0] for name in space.REQUIRED}
    assert pins == [f"{name}=={number}" for name, number in versions.items()]
    card = metadata_load(space_folder / "README.md")
    assert card == SpaceCard.load(space_folder / "README.md").data.to_dict()
    assert card["title"] == "Ask: it's for code" and card["app_file"] == "app.py"
    assert card["sdk"] == "gradio" and card["sdk_version"] == versions["gradio"]
    assert card["datasets"] == ["some-org/some-data"] and card["pinned"] is False
    assert "models" not in card  # a local folder is no model of the Hub
    settings = json.loads((space_folder / "settings.json").read_text())
    assert settings["prompt_with_input"] == format_prompt(
        "{instruction}", "{input}", style="alpaca_nl"
    )
    text = (space_folder / "README.md").read_text()
    assert "datasets/some-org/some-data/tree/v1.0.0" in text and "Read the code" in text


def test_a_space_of_a_hub_model_links_it(tmp_path):
    settings = space.make_settings(
        "some-org/some-model", revision="v1.0.0", prompt_style="alpaca", datasets={}, title="T"
    )
    space.write_space(tmp_path, settings)
    assert metadata_load(tmp_path / "README.md")["models"] == ["some-org/some-model"]
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert settings["revision"] == "v1.0.0"
    assert settings["model_url"] == "https://huggingface.co/some-org/some-model/tree/v1.0.0"


def test_a_space_links_the_hub_that_hf_endpoint_names():
    """In a process of its own, since huggingface_hub reads its environment once."""
    code = "from code_alpaca.release.space import hub_url; print(hub_url('org/model', 'v1.0.0'))"
    env = {**os.environ, "HF_ENDPOINT": "https://hub.example"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "https://hub.example/org/model/tree/v1.0.0\n", done.stderr


def test_the_app_of_a_space_runs_without_code_alpaca(space_folder):
    port = free_port("127.0.0.1", 0)
    code = (
        "import runpy, sys; sys.modules['code_alpaca'] = None;"
        "runpy.run_path('app.py', run_name='__main__')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=space_folder,
        env={**os.environ, "GRADIO_SERVER_PORT": str(port), "PYTHONPATH": ""},
    )
    try:
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=8)) as http:
            http.get(url)  # retried until the server is up
        visitor = Client(url, verbose=False)
        assert " tokens in " in visitor.predict(TASK, "", 0, 20, api_name="/generate")[2]
    finally:
        process.kill()
        process.wait()
