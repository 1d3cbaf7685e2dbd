"""A model folder that `sft` wrote responds behind `transformers serve` as it was trained."""

from __future__ import annotations

import httpx
import pytest
from support.needs import need
from support.tiny_sft import tiny_sft, write_rows

import code_alpaca
from code_alpaca.cli import main
from code_alpaca.core.prompts import PROMPT_STYLES, format_prompt
from code_alpaca.teacher.serving import Demand, serve_model
from code_alpaca.teacher.serving.engines import parse_served_model
from code_alpaca.teacher.serving.keys import ServingKeys

MAX_NEW_TOKENS = 24
TIMEOUT_S = 120


@pytest.fixture(scope="module", params=PROMPT_STYLES)
def model_folder(request, tmp_path_factory):
    """A tiny model that was trained to return numbers, and its prompt style."""
    folder = tmp_path_factory.mktemp("served")
    rows, model = write_rows(folder / "rows.json", 64), folder / "model"
    command = tiny_sft(rows, model, "--prompt_style", request.param, "--num_train_epochs", "10")
    assert main(command) == 0
    return model, request.param


@pytest.fixture(scope="module")
def served(model_folder, tmp_path_factory):
    """The base URL of `transformers serve` with the model, offline."""
    from transformers.utils.import_utils import is_serve_available

    need(is_serve_available(), "no server installed (pip install transformers[serving])")
    keys = ServingKeys(serving_args=["--device cpu"])
    model = parse_served_model(f"transformers:{model_folder[0]}")
    demand = Demand(num_requests=1, num_tokens=1024)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with serve_model(model, keys, demand, tmp_path_factory.mktemp("logs")) as (url,):
            yield url


def chat(served, folder, *messages):
    request = {"model": folder.name, "messages": messages, "temperature": 0,
               "max_tokens": MAX_NEW_TOKENS}  # fmt: skip
    return httpx.post(f"{served}/chat/completions", json=request, timeout=TIMEOUT_S)


@pytest.mark.slow
def test_the_server_responds_as_the_model_was_trained(model_folder, served):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, style = model_folder
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for task in ("Return 3.", "Return 7.", "Write something, 'quoted' and {braced}."):
        prompt = tokenizer(format_prompt(task, "", style=style), return_tensors="pt")
        output = model.generate(**prompt, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        start = prompt["input_ids"].shape[1]
        expected = output[0, start:]
        reply = chat(served, folder, {"role": "user", "content": task}).json()
        content = reply["choices"][0]["message"]["content"]
        assert content == tokenizer.decode(expected, skip_special_tokens=True)
        assert content == code_alpaca.respond(folder, task, max_new_tokens=MAX_NEW_TOKENS)
        assert reply["usage"]["prompt_tokens"] == start
        assert reply["usage"]["completion_tokens"] == len(expected)


@pytest.mark.slow
def test_the_server_refuses_a_system_message(model_folder, served):
    folder, _ = model_folder
    reply = chat(
        served,
        folder,
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Return 3."},
    )
    assert reply.status_code >= 400
