"""Training through the command: losses fall, the folder loads, bad input is one kind line."""

from __future__ import annotations

import configparser
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support.tiny_sft import RECIPE, ROOT, TINY

from code_alpaca import __version__
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.shipped import find_accelerate_config, find_recipe
from code_alpaca.training import arguments

CPU = "accelerate_configs/cpu.yaml"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Sixty rows in an Alpaca file."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps([
        {"instruction": f"Return the number {n}.", "input": "", "output": f"return {n}"}
        for n in range(60)
    ]))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def trained(rows, tmp_path_factory):
    """A tiny model trained through accelerate launch."""
    out = tmp_path_factory.mktemp("run") / "model"
    config = str(ROOT / "accelerate_configs/cpu.yaml")
    words = ["sft", "--accelerate_config", config, *TINY, "--dataset_name", str(rows)]
    done = subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words, "--output_dir", str(out),
         "--num_train_epochs", "5"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out, done.stdout


def test_the_loss_falls_and_is_recorded(trained, rows):
    import hashlib

    out, shown = trained
    report = json.loads((out / "run.json").read_text())
    assert report["last_loss"] < report["first_loss"] - 1
    assert f"loss {report['first_loss']:.3f} first, {report['last_loss']:.3f} last" in shown
    assert report["rows"] == 60 and report["steps"] == 20
    assert (
        report["dataset"]["revision"] == f"sha256 {hashlib.sha256(rows.read_bytes()).hexdigest()}"
    )
    assert report["config"]["learning_rate"] == 2.0e-3
    assert "step 20/20" in shown


def test_the_folder_loads_and_holds_nothing_private(trained):
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    out, _ = trained
    model = AutoModelForCausalLM.from_pretrained(out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    assert model.config.vocab_size == len(tokenizer)
    assert GenerationConfig.from_pretrained(out).eos_token_id == tokenizer.eos_token_id
    assert not (out / "training_args.bin").exists() and not (out / "README.md").exists()
    assert "hub_token" not in (out / "run.json").read_text()


def test_the_same_command_again_trains_nothing_and_another_is_refused(trained, rows, capsys):
    out, _ = trained
    before = (out / "run.json").read_bytes()
    words = ["sft", *TINY, "--dataset_name", str(rows), "--output_dir", str(out)]
    assert main([*words, "--num_train_epochs", "5"]) == 0
    assert "trained already" in capsys.readouterr().out
    assert main([*words, "--num_train_epochs", "9"]) == 2
    assert "holds a model of another configuration" in capsys.readouterr().err
    assert (out / "run.json").read_bytes() == before


def test_it_goes_on_from_the_last_whole_checkpoint(trained, rows, tmp_path, capsys):
    """Killed before the second checkpoint was whole, it ends as if never stopped."""
    out = tmp_path / "model"
    words = [
        "sft",
        *TINY,
        "--dataset_name",
        str(rows),
        "--output_dir",
        str(out),
        "--num_train_epochs",
        "5",
    ]
    code = (
        "import os, sys\n"
        "from transformers import Trainer\n"
        "from code_alpaca.cli import main\n"
        "save = Trainer._save_checkpoint\n"
        "def second(self, *a, **k):\n"
        "    save(self, *a, **k)\n"
        "    if self.state.global_step == 8:\n"
        "        os._exit(9)\n"
        "Trainer._save_checkpoint = second\n"
        f"main({words!r})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 9
    assert (out / "checkpoint-4/trainer_state.json").exists()
    assert (out / "checkpoint-8/trainer_state.json").exists()  # looks whole, and nobody said so
    mark = out / "checkpoint-4/whole"
    assert 0 < json.loads(mark.read_text())["seconds"] < 1000
    mark.write_text('{"seconds": 1000}')  # as if a slower machine had come this far
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert f"going on from {out}/checkpoint-4" in shown
    assert "checkpoint-8 was not written to its end" in shown
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-20"]
    steps = [json.loads(line)["step"] for line in (out / "metrics.jsonl").open()]
    assert steps == sorted(set(steps)) and steps[-1] == 20
    resumed = json.loads((out / "run.json").read_text())
    straight = json.loads((trained[0] / "run.json").read_text())
    assert resumed["last_loss"] == pytest.approx(straight["last_loss"], abs=1e-4)
    assert resumed["seconds"] > 1000  # of both starts, as the tokens are
    learned = resumed["tokens"] * resumed["epochs"]
    assert resumed["tokens_per_second"] == pytest.approx(learned / resumed["seconds"], abs=0.1)


def test_a_checkpoint_without_its_seconds_counts_the_tokens_of_the_last_start(
    rows, tmp_path, capsys
):
    """As checkpoints of version 0.1.0 are: the mark of a complete one is an empty file."""
    out = tmp_path / "model"
    words = ["sft", *TINY, "--dataset_name", str(rows), "--output_dir", str(out)]
    assert main(words) == 0
    (out / "run.json").unlink()  # as if killed between the last checkpoint and the end
    (out / "checkpoint-8/whole").write_text("")
    assert main(words) == 0
    assert json.loads((out / "run.json").read_text())["tokens_per_second"] == 0


def test_dry_run_trains_and_writes_nothing(rows, tmp_path, capsys):
    out = tmp_path / "model"
    words = ["sft", *TINY, "--dataset_name", str(rows), "--output_dir", str(out)]
    assert main([*words, "--dry_run", "true"]) == 0
    shown = capsys.readouterr().out
    assert "60 rows" in shown and "### Response:" in shown and "about 8 steps" in shown
    assert "a step learns from 16 rows" in shown
    assert not out.exists()


def test_checkpoints_of_another_configuration_are_not_gone_on_from(rows, tmp_path, capsys):
    out = tmp_path / "model"
    words = ["sft", *TINY, "--dataset_name", str(rows), "--output_dir", str(out)]
    assert main(words) == 0
    (out / "run.json").unlink()  # as if killed between the last checkpoint and the end
    assert main([*words, "--learning_rate", "0.5"]) == 2
    assert "learning_rate: 0.002 there, 0.5 now" in capsys.readouterr().err
    assert main([*words, "--logging_steps", "1"]) == 0
    assert "going on from" in capsys.readouterr().out


def test_a_folder_of_someone_else_is_left_alone(rows, tmp_path, capsys):
    (tmp_path / "model.safetensors").write_bytes(b"precious")
    words = ["sft", *TINY, "--dataset_name", str(rows), "--output_dir", str(tmp_path)]
    assert main(words) == 2
    assert "did not make" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_two_processes_train_as_one(rows, tmp_path):
    """Half the batch in each of two processes: the losses of one process with the whole batch."""
    losses = {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        words = [
            "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes),
            "-m", "code_alpaca.cli", "sft", *TINY, "--dataset_name", str(rows),
            "--output_dir", str(out), "--per_device_train_batch_size", str(16 // processes),
            "--max_steps", "3", "--train_sampling_strategy", "sequential", "--logging_steps", "1",
        ]  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-m", *words],
            env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        report = json.loads((out / "run.json").read_text())
        assert report["processes"] == processes
        losses[processes] = [loss for _, loss in report["loss_curve"]]
    assert losses[2] == pytest.approx(losses[1], abs=2e-3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max_seq_length", "512"], "unknown key 'max_seq_length' (command line)"),
        (["--learning_rat", "1"], "did you mean 'learning_rate'?"),
        (["--learning_rate", "fast"], "learning_rate"),
        (["--mask", "everything"], "mask"),
        (["--use_peft", "true", "--dataset_name", "x"], "'use_peft' and from_scratch exclude"),
        (["--validation_fraction", "1", "--dataset_name", "x"], "bad value for 'validation_frac"),
        (["--push_to_hub", "true", "--dataset_name", "x"], "'push_to_hub' cannot be set here"),
        (["--eval_strategy", "epoch", "--dataset_name", "x"], "'eval_strategy' needs"),
        (["--scratch_heads", "5", "--dataset_name", "x"], "must divide scratch_hidden_size"),
        (["--max_length", "-5", "--dataset_name", "x"], "bad value for 'max_length'"),
        (["--learning_rate", "nan", "--dataset_name", "x"], "bad value for 'learning_rate'"),
        (["--seed", "-1", "--dataset_name", "x"], "bad value for 'seed'"),
        (["--resume_from_checkpoint", "x", "--dataset_name", "x"], "cannot be set here"),
        ([], "missing key 'dataset_name'"),
        (["--dataset_name", "./nowhere"], "no dataset at ./nowhere"),
        (["--from_scratch", "false", "--dataset_name", "x"], "missing key 'model_name_or_path'"),
    ],
)
def test_bad_input(words, said, tmp_path, capsys):
    assert main(["sft", "--config", str(RECIPE), "--output_dir", str(tmp_path / "m"), *words]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_an_unknown_key_of_the_file_is_named(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("output_dir: x\nwarmup_ratio: 0.1\n")
    with pytest.raises(
        InputError, match=r"unknown key 'warmup_ratio' .*c.yaml.*did you mean 'warmup_"
    ):
        arguments.parse(["--config", str(path)])


def test_errors_of_launched_processes_keep_their_exit_code(tmp_path):
    config = str(ROOT / "accelerate_configs/cpu.yaml")
    done = subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", "sft", "--accelerate_config", config,
         *TINY, "--dataset_name", "./nowhere", "--output_dir", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no dataset at ./nowhere" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_through_the_launcher_is_one_line_and_exit_3(rows, tmp_path):
    config = str(ROOT / "accelerate_configs/cpu.yaml")
    process = subprocess.Popen(
        [sys.executable, "-m", "code_alpaca.cli", "sft", "--accelerate_config", config, *TINY,
         "--dataset_name", str(rows), "--output_dir", str(tmp_path), "--num_train_epochs", "5000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for line in process.stdout:  # type: ignore[union-attr]
        if "step 5/" in line:
            break
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process at once
    _, error = process.communicate(timeout=60)
    assert process.returncode == 3
    assert error.count("interrupted; everything finished is kept") == 1
    assert "Traceback" not in error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_training_outlives_a_launcher_that_is_killed_alone(number, rows, tmp_path):
    """Its processes hold the other end of the pipe, so reading to the end waits for each."""
    process = subprocess.Popen(
        [sys.executable, "-m", "code_alpaca.cli", "sft", "--accelerate_config", CPU, *TINY,
         "--dataset_name", str(rows), "--output_dir", str(tmp_path), "--max_steps", "1000000"],
        stdout=subprocess.PIPE, text=True, start_new_session=True, cwd=ROOT,
    )  # fmt: skip
    try:
        for line in process.stdout:
            if "step 1/" in line:
                break
        process.send_signal(number)
        process.communicate(timeout=60)
        assert process.returncode == -number
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_the_script_is_one_that_hugging_face_jobs_run():
    """Its PEP 723 header is read, from which uv installs and Jobs take the machine; no network."""
    hf = Path(sys.executable).with_name("hf")
    done = subprocess.run(
        [hf, "jobs", "uv", "run", "--dry-run", "scripts/sft.py", "--config", str(RECIPE)],
        cwd=ROOT, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"flavor +a100-large \(from script\)", done.stdout)
    assert "Job not submitted" in done.stdout
    header = re.search(
        r"(?m)^# /// script$\s((^#.*$\s)+)^# ///$", (ROOT / "scripts/sft.py").read_text()
    )
    values = tomllib.loads(re.sub(r"(?m)^# ?", "", header[1]))
    # The repository at the tag of this version: the name alone is anybody's on the package index.
    repository = "git+https://github.com/OWNER/code-alpaca"
    assert values["dependencies"] == [f"code-alpaca[gpu] @ {repository}@v{__version__}"]
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert "gpu" in setup["options.extras_require"]
    assert values["requires-python"] == setup["options"]["python_requires"]


def test_accelerate_configs_by_name_or_path(monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    assert find_accelerate_config("cpu") == Path("accelerate_configs/cpu.yaml")
    monkeypatch.chdir(tmp_path)  # outside the clone
    for name in ("cpu", "cpu.yaml", "accelerate_configs/cpu.yaml", str(ROOT / CPU)):
        assert find_accelerate_config(name).read_bytes() == (ROOT / CPU).read_bytes()
    with pytest.raises(InputError, match=r"no accelerate config 'gpu'.*cpu"):
        find_accelerate_config("gpu")


def test_recipes_by_name_or_path(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("smoke/sft/config_cpu", "recipes/smoke/sft/config_cpu.yaml", str(RECIPE)):
        assert find_recipe(name).read_bytes() == RECIPE.read_bytes()
    Path("smoke/sft").mkdir(parents=True)
    Path("smoke/sft/config_cpu").write_text("mine: true")  # a file here comes first
    assert find_recipe("smoke/sft/config_cpu").read_text() == "mine: true"
    with pytest.raises(InputError, match="did you mean 'smoke/sft/config_cpu'"):
        find_recipe("smoke/sft/config_gpu")
    with pytest.raises(InputError, match="cannot read config"):
        find_recipe("../recipes/../smoke")


@pytest.mark.parametrize(
    ("word", "said"),
    [("--config=nothing", "cannot read config nothing: no such file"),
     ("--config", "--config needs a file, or the name of a shipped recipe")],
)  # fmt: skip
def test_a_config_that_is_not_there(word, said, capsys):
    assert main(["sft", word]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


@pytest.mark.parametrize("config", ["ddp", "zero2", "fsdp2"])
def test_an_accelerate_config_for_gpus_is_refused_before_anything_is_launched(
    config, rows, tmp_path, capsys
):
    words = ["sft", "--accelerate_config", config, *TINY, "--dataset_name", str(rows)]
    assert main([*words, "--output_dir", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "8 processes are to run here, which has 0 GPUs; take --accelerate_config cpu" in (
        captured.err
    )
    assert captured.err.count("\n") == 1 and captured.out == ""


def test_without_network_nothing_is_asked_for_twice(rows, tmp_path):
    """In a process of its own, since huggingface_hub reads its environment once."""
    words = ["sft", "--model_name_or_path", "runs/nope", "--output_dir", str(tmp_path / "out"),
             "--dataset_name", str(rows), "--use_cpu", "true", "--bf16", "false"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words], capture_output=True, text=True,
        cwd=tmp_path, check=False,
        env={"PATH": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot load model runs/nope: no such folder, and the Hub cannot be" in done.stderr
    assert "Retrying" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_idle_threads_sleep(tmp_path):
    """Asked of OpenMP itself, which prints how it is set when torch loads it."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("OMP", "GOMP"))}
    done = subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", "sft", *TINY, "--no_such_key", "1"],
        env={**kept, "OMP_DISPLAY_ENV": "TRUE"}, capture_output=True, text=True, cwd=tmp_path,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2 and "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_idle_threads_do_what_the_user_chose(name, monkeypatch, capsys):
    for variable in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, "1000")
    assert main(["--version"]) == 0
    assert os.environ.get("OMP_WAIT_POLICY") == ("1000" if name == "OMP_WAIT_POLICY" else None)
