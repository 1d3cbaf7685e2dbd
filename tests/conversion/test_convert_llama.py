"""A converted LLaMA computes what Meta's code computes, and reads text as SentencePiece does.

Checkpoints are fabricated: random weights cut as Meta cuts them, and a tokenizer trained here.
The reference model below is written from Meta's description, with complex numbers for the
rotary embedding, and shares nothing with the converter.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest
import sentencepiece
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

import code_alpaca
from code_alpaca.cli import main
from code_alpaca.conversion import llama_tokenizer
from code_alpaca.conversion.command import (
    ConvertLlamaConfig,
    Params,
    convert_llama,
    halves,
)
from code_alpaca.core.errors import InputError

VOCAB = 600
LLAMA_1 = {"dim": 64, "n_layers": 3, "n_heads": 4, "multiple_of": 16, "norm_eps": 1e-6}
LLAMA_2 = {**LLAMA_1, "norm_eps": 1e-5, "vocab_size": -1}
GROUPED = {**LLAMA_2, "n_heads": 8, "n_kv_heads": 2, "multiple_of": 32, "ffn_dim_multiplier": 1.3}
SOURCES = Path(code_alpaca.__file__).parent
CORPUS = [
    line
    for path in (*sorted(SOURCES.glob("core/*.py")), SOURCES / "data" / "seed_tasks.jsonl")
    for line in path.read_text(encoding="utf-8").splitlines()
]
# How Meta's model parallelism cuts: rows of the layers that fan out, columns of those that join.
ROWS = ("wq", "wk", "wv", "w1", "w3", "output")
COLUMNS = ("wo", "w2", "tok_embeddings")


@pytest.fixture(scope="session")
def tokenizer_model():
    """The bytes of a SentencePiece BPE with the settings of LLaMA's."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS),
        model_writer=model,
        model_type="bpe",
        vocab_size=VOCAB,
        byte_fallback=True,
        split_digits=True,
        allow_whitespace_only_pieces=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        character_coverage=0.999,
        minloglevel=2,
    )
    return model.getvalue()


@pytest.fixture
def fabricate(tmp_path, tokenizer_model):
    """Write a checkpoint as Meta lays it out; returns its folder and the whole weights."""

    def write(params, shards=1, generation=2, change=lambda parts: None):
        folder = tmp_path / "meta" / "model"
        folder.mkdir(parents=True)
        weights = random_weights(params)
        parts = [
            {name: cut(name, weight, shards, k) for name, weight in weights.items()}
            for k in range(shards)
        ]
        freqs = torch.ones(params["dim"] // params["n_heads"] // 2)
        for part in parts:
            if generation == 2:
                part["rope.freqs"] = freqs
            for layer in range(params["n_layers"] if generation == 1 else 0):
                part[f"layers.{layer}.attention.inner_attention.rope.freqs"] = freqs
        change(parts)
        for k, part in enumerate(parts):
            torch.save(part, folder / f"consolidated.{k:02}.pth")
        (folder / "params.json").write_text(json.dumps(params))
        (folder.parent / "tokenizer.model").write_bytes(tokenizer_model)
        return folder, weights

    return write


def random_weights(params):
    generator = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=generator) / shape[-1] ** 0.5

    dim, head = params["dim"], params["dim"] // params["n_heads"]
    kv = head * params.get("n_kv_heads", params["n_heads"])
    ffn = ffn_dim(params)
    weights = {"tok_embeddings.weight": normal(VOCAB, dim), "output.weight": normal(VOCAB, dim)}
    weights["norm.weight"] = 1 + normal(dim)
    for layer in range(params["n_layers"]):
        shapes = {
            "attention.wq": (dim, dim), "attention.wk": (kv, dim), "attention.wv": (kv, dim),
            "attention.wo": (dim, dim), "feed_forward.w1": (ffn, dim),
            "feed_forward.w2": (dim, ffn), "feed_forward.w3": (ffn, dim),
        }  # fmt: skip
        for name, shape in shapes.items():
            weights[f"layers.{layer}.{name}.weight"] = 2 * normal(*shape)
        for name in ("attention_norm", "ffn_norm"):
            weights[f"layers.{layer}.{name}.weight"] = 1 + normal(dim)
    return weights


def ffn_dim(params):
    width = int(8 * params["dim"] / 3)
    width = int(params.get("ffn_dim_multiplier", 1) * width)
    return params["multiple_of"] * ((width + params["multiple_of"] - 1) // params["multiple_of"])


def cut(name, weight, shards, k):
    kind = name.split(".")[-2]
    if kind in ROWS + COLUMNS:
        weight = weight.chunk(shards, 0 if kind in ROWS else 1)[k]
    return weight.clone()


def reference_logits(params, weights, tokens):
    """Meta's model on token ids (batch, length): logits (batch, length, vocabulary)."""
    w = {name.removesuffix(".weight"): weight for name, weight in weights.items()}
    heads, head = params["n_heads"], params["dim"] // params["n_heads"]
    kv_heads = params.get("n_kv_heads", heads)
    batch, length = tokens.shape
    angles = torch.outer(
        torch.arange(length).float(), 10_000.0 ** (-torch.arange(0, head, 2).float() / head)
    )
    turn = torch.polar(torch.ones_like(angles), angles)[None, :, None, :]

    def norm(x, name):
        return x * (x.pow(2).mean(-1, keepdim=True) + params["norm_eps"]).rsqrt() * w[name]

    def rotate(x):
        pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * turn).flatten(3)

    h = w["tok_embeddings"][tokens]
    future = torch.full((length, length), float("-inf")).triu(1)
    for layer in range(params["n_layers"]):
        at = f"layers.{layer}."
        x = norm(h, at + "attention_norm")
        q = rotate((x @ w[at + "attention.wq"].T).view(batch, length, heads, head))
        k = rotate((x @ w[at + "attention.wk"].T).view(batch, length, kv_heads, head))
        v = (x @ w[at + "attention.wv"].T).view(batch, length, kv_heads, head)
        k, v = (y.repeat_interleave(heads // kv_heads, dim=2) for y in (k, v))
        scores = torch.einsum("bqhd,bkhd->bhqk", q, k) / head**0.5 + future
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), v).flatten(2)
        h = h + mixed @ w[at + "attention.wo"].T
        x = norm(h, at + "ffn_norm")
        gate = functional.silu(x @ w[at + "feed_forward.w1"].T)
        h = h + (gate * (x @ w[at + "feed_forward.w3"].T)) @ w[at + "feed_forward.w2"].T
    return norm(h, "norm") @ w["output"].T


@pytest.mark.parametrize(
    ("params", "shards", "generation", "positions"),
    [
        (LLAMA_1, 1, 1, 2048),
        (LLAMA_1, 2, 1, 2048),
        (LLAMA_2, 2, 2, 4096),
        (GROUPED, 1, 2, 4096),
        (GROUPED, 2, 2, 4096),
    ],
)
def test_the_converted_model_computes_the_same(
    fabricate, tmp_path, params, shards, generation, positions
):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, weights = fabricate(params, shards, generation)
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
        got, wanted = model(tokens).logits, reference_logits(params, weights, tokens)
    assert wanted.abs().max() > 1  # or the comparison would say nothing
    torch.testing.assert_close(got, wanted, atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(out)("").input_ids == [1]


def test_one_file_needs_no_index_and_half_precision_is_the_default(fabricate, tmp_path):
    from safetensors.torch import load_file
    from transformers import AutoModelForCausalLM

    folder, weights = fabricate(LLAMA_2, 2)
    (tmp_path / "out").mkdir()  # an empty folder is as good as none
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
def test_halves_pairs_each_row_with_the_one_half_a_head_away(heads, half, columns):
    rows = torch.arange(heads * 2 * half)[:, None].expand(-1, columns)
    moved = halves(rows, heads)[:, 0].view(heads, 2, half)
    assert torch.equal(moved[:, 0] + 1, moved[:, 1])  # neighbours before, half a head apart now
    assert torch.equal(moved[:, 0].flatten(), torch.arange(0, heads * 2 * half, 2))


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
def test_feed_forward_widths_of_the_published_models(published, width):
    assert Params(**published).ffn_dim == width


Pair = namedtuple("Pair", "ours theirs")


@pytest.fixture(scope="session")
def pair(tmp_path_factory, tokenizer_model):
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "tokenizer.model").write_bytes(tokenizer_model)
    theirs = llama_tokenizer.read_model(folder / "tokenizer.model")
    llama_tokenizer.build(theirs, 2048).save_pretrained(folder)
    return Pair(AutoTokenizer.from_pretrained(folder), theirs)


@given(
    st.one_of(
        st.text(),
        st.text(" \t\nae(1.▁é日"),
        st.lists(st.sampled_from([*CORPUS[:300], " ", "\n", "\n    ", "日本"])).map("".join),
    )
)
@settings(max_examples=300, deadline=None)
def test_any_text_has_the_ids_that_sentencepiece_gives(pair, text):
    llama_tokenizer.check(pair.ours, pair.theirs, [text])


def test_lines_of_code_have_the_ids_that_sentencepiece_gives(pair):
    llama_tokenizer.check(pair.ours, pair.theirs, [*CORPUS, *llama_tokenizer.PROBES])
    assert len(pair.ours.tokenize("\n".join(CORPUS))) < 0.6 * len("\n".join(CORPUS))
    assert pair.ours("a", "b").input_ids == [*pair.ours("a").input_ids, *pair.ours("b").input_ids]


class Shuffled:
    """A SentencePiece model with its pieces in another order: only scores tell what merges first.

    LLaMA's own file is such a one: two spaces have the first id after the bytes and the last score.
    """

    def __init__(self, model):
        self.model = model
        self.new = [*range(259), *reversed(range(259, VOCAB))]

    def __getattr__(self, name):
        return getattr(self.model, name)

    def id_to_piece(self, i):
        return self.model.id_to_piece(self.new[i])

    def get_score(self, i):
        return self.model.get_score(self.new[i])

    def encode(self, text):
        return [self.new[i] for i in self.model.encode(text)]

    def decode(self, ids):
        return self.model.decode([self.new[i] for i in ids])


def test_scores_decide_what_merges_not_ids(pair):
    shuffled = Shuffled(pair.theirs)
    llama_tokenizer.check(llama_tokenizer.build(shuffled, 2048), shuffled, CORPUS)


@pytest.mark.parametrize("changed", [{"normalization_rule_name": "nmt_nfkc"}, {"unigram": True}])
def test_a_tokenizer_that_cannot_be_equalled_is_refused(fabricate, tmp_path, changed, capsys):
    folder, _ = fabricate(LLAMA_2)
    model = io.BytesIO()
    how = {"model_type": "unigram"} if "unigram" in changed else {"model_type": "bpe", **changed}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(CORPUS), model_writer=model, vocab_size=VOCAB, byte_fallback=True,
        minloglevel=2, **how,
    )  # fmt: skip
    (folder / "tokenizer.model").write_bytes(model.getvalue())
    assert refused(folder, tmp_path / "out", capsys).count("SentencePiece as") == 1


def refused(folder, out, capsys, *more):
    """The one line of a command that exits with 2 and writes nothing."""
    before = sorted(out.parent.iterdir())
    words = ["convert-llama", "--input_dir", str(folder), "--output_dir", str(out), *more]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sorted(out.parent.iterdir()) == before
    return error


def no_params(folder):
    (folder / "params.json").unlink()


def broken_params(folder):
    (folder / "params.json").write_text('{"dim": 64,')


def newer_params(folder):
    (folder / "params.json").write_text(json.dumps({**LLAMA_2, "use_scaled_rope": True}))


def odd_params(folder):
    (folder / "params.json").write_text(json.dumps({**LLAMA_2, "n_heads": 7}))


def smaller_params(folder):
    (folder / "params.json").write_text(json.dumps({**LLAMA_2, "n_layers": 2}))


def bigger_params(folder):
    (folder / "params.json").write_text(json.dumps({**LLAMA_2, "n_layers": 4}))


def wider_params(folder):
    (folder / "params.json").write_text(json.dumps({**LLAMA_2, "multiple_of": 256}))


def no_shards(folder):
    for shard in folder.glob("*.pth"):
        shard.unlink()


def a_gap(folder):
    (folder / "consolidated.01.pth").rename(folder / "consolidated.02.pth")


def three_shards(folder):
    shutil.copy(folder / "consolidated.01.pth", folder / "consolidated.02.pth")


def last_shard_lost(folder):
    (folder / "consolidated.01.pth").unlink()


def truncated(folder):
    shard = folder / "consolidated.01.pth"
    os.truncate(shard, shard.stat().st_size // 2)


def emptied(folder):
    os.truncate(folder / "consolidated.01.pth", 0)


class Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def pickled_code(folder):
    torch.save({"norm.weight": Trap()}, folder / "consolidated.01.pth")


def old_pickle(folder):
    (folder / "consolidated.01.pth").write_bytes(pickle.dumps(Trap()))


def no_table(folder):
    torch.save([torch.ones(2)], folder / "consolidated.01.pth")


def no_tokenizer(folder):
    (folder.parent / "tokenizer.model").unlink()


def other_tokenizer(folder):
    (folder.parent / "tokenizer.model").write_text("version https://git-lfs.github.com/spec/v1")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (shutil.rmtree, "no such folder"),
        (no_params, "params.json: No such file"),
        (broken_params, "params.json is not of LLaMA 1 or 2: Invalid JSON"),
        (newer_params, "use_scaled_rope"),
        (odd_params, "does not add up"),
        (smaller_params, "holds layers.2.attention.wk.weight, "),
        (bigger_params, "lacks layers.3.attention.wq.weight, "),
        (wider_params, "layers.0.feed_forward.w1.weight (float32, [176, 64] over all shards"),
        (no_shards, "no consolidated.00.pth"),
        (a_gap, "lacks consolidated.01.pth"),
        (three_shards, "has 3 shards, which do not divide the 4 heads"),
        (last_shard_lost, "are all shards there"),
        (truncated, "consolidated.01.pth (PytorchStreamReader failed"),
        (emptied, "cannot read"),
        (pickled_code, "holds more than tensors and was not opened"),
        (old_pickle, "cannot read"),
        (no_table, "no table of named tensors"),
        (no_tokenizer, "give --tokenizer FILE"),
        (other_tokenizer, "as a SentencePiece model"),
    ],
)
def test_bad_input_is_one_kind_line(fabricate, tmp_path, monkeypatch, capsys, damage, said):
    monkeypatch.chdir(tmp_path)
    folder, _ = fabricate(LLAMA_2, 2)
    damage(folder)
    assert said in refused(folder, tmp_path / "out", capsys)


def lose_rope(parts):
    for part in parts:
        del part["rope.freqs"]


def quantize(parts):
    parts[0]["norm.weight"] = parts[0]["norm.weight"].to(torch.int8)


def overflow(parts):
    parts[0]["layers.1.ffn_norm.weight"][3] = 1e6


def longer_vocabulary(parts):
    for part in parts:
        part["tok_embeddings.weight"] = torch.cat([part["tok_embeddings.weight"]] * 2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lose_rope, "give --max_position_embeddings 2048"),
        (quantize, "misshapen norm.weight (int8, "),
        (overflow, "layers.1.ffn_norm.weight holds values that are not finite as torch.float16"),
        (longer_vocabulary, "600 pieces and the model 1200 embeddings"),
    ],
)
def test_bad_weights_are_named(fabricate, tmp_path, capsys, change, said):
    folder, _ = fabricate(LLAMA_2, change=change)
    assert said in refused(folder, tmp_path / "out", capsys)


def test_bad_places_and_sizes(fabricate, tmp_path, monkeypatch, capsys):
    folder, _ = fabricate(LLAMA_2)
    out = tmp_path / "out"
    assert "is not empty" in refused(folder, tmp_path, capsys)
    assert "max_shard_size" in refused(folder, out, capsys, "--max_shard_size", "huge")
    assert "No such file" in refused(folder, out, capsys, "--tokenizer", "nowhere")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 5, 5))
    assert "free some space" in refused(folder, out, capsys)
    out.write_text("")
    assert "is a file" in refused(folder, out, capsys)


def test_a_dry_run_tells_and_writes_nothing(fabricate, tmp_path, capsys):
    folder, weights = fabricate(LLAMA_2, 2)
    convert_llama(ConvertLlamaConfig(input_dir=folder, output_dir=tmp_path / "out", dry_run=True))
    shown = capsys.readouterr().out
    assert f"{sum(w.numel() for w in weights.values()):,} parameters in 3 layers" in shown
    assert "2 shard(s), 4096 positions" in shown and "600 pieces" in shown
    assert "would write" in shown and "MB as float16 in 1 file(s)" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["meta"]


def test_an_interrupted_run_leaves_nothing(fabricate, tmp_path, monkeypatch):
    from safetensors import torch as safetensors_torch

    save, saved = safetensors_torch.save_file, []

    def interrupted(weights, path, **how):
        if saved:
            raise KeyboardInterrupt
        saved.append(path)
        save(weights, path, **how)

    folder, _ = fabricate(LLAMA_2)
    monkeypatch.setattr(safetensors_torch, "save_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_llama(
            ConvertLlamaConfig(
                input_dir=folder, output_dir=tmp_path / "out", max_shard_size="100KB"
            )
        )
    assert saved and [path.name for path in tmp_path.iterdir()] == ["meta"]


def test_a_killed_run_leaves_no_model_and_the_next_one_no_trace_of_it(fabricate, tmp_path):
    folder, _ = fabricate(LLAMA_2)
    out = tmp_path / "out"
    words = ["convert-llama", "--input_dir", str(folder), "--output_dir", str(out)]
    words += ["--max_shard_size", "100KB"]
    code = (
        "import os, signal, sys, safetensors.torch as s\n"
        "from code_alpaca.cli import main\n"
        "save = s.save_file\n"
        "def kill(weights, path, **how):\n"
        "    save(weights, path, **how)\n"
        "    if '00003' in str(path): os.kill(os.getpid(), signal.SIGKILL)\n"
        "s.save_file = kill\n"
        "main(sys.argv[1:])\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not out.exists()
    assert main(words) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["meta", "out"]


def test_check_refuses_other_special_ids(pair):
    other = llama_tokenizer.build(pair.theirs, 2048)
    other.eos_token = other.bos_token
    with pytest.raises(InputError, match="begin and end ids 1 and 1, SentencePiece 1 and 2"):
        llama_tokenizer.check(other, pair.theirs)
