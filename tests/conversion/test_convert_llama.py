"""A converted LLaMA computes what Meta's model computes, and bad checkpoints are refused."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import namedtuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.meta_llama import (
    GROUPED,
    LLAMA_1,
    LLAMA_2,
    VOCAB,
    reference_logits,
    train_sentencepiece,
)

from code_alpaca.cli import main
from code_alpaca.conversion.command import ConvertLlamaConfig, convert_llama
from code_alpaca.conversion.llama_checkpoint import LlamaParams, permute_rotary_rows


@pytest.mark.parametrize(
    ("params", "num_shards", "generation", "positions"),
    [
        (LLAMA_1, 1, 1, 2048),
        (LLAMA_1, 2, 1, 2048),
        (LLAMA_2, 2, 2, 4096),
        (GROUPED, 1, 2, 4096),
        (GROUPED, 2, 2, 4096),
    ],
)
def test_the_converted_model_computes_the_logits_of_metas_model(
    checkpoint, tmp_path, params, num_shards, generation, positions
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, weights = checkpoint(params, num_shards, generation)
    out = tmp_path / "new" / "converted"
    convert_llama(
        ConvertLlamaConfig(
            input_dir=folder, output_dir=out, dtype="float32", max_shard_size="200KB"
        )
    )

    index = json.loads((out / "model.safetensors.index.json").read_text())
    files = sorted(out.glob("*.safetensors"))
    assert {file.name for file in files} == set(index["weight_map"].values()) and len(files) > 2
    assert index["metadata"]["total_size"] == sum(w.numel() * 4 for w in weights.values())

    model = AutoModelForCausalLM.from_pretrained(out)
    assert (model.dtype, model.config.max_position_embeddings) == (torch.float32, positions)
    assert (model.generation_config.bos_token_id, model.generation_config.eos_token_id) == (1, 2)
    tokens = torch.randint(0, VOCAB, (2, 50), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        logits, expected = model(tokens).logits, reference_logits(params, weights, tokens)
    assert expected.abs().max() > 1  # or the comparison would be trivial
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(out)("").input_ids == [1]


def test_one_file_needs_no_index_and_float16_is_the_default(checkpoint, tmp_path):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    folder, weights = checkpoint(LLAMA_2, 2)
    (tmp_path / "out").mkdir()  # an empty folder is accepted
    convert_llama(ConvertLlamaConfig(input_dir=folder, output_dir=tmp_path / "out"))
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
    }  # fmt: skip
    stored = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(stored["lm_head.weight"], weights["output.weight"].half())
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.float16


@given(st.integers(1, 8), st.integers(1, 8), st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_the_permutation_pairs_rows_half_a_head_apart(heads, half, columns):
    rows = torch.arange(heads * 2 * half)[:, None].expand(-1, columns)
    permuted = permute_rotary_rows(rows, heads)[:, 0].view(heads, 2, half)
    assert torch.equal(permuted[:, 0] + 1, permuted[:, 1])  # adjacent before
    assert torch.equal(permuted[:, 0].flatten(), torch.arange(0, heads * 2 * half, 2))


@pytest.mark.parametrize(
    ("published", "width"),
    [
        ({"dim": 4096, "n_layers": 32, "n_heads": 32, "multiple_of": 256}, 11008),
        ({"dim": 5120, "n_layers": 40, "n_heads": 40, "multiple_of": 256}, 13824),
        ({"dim": 6656, "n_layers": 60, "n_heads": 52, "multiple_of": 256}, 17920),
        (
            {
                "dim": 8192, "n_layers": 80, "n_heads": 64, "n_kv_heads": 8,
                "multiple_of": 4096, "ffn_dim_multiplier": 1.3,
            },
            28672,
        ),
    ],
)  # fmt: skip
def test_the_feed_forward_width_of_published_models(published, width):
    assert LlamaParams(**published).ffn_dim == width


@pytest.mark.parametrize(
    "options",
    [{"model_type": "bpe", "normalization_rule_name": "nmt_nfkc"}, {"model_type": "unigram"}],
)
def test_a_tokenizer_that_cannot_be_reproduced_is_refused(checkpoint, tmp_path, options, capsys):
    folder, _ = checkpoint(LLAMA_2)
    (folder / "tokenizer.model").write_bytes(train_sentencepiece(**options))
    assert refused(folder, tmp_path / "out", capsys).count("SentencePiece as") == 1


def refused(folder, out, capsys, *more):
    """Return the error of a command that exits with 2 and writes nothing."""
    before = sorted(out.parent.glob("[!.]*"))
    words = ["convert-llama", "--input_dir", str(folder), "--output_dir", str(out), *more]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sorted(out.parent.glob("[!.]*")) == before
    assert not (out.parent / f".{out.name}.part").exists()
    return error


class Trap:
    """Create a folder on being unpickled."""

    def __reduce__(self):
        return (os.mkdir, ("sprung",))


SECOND_SHARD, THIRD_SHARD = "consolidated.01.pth", "consolidated.02.pth"


def edit_params(**changes):
    return write("params.json", json.dumps({**LLAMA_2, **changes}).encode())


def write(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def delete(*names):
    return lambda folder: [(folder / name).unlink() for name in names]


def save(value):
    return lambda folder: torch.save(value, folder / SECOND_SHARD)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "is not a folder; give one with Meta's LLaMA weights"),
        (delete("params.json"), "params.json: No such file"),
        (write("params.json", b'{"dim": 64,'), "params.json is not of LLaMA 1 or 2: Invalid JSON"),
        (edit_params(use_scaled_rope=True), "use_scaled_rope"),
        (edit_params(n_heads=7), "is inconsistent"),
        (edit_params(n_layers=2), "contains layers.2.attention.wk.weight, "),
        (edit_params(n_layers=4), "is missing layers.3.attention.wq.weight, "),
        (edit_params(multiple_of=256), "layers.0.feed_forward.w1.weight (float32, [176, 64] over"),
        (delete("consolidated.00.pth", SECOND_SHARD), "no consolidated.00.pth"),
        (lambda folder: (folder / SECOND_SHARD).rename(folder / THIRD_SHARD),
         "is missing consolidated.01.pth"),
        (lambda folder: shutil.copy(folder / SECOND_SHARD, folder / THIRD_SHARD),
         "has 3 shards, which do not divide the 4 heads"),
        (delete(SECOND_SHARD), "check that all shards are present"),
        (lambda folder: os.truncate(folder / SECOND_SHARD, 100_000),
         "consolidated.01.pth (PytorchStreamReader failed"),
        (write(SECOND_SHARD, b""), "cannot read"),
        (save({"norm.weight": Trap()}), "contains more than tensors and was not opened"),
        (write(SECOND_SHARD, pickle.dumps(Trap())), "cannot read"),
        (save([torch.ones(2)]), "no table of named tensors"),
        (delete("../tokenizer.model"), "give --tokenizer FILE"),
        (write("../tokenizer.model", b"version https://git-lfs.github.com/spec/v1"),
         "as a SentencePiece model"),
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused(
    checkpoint, tmp_path, monkeypatch, capsys, damage, message
):
    monkeypatch.chdir(tmp_path)
    folder, _ = checkpoint(LLAMA_2, 2)
    damage(folder)
    assert message in refused(folder, tmp_path / "out", capsys)


def double_vocabulary(shards):
    for shard in shards:
        shard["tok_embeddings.weight"] = torch.cat([shard["tok_embeddings.weight"]] * 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda shards: shards[0].pop("rope.freqs"), "give --max_position_embeddings 2048"),
        (lambda shards: shards[0].update({"norm.weight": torch.ones(64, dtype=torch.int8)}),
         "wrong shapes or dtypes: norm.weight (int8, "),
        (lambda shards: shards[0]["layers.1.ffn_norm.weight"][3].fill_(1e6),
         "layers.1.ffn_norm.weight contains NaN or infinite values as torch.float16"),
        (double_vocabulary, "600 pieces and the model 1200 embeddings"),
    ],
)  # fmt: skip
def test_bad_weights_are_named_in_the_error(checkpoint, tmp_path, capsys, change, message):
    folder, _ = checkpoint(LLAMA_2, change=change)
    assert message in refused(folder, tmp_path / "out", capsys)


def test_bad_paths_and_sizes_are_refused(checkpoint, tmp_path, monkeypatch, capsys):
    folder, _ = checkpoint(LLAMA_2)
    out = tmp_path / "out"
    assert "is not empty" in refused(folder, tmp_path, capsys)
    assert "max_shard_size" in refused(folder, out, capsys, "--max_shard_size", "huge")
    assert "No such file" in refused(folder, out, capsys, "--tokenizer", "nowhere")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5, 5))
    assert "free some space" in refused(folder, out, capsys)
    out.write_text("")
    assert "is a file" in refused(folder, out, capsys)


def test_a_dry_run_reports_and_writes_nothing(checkpoint, tmp_path, capsys):
    folder, weights = checkpoint(LLAMA_2, 2)
    convert_llama(ConvertLlamaConfig(input_dir=folder, output_dir=tmp_path / "out", dry_run=True))
    shown = capsys.readouterr().out
    assert f"{sum(w.numel() for w in weights.values()):,} parameters in 3 layers" in shown
    assert "2 shards, 4096 positions" in shown and "600 pieces" in shown
    assert "would write" in shown and "MB as float16 in 1 file," in shown
    assert [path.name for path in tmp_path.iterdir()] == ["meta"]


def test_an_interrupted_run_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    from safetensors import torch as safetensors_torch

    save_file, saved = safetensors_torch.save_file, []

    def interrupt_at_second_file(weights, path, **options):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save_file(weights, path, **options)

    folder, _ = checkpoint(LLAMA_2)
    monkeypatch.setattr(safetensors_torch, "save_file", interrupt_at_second_file)
    config = ConvertLlamaConfig(
        input_dir=folder, output_dir=tmp_path / "out", max_shard_size="100KB"
    )
    with pytest.raises(KeyboardInterrupt):
        convert_llama(config)
    assert saved and sorted(path.name for path in tmp_path.iterdir()) == [".out.lock", "meta"]


@pytest.mark.slow
def test_a_killed_run_leaves_no_model_and_the_next_run_cleans_up(checkpoint, tmp_path):
    folder, _ = checkpoint({**LLAMA_2, "n_layers": 30})  # more files than the kill lets it write
    out = tmp_path / "out"
    words = ["convert-llama", "--input_dir", str(folder), "--output_dir", str(out)]
    words += ["--max_shard_size", "100KB"]
    process = subprocess.Popen(
        [sys.executable, "-m", "code_alpaca.cli", *words], stdout=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if " file 3/" in line:
            process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["meta", "out"]
