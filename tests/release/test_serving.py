"""A model folder that `sft` wrote, served by `transformers serve`: it answers as it was trained."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from support.needs import need

import code_alpaca
from code_alpaca.cli import main
from code_alpaca.core.prompts import format_prompt

ROOT = Path(__file__).parents[2]
MOST = 24  # tokens of an answer


@pytest.fixture(scope="module", params=["alpaca", "alpaca_nl"])
def trained(request, tmp_path_factory):
    """A tiny model that has learned to return a few numbers, and how its prompts end."""
    folder = tmp_path_factory.mktemp("served")
    rows = [
        {"instruction": f"Return {n}.", "input": "", "output": f"return {n}"} for n in range(8)
    ] * 8
    (folder / "rows.json").write_text(json.dumps(rows))
    words = [
        "--config", str(ROOT / "recipes/smoke/sft/config_cpu.yaml"), "--dataset_name",
        str(folder / "rows.json"), "--output_dir", str(folder / "model"), "--prompt_style",
        request.param, "--scratch_hidden_size", "32", "--scratch_layers", "1", "--scratch_heads",
        "2", "--scratch_vocab_size", "400", "--num_train_epochs", "10",
    ]  # fmt: skip
    assert main(["sft", *words]) == 0
    return folder / "model", request.param


@pytest.fixture(scope="module")
def served(trained):
    """The address of `transformers serve` with that model, and nothing from a Hub."""
    from transformers.utils.import_utils import is_serve_available

    need(is_serve_available(), "nothing to serve with (pip install transformers[serving])")
    folder, _ = trained
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    command = [Path(sys.executable).with_name("transformers"), "serve", folder, "--host",
               "127.0.0.1", "--port", port, "--device", "cpu"]  # fmt: skip
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(command, env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            assert process.poll() is None, "transformers serve ended by itself"
            try:
                httpx.get(f"{address}/health", timeout=5).raise_for_status()
                break
            except httpx.TransportError:
                time.sleep(1)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=60)


@pytest.mark.slow
def test_an_answer_of_the_server_is_the_one_that_the_model_was_trained_for(trained, served):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, style = trained
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for task in ("Return 3.", "Return 7.", "Say something else, 'quoted' and {braced}."):
        prompt = tokenizer(format_prompt(task, "", style=style), return_tensors="pt")
        written = model.generate(**prompt, max_new_tokens=MOST, do_sample=False)
        start = prompt["input_ids"].shape[1]
        answer = written[0, start:]
        request = {
            "model": str(folder),
            "messages": [{"role": "user", "content": task}],
            "temperature": 0,
            "max_tokens": MOST,
        }
        reply = httpx.post(f"{served}/v1/chat/completions", json=request, timeout=120).json()
        found = reply["choices"][0]["message"]["content"]
        assert found == tokenizer.decode(answer, skip_special_tokens=True)
        assert found == code_alpaca.respond(folder, task, max_new_tokens=MOST)
        assert reply["usage"]["prompt_tokens"] == start
        assert reply["usage"]["completion_tokens"] == len(answer)


@pytest.mark.slow
def test_the_server_refuses_what_the_model_never_learned_to_read(trained, served):
    folder, _ = trained
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Return 3."},
    ]
    request = {"model": str(folder), "messages": messages, "temperature": 0, "max_tokens": MOST}
    reply = httpx.post(f"{served}/v1/chat/completions", json=request, timeout=120)
    assert reply.status_code >= 400
