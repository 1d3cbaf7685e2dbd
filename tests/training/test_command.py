"""Training through `accelerate launch`: exit codes, interrupts, and the environment it runs in."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from support.documents import ROOT
from support.tiny_sft import TINY, tiny_sft

from code_alpaca.cli import main
from code_alpaca.core.records import RunRecord

CPU = ["--accelerate_config", str(ROOT / "accelerate_configs/cpu.yaml")]
SPINNING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
COMMAND = [sys.executable, "-m", "code_alpaca.cli"]


def start(words: list[str], **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, text=True, start_new_session=True, **options
    )


def wait_for(process: subprocess.Popen[str], text: str) -> None:
    for line in process.stdout:
        if text in line:
            return
    raise AssertionError(f"the process ended without printing {text!r}")


def test_a_launched_run_trains_as_a_run_in_this_process(rows, uninterrupted, tmp_path):
    words = tiny_sft(rows, tmp_path / "model", "--num_train_epochs", "5", "--logging_steps", "1")
    done = subprocess.run([*COMMAND, *words, *CPU], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record = RunRecord.load(tmp_path / "model")
    assert "step 20/20" in done.stdout
    summary = f"loss {record.first_loss:.3f} first, {record.last_loss:.3f} last"
    assert summary in done.stdout
    expected = [loss for _, loss in RunRecord.load(uninterrupted).loss_curve]
    assert [loss for _, loss in record.loss_curve] == pytest.approx(expected, abs=1e-4)


def test_ctrl_c_prints_one_line_and_exits_with_3(rows, tmp_path):
    words = tiny_sft(rows, tmp_path, "--num_train_epochs", "5000", *CPU)
    process = start(words, stderr=subprocess.PIPE)
    wait_for(process, "step 5/")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to every process
    _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert error.count("interrupted; finished work is kept") == 1
    assert "Traceback" not in error


@pytest.mark.parallel
@pytest.mark.parametrize("config", ["cpu", "cpu_zero2"])
def test_an_error_of_launched_processes_is_one_line_with_its_exit_code(config, tmp_path):
    words = ["sft", "--accelerate_config", config, *TINY, "--dataset_name", "./nowhere"]
    words += ["--output_dir", str(tmp_path)]
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("code-alpaca sft: no dataset at ./nowhere; give ")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_launched_process_ends_with_its_killed_launcher(number, rows, tmp_path):
    """Launched processes have the pipe open, so reading to its end waits for each."""
    process = start(tiny_sft(rows, tmp_path, "--max_steps", "1000000", *CPU))
    try:
        wait_for(process, "step 1/")
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == -number
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("config", ["ddp", "zero2", "fsdp2"])
def test_an_accelerate_config_for_gpus_is_refused_before_launch(config, rows, tmp_path, capsys):
    assert main([*tiny_sft(rows, tmp_path), "--accelerate_config", config]) == 2
    captured = capsys.readouterr()
    assert (
        "starts 8 processes on this machine, which has 0 GPUs; use --accelerate_config cpu"
        in captured.err
    )
    assert captured.err.count("\n") == 1 and captured.out == ""


@pytest.fixture(scope="module")
def fresh_process(rows, tmp_path_factory):
    """A run without network in a new process, since libraries read their environment once."""
    folder = tmp_path_factory.mktemp("offline")
    words = ["sft", "--model_name_or_path", "runs/nope", "--output_dir", str(folder / "out"),
             "--dataset_name", str(rows), "--use_cpu", "true", "--bf16", "false"]  # fmt: skip
    code = (
        "import sys; from code_alpaca.cli import main; code = main(sys.argv[1:])\n"
        "from huggingface_hub import constants\n"
        "print('telemetry disabled:', constants.HF_HUB_DISABLE_TELEMETRY); sys.exit(code)"
    )
    environment = {
        "PATH": "",
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_TELEMETRY": "0",
        "OMP_DISPLAY_ENV": "TRUE",  # OpenMP prints its settings when torch loads it
    }
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=folder,
        check=False, env=environment,
    )  # fmt: skip


def test_without_network_a_missing_model_is_reported_without_retries(fresh_process):
    errors = [line for line in fresh_process.stderr.splitlines() if "code-alpaca" in line]
    assert fresh_process.returncode == 2, fresh_process.stderr
    assert "cannot load model runs/nope: no such folder, and the Hub is unreachable" in errors[0]
    assert len(errors) == 1
    assert "Retrying" not in fresh_process.stderr and "Traceback" not in fresh_process.stderr


def test_idle_openmp_threads_sleep(fresh_process):
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in fresh_process.stderr


def test_the_user_can_enable_the_telemetry_of_hugging_face(fresh_process):
    assert fresh_process.stdout.splitlines()[-1] == "telemetry disabled: False"


@pytest.mark.parametrize("name", SPINNING)
def test_the_user_can_choose_what_idle_openmp_threads_do(name, monkeypatch, capsys):
    for variable in SPINNING:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "1000")
    assert main(["--version"]) == 0
    assert os.environ.get("OMP_WAIT_POLICY") == ("1000" if name == "OMP_WAIT_POLICY" else None)
