"""`eval --engine` measures a local model with a server that is started for the evaluation."""

from __future__ import annotations

import json
import shutil

import pytest
from support.model_servers import FakeServers
from support.needs import need


@pytest.fixture
def servers(tmp_path, monkeypatch):
    return FakeServers(tmp_path, monkeypatch)


@pytest.fixture
def evaluate(run_eval):
    """Evaluate the first problems of mini with an engine; return the exit code."""

    def run(engine, model, *words):
        return run_eval("--engine", engine, "--model", model, "--limit", "4", *words)

    return run


@pytest.fixture
def gguf(tmp_path):
    path = tmp_path / "qwen.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.mark.parametrize("engine", ["vllm", "sglang", "transformers-serve"])
def test_a_model_folder_gets_the_prompts_of_its_training(
    servers, evaluate, run_eval, tiny_model, engine
):
    assert evaluate(engine, tiny_model) == 0
    assert len(servers.started) == 1
    results = run_eval.results
    assert results.prompt_format == "alpaca" and results.samples == 4
    assert results.config["engine"] == engine and results.model.sha256
    assert (run_eval.output_dir / f"logs/{engine}-0.log").exists()
    assert {row["completion"] for row in run_eval.rows} == {"    return 1\n"}


def test_a_model_folder_of_another_trainer_gets_the_prompts_of_its_chat_template(
    servers, evaluate, run_eval, tiny_model, tmp_path, capsys
):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert evaluate("vllm", folder) == 0
    assert run_eval.results.prompt_format == "chat"
    assert "prompt format: chat (the model's chat template)" in capsys.readouterr().out


def test_a_gguf_file_is_identified_by_its_content_and_uses_its_chat_template(
    servers, evaluate, run_eval, gguf, capsys
):
    assert evaluate("llama-server", gguf) == 0
    assert run_eval.results.prompt_format == "chat"
    gguf.write_bytes(b"GGUF of another model")
    assert evaluate("llama-server", gguf) == 2
    assert "model weights was" in capsys.readouterr().err


def test_a_finished_evaluation_starts_no_server(servers, evaluate, run_eval, gguf):
    assert evaluate("llama-server", gguf) == 0
    rows = run_eval.rows
    assert evaluate("llama-server", gguf) == 0
    assert len(servers.started) == 1 and run_eval.rows == rows


def test_other_arguments_or_another_engine_are_another_measurement(
    servers, evaluate, tiny_model, capsys
):
    assert evaluate("vllm", tiny_model) == 0
    assert evaluate("vllm", tiny_model, "--serving_args", "--dtype float16") == 2
    assert "serving_args was [], now ['--dtype', 'float16']" in capsys.readouterr().err
    assert evaluate("sglang", tiny_model) == 2
    assert "engine was vllm, now sglang" in capsys.readouterr().err


def test_every_replica_gets_its_part_of_the_prompts(servers, evaluate, run_eval, tiny_model):
    assert evaluate("vllm", tiny_model, "--serving_replicas", "2") == 0
    assert len(servers.started) == 2 and len(run_eval.rows) == 4
    for server in servers.started:
        assert server.num_requests == 2


def test_a_server_that_is_killed_stops_the_evaluation_which_resumes(
    servers, evaluate, run_eval, gguf, capsys
):
    servers.behave(dies_at=3)
    assert evaluate("llama-server", gguf, "--batch_size", "1") == 3
    assert "llama-server was killed" in capsys.readouterr().err and len(run_eval.rows) == 2
    servers.behave()
    assert evaluate("llama-server", gguf, "--batch_size", "1") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--engine", "vllm"], "give either model"),
        (
            ["--engine", "vllm", "--base_url", "http://127.0.0.1:1/v1", "--model", "m"],
            "no base_url",
        ),
        (["--engine", "vllm", "--model", "m", "--dtype", "float16"], "'--dtype float16'"),
        (["--engine", "llama-server", "--model", "{model}"], "serves .gguf files"),
        (["--engine", "llama-server", "--model", "no.gguf"], "cannot serve no.gguf: no such file"),
        (["--engine", "vllm", "--model", "{gguf}"], "set engine llama-server"),
        (["--model", "{gguf}"], "set engine llama-server"),
    ],
)
def test_what_an_engine_cannot_serve_is_refused(run_eval, tiny_model, gguf, capsys, words, message):
    assert run_eval(*[word.format(model=tiny_model, gguf=gguf) for word in words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_an_adapter_is_not_served(run_eval, tmp_path, tiny_model, capsys):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(tiny_model), "peft_type": "LORA"}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert run_eval("--engine", "vllm", "--model", adapter) == 2
    assert "is an adapter" in capsys.readouterr().err


@pytest.mark.slow
def test_a_real_server_completes_as_the_model_does_in_this_process(
    run_eval, tmp_path, tiny_model, monkeypatch
):
    from transformers.utils.import_utils import is_serve_available

    need(is_serve_available(), "no server installed (pip install transformers[serving])")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    words = ["--model", tiny_model, "--limit", "4", "--max_new_tokens", "12"]
    in_process = type(run_eval)(tmp_path / "in process")
    assert in_process(*words) == 0
    assert run_eval(*words, "--engine", "transformers-serve", "--serving_args", "--device cpu") == 0
    assert [row["completion"] for row in run_eval.rows] == [
        row["completion"] for row in in_process.rows
    ]
