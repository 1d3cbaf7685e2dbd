"""The difference and the base give the tuned model back, bit for bit, or nothing at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.release_sessions import Session, rewrite

from code_alpaca.cli import main
from code_alpaca.core.fs import weights_sha256
from code_alpaca.release import weight_diff

WIDTHS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32,
          torch.float64: torch.int64}  # fmt: skip


def save(folder, tensors, name="model.safetensors", metadata=None):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name, metadata or {"format": "pt"})
    return folder


def recovered(tuned, base, home):
    weight_diff.write_diff(tuned, str(base), home, base_name="org/base", base_revision=None)
    out = home / "out"
    out.mkdir()
    weight_diff.add_base(home, weight_diff.read_plan(home), base, out)
    return out


def patterns(dtype):
    """Tensors of any bits at all: NaNs with their payloads, infinities, -0, subnormal numbers."""
    whole = WIDTHS[dtype]
    limits = torch.iinfo(whole)
    numbers = st.lists(st.integers(limits.min, limits.max), min_size=1, max_size=20)
    return numbers.map(lambda values: torch.tensor(values, dtype=whole).view(dtype))


@settings(deadline=None, max_examples=60)
@given(data=st.data(), dtypes=st.tuples(*[st.sampled_from(list(WIDTHS))] * 2))
def test_any_bits_come_back(tmp_path_factory, data, dtypes):
    home = tmp_path_factory.mktemp("bits")
    tuned, base = (data.draw(patterns(dtype)) for dtype in dtypes)
    folders = [save(home / "tuned", {"w": tuned}), save(home / "base", {"w": base})]
    out = recovered(*folders, home)
    whole = (home / "tuned/model.safetensors").read_bytes()
    assert (out / "model.safetensors").read_bytes() == whole


def llama(folder, seed, **more):
    from transformers import LlamaConfig, LlamaForCausalLM, set_seed

    set_seed(seed)
    shape = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 2}  # fmt: skip
    shards = {k: more.pop(k) for k in ("max_shard_size",) if k in more}
    LlamaForCausalLM(LlamaConfig(**{**shape, **more})).save_pretrained(folder, **shards)
    return folder


@pytest.mark.parametrize(
    ("of_tuned", "of_base"),
    [
        ({}, {}),
        ({"max_shard_size": "20KB"}, {}),
        ({}, {"max_shard_size": "20KB"}),
        ({"vocab_size": 99}, {}),  # a vocabulary that grew
        ({"vocab_size": 90}, {}),
        ({}, {"tie_word_embeddings": True}),  # DeepSpeed writes the tied head a second time
        ({"tie_word_embeddings": True}, {}),
        ({"dtype": torch.bfloat16}, {"dtype": torch.float16}),
    ],
)
def test_models_as_transformers_writes_them(tmp_path, of_tuned, of_base):
    tuned = llama(tmp_path / "tuned", 1, **of_tuned)
    base = llama(tmp_path / "base", 2, **of_base)
    out = recovered(tuned, base, tmp_path)
    files = [*tuned.glob("*.safetensors*")]
    assert len(files) > 1 or "max_shard_size" not in of_tuned
    for path in files:
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_equal_models_differ_by_nothing_and_a_difference_is_no_model(tmp_path):
    from transformers import AutoModelForCausalLM

    tuned = llama(tmp_path / "tuned", 1)
    weight_diff.write_diff(tuned, str(tuned), tmp_path / "d", base_name="b", base_revision=None)
    tensors = load_file(tmp_path / "d/weight_diff/model.safetensors")
    assert all(not tensor.any() for tensor in tensors.values())
    shutil.copy(tuned / "config.json", tmp_path / "d")
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "d")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"other": torch.zeros(3)}, "has no tensor w"),
        ({"w": torch.zeros(3, 2)}, "has the shape [3, 2] in the base model"),
    ],
)
def test_a_base_that_is_none_discloses_nothing(tmp_path, tensors, said):
    tuned = save(tmp_path / "tuned", {"w": torch.ones(3)})
    base = save(tmp_path / "base", tensors)
    with pytest.raises(weight_diff.InputError) as error:
        weight_diff.write_diff(tuned, str(base), tmp_path, base_name="b", base_revision=None)
    assert said in str(error.value)
    with pytest.raises(weight_diff.InputError, match="no difference of weights"):
        weight_diff.read_plan(tmp_path)


@pytest.mark.parametrize("whose", ["tuned", "base"])
def test_weights_that_are_cut_short_are_named(tmp_path, whose):
    folders = {name: save(tmp_path / name, {"w": torch.ones(9)}) for name in ("tuned", "base")}
    shard = folders[whose] / "model.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])
    with pytest.raises(weight_diff.InputError, match=f"{shard} .*broken.*download it again"):
        recovered(folders["tuned"], folders["base"], tmp_path)


def test_integers_are_no_weights(tmp_path):
    folders = [save(tmp_path / name, {"n": torch.arange(3)}) for name in ("tuned", "base")]
    with pytest.raises(weight_diff.InputError, match="n has the type I64"):
        recovered(*folders, tmp_path)


@pytest.fixture(scope="module")
def released(made, tmp_path_factory):
    """The tiny model as if tuned from another one, and the release of the difference."""
    from transformers import AutoModelForCausalLM

    home = tmp_path_factory.mktemp("released")
    for name in ("model", "eval"):
        shutil.copytree(made / name, home / name)
    network = AutoModelForCausalLM.from_pretrained(made / "model")
    with torch.no_grad():
        for weights in network.parameters():
            weights.mul_(0.9)
    network.save_pretrained(home / "base")
    config = json.loads((home / "model/run.json").read_text())["config"]
    config["base_sha256"] = weights_sha256(str(home / "base"))
    rewrite(home / "model/run.json", base_model=str(home / "base"), config=config)
    words = ["release", "--model_dir", str(home / "model"), "--results", str(home / "eval"),
             "--output_dir", str(home / "diff"), "--base_model", "org/base", "--base_license",
             "other", "--weight_diff"]  # fmt: skip
    assert main(words) == 0
    return home


def recover(released, out, *more, diff=None, base=None):
    words = ["--diff", str(diff or released / "diff"), "--base", str(base or released / "base")]
    return main(["recover", *words, "--output_dir", str(out), *more])


def test_released_and_recovered_it_is_the_model_that_was_trained(released, tmp_path, capsys):
    import code_alpaca

    assert not list((released / "diff").glob("*.safetensors"))
    card = (released / "diff/README.md").read_text()
    assert "code-alpaca recover --diff path/to/this/folder --base org/base" in card
    assert "pipeline_tag" not in card and "weight-diff" in card
    out = tmp_path / "model"
    assert recover(released, out) == 0
    assert "bit for bit" in capsys.readouterr().out
    assert weights_sha256(str(out)) == weights_sha256(str(released / "model"))
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (released / "model" / name).read_bytes()
    assert not (out / "weight_diff").exists() and not (out / "README.md").exists()
    for more in ({}, {"input": "x"}):
        answers = [
            code_alpaca.respond(folder, "Return 3.", max_new_tokens=6, **more)
            for folder in (out, released / "model")
        ]
        assert answers[0] == answers[1]
    assert recover(released, out) == 0
    assert "holds this very model already" in capsys.readouterr().out


def test_only_the_base_of_the_training_is_subtracted(released, tmp_path, capsys):
    """Of zeros, the difference would be the tuned weights."""
    zeros = {k: v * 0 for k, v in load_file(released / "base/model.safetensors").items()}
    save(tmp_path / "zeros", zeros)
    words = ["release", "--model_dir", str(released / "model"), "--results",
             str(released / "eval"), "--output_dir", str(tmp_path / "d"), "--weight_diff",
             "--base_model", "org/base", "--base_dir"]  # fmt: skip
    for wrong in (tmp_path / "zeros", released / "model"):
        assert main([*words, str(wrong)]) == 2
        assert "does not hold the weights that training began from" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
    assert main([*words, str(released / "base")]) == 0


def test_another_base_is_refused_before_anything_is_written(released, tmp_path, capsys):
    assert recover(released, tmp_path / "out", base=released / "model") == 2
    error = capsys.readouterr().err
    wanted = weights_sha256(str(released / "base"))
    assert f"this difference is to {wanted}: those of org/base" in error
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "empty").mkdir()
    assert recover(released, tmp_path / "out", base=tmp_path / "empty") == 2
    assert "empty has no *.safetensors, and this difference" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["bit", "short", "gone", "plan", "none", "other", "out"])
def test_a_difference_that_is_broken(released, tmp_path, how, capsys):
    diff = tmp_path / "diff"
    shutil.copytree(released / "diff", diff)
    shard, plan = diff / "weight_diff/model.safetensors", diff / "weight_diff/weight_diff.json"
    content = shard.read_bytes()
    if how == "bit":
        shard.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "short":
        shard.write_bytes(content[:-100])
    elif how == "gone":
        shard.unlink()
    elif how == "plan":
        plan.write_text(plan.read_text()[:-40])
    elif how == "other":  # a header of other tensors than the shard holds
        plan.write_text(plan.read_text().replace("model.norm", "model.form"))
    elif how == "out":  # a name that leads out of the folder
        shard.rename(diff / "model.safetensors")
        (tmp_path / "model.safetensors").write_text("mine")
        plan.write_text(plan.read_text().replace('"model.safe', '"../model.safe'))
    else:
        plan.unlink()
    assert recover(released, tmp_path / "out", diff=diff) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("download the difference again" in error) == (how in ("bit", "short", "gone", "other"))
    assert not (tmp_path / "out").exists()
    assert how != "out" or (tmp_path / "model.safetensors").read_text() == "mine"


def test_weights_that_lie_beside_the_difference_do_not_replace_the_model(released, tmp_path):
    diff = tmp_path / "diff"
    shutil.copytree(released / "diff", diff)
    shutil.copy(released / "base/model.safetensors", diff)
    (diff / ".git").mkdir()  # it was cloned
    assert recover(released, tmp_path / "out", diff=diff) == 0
    assert weights_sha256(str(tmp_path / "out")) == weights_sha256(str(released / "model"))
    assert not (tmp_path / "out/.git").exists()


def test_it_may_be_written_here(released, tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    assert recover(released, ".") == 0
    assert weights_sha256(str(here)) == weights_sha256(str(released / "model"))


def test_what_is_in_the_way_stays(released, tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("words")
    assert recover(released, tmp_path) == 2
    assert "holds something else" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert recover(released, tmp_path / "o", base="org/nowhere") == 2
    assert "no model org/nowhere" in capsys.readouterr().err


def test_killed_it_leaves_no_model_and_starts_over(released, tmp_path):
    out = tmp_path / "out"
    words = ["recover", "--diff", str(released / "diff"), "--base", str(released / "base"),
             "--output_dir", str(out)]  # fmt: skip
    code = (
        "import time\n"
        "from code_alpaca.release import recover\n"
        "from code_alpaca.cli import main\n"
        "recover.add_base = lambda *a, add=recover.add_base: (add(*a), time.sleep(60))\n"
        f"main({words!r})"
    )
    process = subprocess.Popen([sys.executable, "-c", code], env=dict(os.environ))
    part = tmp_path / ".out.part/model.safetensors"
    until = time.monotonic() + 60
    while not part.exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert part.exists() and not out.exists()
    assert main(words) == 0
    assert weights_sha256(str(out)) == weights_sha256(str(released / "model"))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_through_the_hub(released, hub, tmp_path):
    """The difference and its base are pulled by their names."""
    session = Session(hub, tmp_path / "home")
    try:
        words = ["release", "--results", str(released / "eval"), "--license", "other"]
        base = tmp_path / "base"
        shutil.copytree(released / "model", base)
        shutil.copy(released / "base/model.safetensors", base)
        rewrite(base / "run.json", base_model="from scratch")
        results = tmp_path / "eval"
        shutil.copytree(released / "eval", results)
        model = json.loads((results / "results.json").read_text())["model"]
        rewrite(results / "results.json", model={**model, "sha256": weights_sha256(str(base))})
        told = session.run(
            "release", "--results", str(results), "--model_dir", str(base), "--output_dir",
            str(tmp_path / "r"), "--hub_model_id", "alice/base",
        )  # fmt: skip
        assert told[0] == 0, told[2]
        told = session.run(
            *words, "--model_dir", str(released / "model"), "--output_dir", str(tmp_path / "d"),
            "--hub_model_id", "alice/diff", "--base_model", "alice/base", "--base_license", "other",
            "--weight_diff",
        )  # fmt: skip
        assert told[0] == 0, told[2]
        hub.edit("alice/base", {"pytorch_model.bin": b"again"}, author="alice", kind="models")
        out = tmp_path / "model"
        told = session.run("recover", "--diff", "alice/diff", "--diff_revision", "v0.1.0",
                           "--output_dir", str(out))  # fmt: skip
        assert told[0] == 0, told[2]
    finally:
        session.kill()
    assert weights_sha256(str(out)) == weights_sha256(str(released / "model"))
    downloaded = {path.name for path in (tmp_path / "home").rglob("*") if not path.is_dir()}
    assert "model.safetensors" in downloaded and "pytorch_model.bin" not in downloaded
    tree = hub.repository("alice/diff", "models")
    names = tree.commits[tree.tags["v0.1.0"]].tree
    assert "weight_diff/model.safetensors" in names and "model.safetensors" not in names


def test_memory_is_bounded_by_the_largest_tensor(tmp_path):
    """Of 400 MB in 40 tensors only a few are held at a time."""
    tensors = {f"w{n}": torch.rand(2_500_000) for n in range(40)}
    tuned = save(tmp_path / "tuned", tensors)
    base = save(tmp_path / "base", {name: tensor + 1 for name, tensor in tensors.items()})
    code = (
        "import resource, sys\n"
        "import torch, numpy, safetensors\n"
        "from pathlib import Path\n"
        "from code_alpaca.release.weight_diff import write_diff\n"
        "def anonymous():\n"
        "    told = Path('/proc/self/status').read_text()\n"
        "    return int(told.split('RssAnon:')[1].split()[0])\n"
        "start, seen = anonymous(), []\n"
        "import code_alpaca.release.weight_diff as module\n"
        "def pieces(*a, of=module._pieces):\n"
        "    for piece in of(*a):\n"
        "        seen.append(anonymous())\n"
        "        yield piece\n"
        "module._pieces = pieces\n"
        f"write_diff(Path({str(tuned)!r}), {str(base)!r}, Path({str(tmp_path)!r}), base_name='b',\n"
        "           base_revision=None, say=lambda text: None)\n"
        "print((max(seen) - start) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100
    assert Path(tmp_path, "weight_diff/model.safetensors").stat().st_size > 400_000_000
