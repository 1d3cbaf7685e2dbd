"""Measure the training throughput of SFT, compared with the 2023 script and `trl sft`.

Every contestant trains the same randomly initialized LLaMA on the same rows, each in its own
process, in turns: `transformers.Trainer` as Stanford Alpaca used it in 2023 (random batches padded
to the longest row), `trl sft` with its defaults (which include activation checkpointing), and
code-alpaca with each batching strategy and the labels of 2023. Throughput excludes padding tokens,
and only `train()` is timed; on the CPU, times are those of one thread. Every round has a new
initialization and data order; the loss is that of held-out rows. Sizes 1b and 7b need a GPU.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from common import Bench, NotMeasuredError, Values, run
from sft_contestant import ALPACA_2023, SIZES, TRL, Size, tokenize
from sft_rows import read_rows, train_tokenizer

from code_alpaca.core.prompts import format_prompt
from code_alpaca.core.quiet import silence_libraries

NUM_HELD_OUT = 200


def measure(bench: Bench) -> None:
    import torch

    silence_libraries()
    bench.add_versions("transformers", "trl", "torch")
    for name, size in SIZES.items():
        contestants = (ALPACA_2023, TRL, *size.batching_strategies())
        if size.on_cpu or torch.cuda.is_available():
            with tempfile.TemporaryDirectory() as folder:
                prepare(bench, Path(folder), name)
                bench.compare(
                    {c: rounds(c, Path(folder), name) for c in contestants},
                    repeats=bench.choose(3, 1),
                    model=name,
                )
        else:
            for contestant in contestants:
                bench.rows.append(
                    {"contestant": contestant, "model": name, "not_measured": "there is no GPU"}
                )


def prepare(bench: Bench, folder: Path, name: str) -> None:
    """Write the rows, the tokenizer and the initial models of all rounds."""
    rows = read_rows(bench)
    held_out = rows[: bench.choose(NUM_HELD_OUT, 8)]
    # On the CPU a part of the rows, which takes ten minutes for all contestants.
    count = bench.choose(240 if SIZES[name].on_cpu else None, 16)
    rows = rows[len(held_out) :][:count]
    tokenizer = train_tokenizer(rows)
    prompts = [format_prompt(row["instruction"], row["input"]) for row in rows]
    pairs = [
        {"prompt": prompt, "completion": row["output"]}
        for prompt, row in zip(prompts, rows, strict=True)
    ]
    (folder / "trl").mkdir()
    (folder / "trl/train.json").write_text(json.dumps(pairs), "utf-8")
    (folder / "held_out.json").write_text(json.dumps(held_out), "utf-8")
    (folder / "rows.json").write_text(json.dumps(rows), "utf-8")
    tokenizer.save_pretrained(folder / "model")
    _, counts = tokenize(folder, "rows")
    bench.facts[name] = {
        "layers": SIZES[name].shape[2], "hidden_size": SIZES[name].shape[0],
        "vocabulary": len(tokenizer), "rows": counts.rows, "held_out_rows": len(held_out),
        "tokens_per_row": round(counts.tokens / counts.rows), "epochs": SIZES[name].epochs,
        "rows_per_step": 8 * SIZES[name].accumulation_steps,
    }  # fmt: skip


def rounds(contestant: str, folder: Path, name: str) -> Callable[[], Values]:
    """Return a function that trains with the next seed at each call."""
    seeds = iter(range(1_000))
    return lambda: train_in_process(contestant, folder, name, next(seeds))


def train_in_process(contestant: str, folder: Path, name: str, seed: int) -> Values:
    initialized = folder / "seed.txt"
    if not initialized.exists() or initialized.read_text("utf-8") != str(seed):
        initialize_model(folder, SIZES[name], seed)
        initialized.write_text(str(seed), "utf-8")
    script = Path(__file__).with_name("sft_contestant.py")
    command = [sys.executable, str(script), contestant, str(folder), name, str(seed)]
    # With one thread, no CPU time is spent waiting for other threads.
    more = {"OMP_NUM_THREADS": "1"} if SIZES[name].on_cpu else {}
    more |= {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **more})
    if "OutOfMemoryError" in done.stderr:
        raise NotMeasuredError("out of memory")
    if done.returncode:
        raise RuntimeError(f"{contestant}: {done.stderr[-3000:]}")
    return json.loads((folder / "measured.json").read_text("utf-8"))


def initialize_model(folder: Path, size: Size, seed: int) -> None:
    """Write random weights, the same for every contestant."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    special = {key: getattr(tokenizer, key) for key in ("bos_token_id", "eos_token_id")}
    shape = dict(zip(names, size.shape, strict=True))
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **special, **shape
    )
    set_seed(seed)
    with torch.device("cpu" if size.on_cpu else "cuda"):
        model = LlamaForCausalLM(config)
    model.to(torch.float32 if size.on_cpu else torch.bfloat16).save_pretrained(folder / "model")


if __name__ == "__main__":
    run(measure)
