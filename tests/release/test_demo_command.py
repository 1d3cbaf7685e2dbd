"""`code-alpaca demo` serves until Ctrl-C, and refuses bad input in one line."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from itertools import islice

import pytest
from gradio_client import Client
from support.demo import TASK

from code_alpaca.cli import main
from code_alpaca.core.prompts import PROMPT_STYLES


def test_the_command_serves_until_ctrl_c(demo_folder):
    command = [sys.executable, "-m", "code_alpaca.cli", "demo", "--model", str(demo_folder)]
    process = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert line.startswith("demo      http://127.0.0.1:") and str(demo_folder) in line
        visitor = Client(line.split()[1], verbose=False)
        job = visitor.submit(TASK, "", 0, 512, api_name="/generate")
        assert len(list(islice(job, 2))) == 2
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "missing key 'model'"),
        (["--model", "no/such/folder"], "neither a folder nor a Hub id"),
        (["--model", "."], "it contains no config.json"),
        (["--model", "MODEL", "--model_revision", "v1"], "leave model_revision out"),
        (["--model", "nobody/nothing"], "cannot load model nobody/nothing"),
        (["--model", "MODEL", "--port", "TAKEN"], "is in use; choose another --port"),
        (["--model", "MODEL", "--host", "192.0.2.1"], "cannot serve on 192.0.2.1"),
        (["--model", "MODEL", "--port", "65536"], "at most 65535"),
        (["--model", "MODEL", "--prompt_style", "chat"], next(iter(PROMPT_STYLES))),
    ],
)
def test_bad_input_is_refused_in_one_line(
    demo_folder, tmp_path, monkeypatch, capsys, words, message
):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        names = {"MODEL": str(demo_folder), "TAKEN": str(taken.getsockname()[1])}
        if "--port" not in words:
            words = [*words, "--port", "0"]
        assert main(["demo", *(names.get(word, word) for word in words)]) == 2
    error = capsys.readouterr().err.splitlines()
    assert message in error[-1]
    assert len([line for line in error if "code-alpaca demo" in line]) == 1


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "run.json"])
def test_a_broken_model_is_refused(demo_folder, tmp_path, capsys, broken):
    folder = shutil.copytree(demo_folder, tmp_path / "model")
    (folder / broken).write_bytes(b"{nothing")
    assert main(["demo", "--model", str(folder), "--port", "0"]) == 2
    assert "code-alpaca demo: cannot " in capsys.readouterr().err


def test_a_prompt_style_of_another_version_is_refused(demo_folder, tmp_path, capsys):
    folder = shutil.copytree(demo_folder, tmp_path / "model")
    (folder / "run.json").write_text('{"config": {"prompt_style": "qa"}}')
    assert main(["demo", "--model", str(folder), "--port", "0"]) == 2
    assert "this version has no prompt style 'qa'" in capsys.readouterr().err


def test_the_demo_needs_gradio(demo_folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--model", str(demo_folder)]) == 2
    assert "gradio is not installed; pip install" in capsys.readouterr().err
