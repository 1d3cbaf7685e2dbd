"""A model server runs as long as the run that started it, in an environment of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest
from support.generation_runs import QUICK, count_replies, generate_args, read_rows
from support.model_servers import FakeServers, is_running, wait_until_ended

from code_alpaca.cli import main
from code_alpaca.core.config import read_yaml
from code_alpaca.core.errors import InputError
from code_alpaca.generation.config import GenerateConfig
from code_alpaca.teacher.serving import Demand, serve_model
from code_alpaca.teacher.serving.engines import parse_served_model
from code_alpaca.teacher.serving.keys import ServingKeys

DEMAND = Demand(num_requests=8, num_tokens=2048)


@pytest.fixture
def servers(tmp_path, monkeypatch):
    return FakeServers(tmp_path, monkeypatch)


@pytest.fixture
def serve(tmp_path):
    """Serve `ENGINE:MODEL` with these keys."""

    def start(text, demand=DEMAND, **keys):
        return serve_model(parse_served_model(text), ServingKeys(**keys), demand, tmp_path / "logs")

    return start


@pytest.fixture
def gguf(tmp_path):
    path = tmp_path / "qwen-0.5b.gguf"
    path.write_bytes(b"GGUF")
    return path


@pytest.fixture
def model_folder(tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    return folder


@pytest.fixture
def run(tmp_path, gguf):
    """Run `generate` with a served GGUF file; return the exit code."""

    def generate(*more, rows=3):
        args = [*QUICK, "--max_concurrency", "2", *map(str, more)]
        url = f"llama-server:{gguf}"
        return main(generate_args(tmp_path / "run", *args, url=url, rows=rows))

    return generate


# -- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("vllm:ORG/NAME", "serve ORG/NAME --served-model-name ORG/NAME"),
        ("vllm:{folder}", "serve {folder} --served-model-name my-model"),
        ("sglang:{folder}", "serve --model-path {folder} --served-model-name my-model"),
        (
            "llama-server:{gguf}",
            "-m {gguf} --alias qwen-0.5b -np 8 -c 16384 --no-webui",
        ),
        (
            "llama-server:ORG/NAME:Q4_K_M",
            "-hf ORG/NAME:Q4_K_M --alias ORG/NAME:Q4_K_M -np 8 -c 16384 --no-webui",
        ),
        ("transformers:ORG/NAME", "serve ORG/NAME"),
        ("transformers:{folder}", "serve my-model"),
    ],
)
def test_each_server_gets_its_own_arguments(servers, serve, gguf, model_folder, text, expected):
    paths = {"gguf": gguf, "folder": model_folder}
    with serve(text.format(**paths), serving_args=["--dtype bfloat16"]) as urls:
        (server,) = servers.started
        assert urls == [f"http://127.0.0.1:{server.port}/v1"]
    port = f"--host 127.0.0.1 --port {server.port}"
    assert server.arguments == f"{expected} --dtype bfloat16 {port}".format(**paths).split()


def test_no_argument_opens_the_server_to_the_network(servers, serve):
    with serve("vllm:ORG/NAME", serving_args=["--host 0.0.0.0", "--port 80"]):
        *_, host_flag, host, port_flag, port = servers.started[0].arguments
    assert (host_flag, host, port_flag) == ("--host", "127.0.0.1", "--port") and port != "80"


def test_a_benchmark_is_sampled_without_the_parameters_of_the_model(servers, serve, gguf):
    neutral = Demand(1, 1024, neutral_sampling=True)
    texts = ("vllm:ORG/NAME", "sglang:ORG/NAME", f"llama-server:{gguf}")
    for text in texts:
        with serve(text, neutral):
            pass
    lines = [" ".join(server.arguments) for server in servers.started]
    for line, flags in zip(
        lines,
        ("--generation-config vllm", "--sampling-defaults openai", "--top-k 0 --top-p 1 --min-p 0"),
        strict=True,
    ):
        assert flags in line


def test_transformers_finds_a_folder_from_its_parent_so_that_its_name_is_no_path(
    servers, serve, model_folder
):
    with serve(f"transformers:{model_folder}"):
        assert servers.started[0].folder == str(model_folder.parent)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("{bin}/vllm", "serve ORG/NAME"),
        ("{bin}/vllm serve", "serve ORG/NAME"),
        ("{python} {fake} serve --verbose", "serve --verbose ORG/NAME"),
    ],
)
def test_the_command_may_be_a_program_or_a_whole_command_line(servers, serve, command, expected):
    from support.model_servers import FAKE

    command = command.format(bin=servers.bin, python=sys.executable, fake=FAKE)
    with serve("vllm:ORG/NAME", serving_command=command):
        assert " ".join(servers.started[0].arguments).startswith(expected)


def test_a_server_has_the_path_of_its_own_environment_and_no_api_key(servers, serve, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("PYTHONPATH", "/packages/of/another/python")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with serve("vllm:ORG/NAME", serving_command=str(servers.bin / "vllm")):
        environment = servers.started[0].environment
    assert environment["PATH"].startswith(f"{servers.bin}:")
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert "sk-secret" not in str(environment) and "PYTHONPATH" not in environment


# -- several GPUs --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "replicas", "expected"),
    [
        ("0,1", None, ["0", "1"]),
        ("4,5,6,7", 2, ["4,5", "6,7"]),
        ("2,3", 1, ["2,3"]),
        ("", None, [""]),
        ("-1", 2, ["-1", "-1"]),
    ],
)
def test_replicas_share_the_visible_gpus(servers, serve, monkeypatch, visible, replicas, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with serve("vllm:ORG/NAME", serving_replicas=replicas) as urls:
        assert len(set(urls)) == len(expected)
    gpus = [server.environment["CUDA_VISIBLE_DEVICES"] for server in servers.started]
    assert sorted(gpus) == expected


def test_replicas_share_the_requests_in_flight(servers, serve, gguf):
    with serve(f"llama-server:{gguf}", serving_replicas=3):
        assert all("-np 3 -c 6144" in " ".join(server.arguments) for server in servers.started)


def test_more_replicas_than_gpus_are_refused(servers, serve, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(InputError, match="serving_replicas 3 is more than the 2 GPUs"):
        serve("vllm:ORG/NAME", serving_replicas=3).__enter__()
    assert not servers.started


# -- a run ---------------------------------------------------------------------------------------


def test_a_run_serves_its_model_and_stops_the_server(servers, run, tmp_path, capsys):
    servers.behave(loads_s=0.5)
    assert run() == 0
    (server,) = servers.started
    assert {row["teacher"] for row in read_rows(tmp_path / "run")} == {"qwen-0.5b"}
    assert "loading weights" in (tmp_path / "run/logs/llama-server-0.log").read_text()
    assert "llama-server serves qwen-0.5b at http://127.0.0.1" in capsys.readouterr().out
    assert not any(map(is_running, server.pids))


def test_a_resumed_run_finds_the_server_at_another_port_and_repeats_no_request(
    servers, run, tmp_path
):
    assert run() == 0
    rows = read_rows(tmp_path / "run", 3)
    assert run(rows=6) == 0
    first, second = servers.started
    assert first.port != second.port
    assert read_rows(tmp_path / "run", 3) == rows
    assert str(second.port) not in str(read_yaml(tmp_path / "run/config.yaml"))
    replies = count_replies(tmp_path / "run")
    assert run(rows=6) == 0  # nothing to request: no server, which may not even be installed
    assert len(servers.started) == 2 and count_replies(tmp_path / "run") == replies


def test_a_server_that_fails_to_load_is_explained_by_its_log(servers, run, capsys):
    servers.behave(fails="the file is not a model")
    assert run() == 2
    output = capsys.readouterr()
    assert "serving   | the file is not a model" in output.out
    assert "llama-server ended with exit code 1" in output.err and output.err.count("\n") == 1


def test_a_server_that_loads_too_long_is_stopped(servers, run, capsys):
    servers.behave(loads_s=600)
    assert run("--serving_timeout_s", "1") == 2
    assert "was not ready after 1 s" in capsys.readouterr().err
    assert not any(map(is_running, servers.started[0].pids))


def test_a_server_that_is_killed_stops_the_run_which_resumes(servers, run, capsys):
    servers.behave(dies_at=1)
    assert run() == 3
    error = capsys.readouterr().err
    assert "llama-server was killed (SIGKILL" in error and error.count("\n") == 1
    servers.behave()
    assert run() == 0


def test_a_missing_program_or_file_is_named(run, capsys, gguf, tmp_path):
    assert run("--serving_command", "/opt/no/llama-server") == 2
    error = capsys.readouterr().err
    assert "/opt/no/llama-server of serving_command was not found" in error
    gguf.unlink()
    assert run() == 2
    assert f"llama-server cannot serve {gguf}: no such file" in capsys.readouterr().err


# -- no server outlives its run ------------------------------------------------------------------


def start_run(tmp_path, gguf):
    """Start a run in a process of its own, which writes READY when its server is ready."""
    script = (
        "import sys, threading\n"
        "from pathlib import Path\n"
        "from code_alpaca.teacher.serving import Demand, serve_model\n"
        "from code_alpaca.teacher.serving.engines import parse_served_model\n"
        "from code_alpaca.teacher.serving.keys import ServingKeys\n"
        "served = parse_served_model(f'llama-server:{sys.argv[1]}')\n"
        "def start():\n"
        "    server = serve_model(served, ServingKeys(), Demand(1, 1024), Path(sys.argv[2]))\n"
        "    server.__enter__()\n"
        "    kept.append(server)\n"
        "kept = []\n"
        "thread = threading.Thread(target=start)\n"  # which ends before the process does
        "thread.start()\n"
        "thread.join()\n"
        "print('READY', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(gguf), str(tmp_path / "logs")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, start_new_session=True, **pipes)
    assert process.stdout
    while "READY" not in process.stdout.readline():
        assert process.poll() is None
    return process


@pytest.mark.parametrize("stubborn", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_no_process_of_a_server_survives_kill_9_of_its_run(servers, tmp_path, gguf, stubborn):
    servers.behave(ignores_sigterm=stubborn)
    process = start_run(tmp_path, gguf)
    pids = servers.started[0].pids
    assert all(map(is_running, pids))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert all(map(wait_until_ended, pids))


def test_a_server_ends_with_its_supervisor(servers, tmp_path, gguf):
    process = start_run(tmp_path, gguf)
    server, supervisor, _ = servers.started[0].pids
    os.kill(supervisor, signal.SIGKILL)
    assert wait_until_ended(server)
    process.kill()
    process.communicate()


def test_an_exception_stops_the_server(servers, serve, gguf):
    with pytest.raises(KeyboardInterrupt), serve(f"llama-server:{gguf}"):
        raise KeyboardInterrupt
    assert not any(map(is_running, servers.started[0].pids))


# -- the keys ------------------------------------------------------------------------------------


def test_a_served_model_has_its_own_name_and_time(gguf, model_folder):
    def configure(**keys):
        return GenerateConfig(run_dir="run", **keys)

    config = configure(teacher_base_url=f"llama-server:{gguf}")
    assert config.teacher_model == "qwen-0.5b" and config.request_timeout_s == 3600
    config = configure(teacher_base_url=f"vllm:{model_folder}")
    assert config.teacher_model == "my-model"
    config = configure(teacher_base_url=f"vllm:{model_folder}", teacher_model="ORG/NAME")
    assert config.served_model.name == "ORG/NAME"
    config = configure(teacher_base_url="http://127.0.0.1:8000/v1")
    assert config.served_model is None and config.request_timeout_s == 120


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher_base_url", "lama-server:x.gguf"], "did you mean 'llama-server'?"),
        (["--teacher_base_url", "vllm:"], "write it as vllm:MODEL"),
        (
            ["--teacher_base_url", "transformers:ORG/NAME", "--teacher_model", "x"],
            "serves the model as ORG/NAME; leave teacher_model out",
        ),
        (["--teacher_base_url", "vllm:A/B", "--teacher_api", "batch"], "has no Batch API"),
        (["--serving_args=--hf-token=hf_abc"], "set HF_TOKEN in the environment"),
        (["--serving_args", "--api-key secret"], "leave out API keys"),
        (["--serving_command", "vllm 'serve"], "not a shell command"),
    ],
)
def test_a_key_that_cannot_work_is_refused(tmp_path, capsys, words, message):
    assert main(["generate", "--run_dir", str(tmp_path / "run"), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--threads 2", ["--threads", "2"]),
        (["--ctx-size", 4096], ["--ctx-size", "4096"]),
        (["--chat-template 'a b'"], ["--chat-template", "a b"]),
        (["--override", '{"a": 1}'], ["--override", '{"a": 1}']),
        ([], []),
    ],
)
def test_arguments_are_a_list_or_pairs_as_in_a_shell(given, expected):
    assert ServingKeys(serving_args=given).serving_args == expected
