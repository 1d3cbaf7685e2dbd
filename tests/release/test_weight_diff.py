"""A weight difference and its base model restore the fine-tuned model bit for bit, or nothing."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.hub_versions import read_tree
from support.kill_hooks import recover_and_die
from support.model_releases import TrainedModel, match_results, release_command, update_json

import code_alpaca
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.fs import weights_sha256
from code_alpaca.release.weight_diff import (
    BaseModelName,
    apply_weight_diff,
    read_weight_diff,
    write_weight_diff,
)

INTEGERS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32,
            torch.float64: torch.int64}  # fmt: skip
BASE = BaseModelName("org/base")


def save(folder, tensors):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


def recover_weights(tuned, base, home):
    """Write the difference of two folders, and return the folder that it restores."""
    write_weight_diff(tuned, base, home, BASE, print)
    out = home / "out"
    out.mkdir()
    apply_weight_diff(home, read_weight_diff(home), base, out, print)
    return out


# -- tensors -------------------------------------------------------------------------------------


def tensors(dtype):
    """Tensors of any bits: NaNs with payloads, infinities, -0, subnormal numbers."""
    integer = INTEGERS[dtype]
    limits = torch.iinfo(integer)
    numbers = st.lists(st.integers(limits.min, limits.max), min_size=1, max_size=20)
    return numbers.map(lambda values: torch.tensor(values, dtype=integer).view(dtype))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), dtypes=st.tuples(*[st.sampled_from(list(INTEGERS))] * 2))
def test_any_bits_are_restored(tmp_path_factory, data, dtypes):
    home = tmp_path_factory.mktemp("bits")
    tuned, base = (data.draw(tensors(dtype)) for dtype in dtypes)
    folders = [save(home / "tuned", {"w": tuned}), save(home / "base", {"w": base})]
    out = recover_weights(*folders, home)
    expected = (home / "tuned/model.safetensors").read_bytes()
    assert (out / "model.safetensors").read_bytes() == expected


def make_llama(folder, seed, **options):
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(seed)
    size = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2}  # fmt: skip
    shards = {key: options.pop(key) for key in ("max_shard_size",) if key in options}
    LlamaForCausalLM(LlamaConfig(**{**size, **options})).save_pretrained(folder, **shards)
    return folder


@pytest.mark.parametrize(
    ("tuned_options", "base_options"),
    [
        ({}, {}),
        ({"max_shard_size": "20KB"}, {}),
        ({}, {"max_shard_size": "20KB"}),
        ({"vocab_size": 99}, {}),  # the vocabulary grew
        ({"vocab_size": 90}, {}),
        ({}, {"tie_word_embeddings": True}),  # DeepSpeed writes the tied head a second time
        ({"tie_word_embeddings": True}, {}),
        ({"dtype": torch.bfloat16}, {"dtype": torch.float16}),
    ],
)
def test_models_are_restored_as_transformers_writes_them(tmp_path, tuned_options, base_options):
    tuned = make_llama(tmp_path / "tuned", 1, **tuned_options)
    base = make_llama(tmp_path / "base", 2, **base_options)
    out = recover_weights(tuned, base, tmp_path)
    files = [*tuned.glob("*.safetensors*")]
    assert len(files) > 1 or "max_shard_size" not in tuned_options
    for path in files:
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_the_difference_of_equal_models_is_zero_and_does_not_load_as_a_model(tmp_path):
    from transformers import AutoModelForCausalLM

    tuned = make_llama(tmp_path / "tuned", 1)
    write_weight_diff(tuned, tuned, tmp_path / "d", BASE, print)
    differences = load_file(tmp_path / "d/weight_diff/model.safetensors")
    assert all(not tensor.any() for tensor in differences.values())
    shutil.copy(tuned / "config.json", tmp_path / "d")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "d")


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"other": torch.zeros(3)}, "has no tensor w"),
        ({"w": torch.zeros(3, 2)}, "has the shape [3, 2] in the base model"),
    ],
)
def test_a_wrong_base_model_discloses_nothing(tmp_path, tensors, message):
    tuned = save(tmp_path / "tuned", {"w": torch.ones(3)})
    base = save(tmp_path / "base", tensors)
    with pytest.raises(InputError) as error:
        write_weight_diff(tuned, base, tmp_path, BASE, print)
    assert message in str(error.value)
    with pytest.raises(InputError, match="no weight difference"):
        read_weight_diff(tmp_path)


@pytest.mark.parametrize("truncated", ["tuned", "base"])
def test_truncated_weights_are_named(tmp_path, truncated):
    folders = {name: save(tmp_path / name, {"w": torch.ones(9)}) for name in ("tuned", "base")}
    shard = folders[truncated] / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(InputError, match=f"{shard} .*broken.*download it again"):
        recover_weights(folders["tuned"], folders["base"], tmp_path)


def test_integer_weights_are_refused(tmp_path):
    folders = [save(tmp_path / name, {"n": torch.arange(3)}) for name in ("tuned", "base")]
    with pytest.raises(InputError, match="n has the type I64"):
        recover_weights(*folders, tmp_path)


def test_memory_is_bounded_by_the_largest_tensor(tmp_path):
    """The difference of 100 MB in 25 tensors is written with 40 MB."""
    for name, count, size in (("small", 1, 10), ("large", 25, 1_000_000)):
        weights = {f"w{n}": torch.full((size,), float(n)) for n in range(count)}
        save(tmp_path / "tuned" / name, weights)
        save(tmp_path / "base" / name, {key: tensor + 1 for key, tensor in weights.items()})
    script = Path(__file__).parents[1] / "support/bounded_diff.py"
    words = [sys.executable, script, tmp_path / "tuned", tmp_path / "base", "40"]
    process = subprocess.run(words, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    shard = tmp_path / "tuned/large/weight_diff/model.safetensors"
    assert shard.stat().st_size > 100_000_000


# -- commands ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def released(trained_once, tmp_path_factory):
    """A folder with `model`, as if tuned from `base`, and `diff`, the release of the difference."""
    from transformers import AutoModelForCausalLM

    home = tmp_path_factory.mktemp("released")
    shutil.copytree(trained_once.model_dir, home / "model")
    shutil.copytree(trained_once.results, home / "eval")
    network = AutoModelForCausalLM.from_pretrained(home / "model")
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(0.9)
    network.save_pretrained(home / "base")
    config = json.loads((home / "model/run.json").read_text())["config"]
    config["base_sha256"] = weights_sha256(home / "base")
    update_json(home / "model/run.json", base_model=str(home / "base"), config=config)
    assert main(diff_command(home, home / "diff", "--base_license", "other")) == 0
    return home


def diff_command(home, output_dir, *words, base="org/base"):
    trained = TrainedModel(home / "model", home / "eval")
    return release_command(trained, output_dir, "--weight_diff", "--base_model", base, *words)


def recover_command(released, output_dir, *words, diff=None, base=None):
    folders = ["--diff", diff or released / "diff", "--base", base or released / "base"]
    return ["recover", *map(str, folders), "--output_dir", str(output_dir), *words]


@pytest.fixture
def recover(released):
    """Return a function that recovers the model into a folder and returns the exit code."""

    def run(output_dir, *words, **folders):
        return main(recover_command(released, output_dir, *words, **folders))

    return run


def test_the_recovered_model_is_the_one_that_was_trained(released, recover, tmp_path, capsys):
    assert not list((released / "diff").glob("*.safetensors"))
    card = (released / "diff/README.md").read_text()
    assert "code-alpaca recover --diff path/to/this/folder --base org/base" in card
    assert "pipeline_tag" not in card and "weight-diff" in card
    out = tmp_path / "model"
    assert recover(out) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert weights_sha256(out) == weights_sha256(released / "model")
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (released / "model" / name).read_bytes()
    assert not (out / "weight_diff").exists() and not (out / "README.md").exists()
    for more in ({}, {"input": "x"}):
        responses = [
            code_alpaca.respond(folder, "Return 3.", max_new_tokens=6, **more)
            for folder in (out, released / "model")
        ]
        assert responses[0] == responses[1]
    assert recover(out) == 0
    assert "already contains this model" in capsys.readouterr().out


def test_only_the_base_of_the_training_is_subtracted(released, tmp_path, capsys):
    """The difference to zeros would be the tuned weights."""
    zeros = {k: v * 0 for k, v in load_file(released / "base/model.safetensors").items()}
    save(tmp_path / "zeros", zeros)
    command = diff_command(released, tmp_path / "d", "--base_dir")
    for wrong in (tmp_path / "zeros", released / "model"):
        assert main([*command, str(wrong)]) == 2
        error = capsys.readouterr().err
        assert "does not contain the weights that training started from" in error
    assert not (tmp_path / "d").exists()
    assert main([*command, str(released / "base")]) == 0


def test_another_base_is_refused_before_anything_is_written(released, recover, tmp_path, capsys):
    assert recover(tmp_path / "out", base=released / "model") == 2
    error = capsys.readouterr().err
    expected = weights_sha256(released / "base")
    assert f"this difference needs {expected}: the weights of org/base" in error
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    assert recover(tmp_path / "out", base=tmp_path / "empty") == 2
    assert "empty contains no *.safetensors, and this difference" in capsys.readouterr().err


def flip_bit(shard, plan):
    content = shard.read_bytes()
    shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))


def escape_folder(shard, plan):
    shard.rename(plan.parents[1] / "model.safetensors")
    (plan.parents[2] / "model.safetensors").write_text("mine")
    plan.write_text(plan.read_text().replace('"model.safe', '"../model.safe'))


DAMAGES = {
    "bit": (flip_bit, True),
    "short": (lambda shard, plan: shard.write_bytes(shard.read_bytes()[:-100]), True),
    "missing": (lambda shard, plan: shard.unlink(), True),
    "other tensors": (
        lambda shard, plan: plan.write_text(plan.read_text().replace("model.norm", "model.form")),
        True,
    ),
    "truncated plan": (lambda shard, plan: plan.write_text(plan.read_text()[:-40]), False),
    "no plan": (lambda shard, plan: plan.unlink(), False),
    "path outside": (escape_folder, False),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_difference_is_refused(released, recover, tmp_path, damage, capsys):
    function, is_shard = DAMAGES[damage]
    diff = shutil.copytree(released / "diff", tmp_path / "diff")
    function(diff / "weight_diff/model.safetensors", diff / "weight_diff/weight_diff.json")
    assert recover(tmp_path / "out", diff=diff) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("download the difference again" in error) == is_shard
    assert not (tmp_path / "out").exists()
    outside = tmp_path / "model.safetensors"
    assert damage != "path outside" or outside.read_text() == "mine"


def test_weights_next_to_the_difference_do_not_replace_the_model(released, recover, tmp_path):
    diff = shutil.copytree(released / "diff", tmp_path / "diff")
    shutil.copy(released / "base/model.safetensors", diff)
    (diff / ".git").mkdir()  # a clone
    assert recover(tmp_path / "out", diff=diff) == 0
    assert weights_sha256(tmp_path / "out") == weights_sha256(released / "model")
    assert not (tmp_path / "out/.git").exists()


def test_the_model_can_be_written_to_the_current_folder(released, recover, tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    assert recover(".") == 0
    assert weights_sha256(folder) == weights_sha256(released / "model")


def test_a_folder_that_is_not_empty_is_not_replaced(recover, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("words")
    assert recover(tmp_path) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert recover(tmp_path / "o", base="org/nowhere") == 2
    assert "cannot load model org/nowhere: no such folder" in capsys.readouterr().err


def test_a_killed_recovery_leaves_no_model_and_starts_again(released, tmp_path):
    out = tmp_path / "out"
    command = recover_command(released, out)
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=recover_and_die, args=(command,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (tmp_path / ".out.part/model.safetensors").exists() and not out.exists()
    assert main(command) == 0
    assert weights_sha256(out) == weights_sha256(released / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "out"]


def test_difference_and_base_are_downloaded_from_the_hub(released, hub, worker, tmp_path):
    base = TrainedModel(tmp_path / "base", tmp_path / "eval")
    shutil.copytree(released / "model", base.model_dir)
    shutil.copy(released / "base/model.safetensors", base.model_dir)
    shutil.copytree(released / "eval", base.results)
    update_json(base.model_dir / "run.json", base_model="from scratch")
    match_results(base)
    command = release_command(base, tmp_path / "r", "--hub_model_id", "alice/base")
    worker.succeed(*command)
    worker.succeed(*diff_command(
        released, tmp_path / "d", "--hub_model_id", "alice/diff", "--base_license", "other",
        "--license", "other", base="alice/base",
    ))  # fmt: skip
    hub.edit("alice/base", {"pytorch_model.bin": b"again"}, author="alice", kind="models")
    out = tmp_path / "model"
    worker.succeed("recover", "--diff", "alice/diff", "--diff_revision", "v0.1.0",
                                "--output_dir", out)  # fmt: skip
    assert weights_sha256(out) == weights_sha256(released / "model")
    cache = worker.home / "hub/models--alice--base"
    downloaded = {path.name for path in cache.rglob("*") if not path.is_dir()}
    assert "model.safetensors" in downloaded and "pytorch_model.bin" not in downloaded
    names = set(read_tree(hub, "v0.1.0", "alice/diff"))
    assert "weight_diff/model.safetensors" in names and "model.safetensors" not in names
