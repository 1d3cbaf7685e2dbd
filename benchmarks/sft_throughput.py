"""How many real tokens does fine-tuning learn from in a second, and does it learn the same?

    python benchmarks/sft_throughput.py                      # rows of our own making
    python benchmarks/sft_throughput.py code_alpaca.json     # real ones
    ... --tokenizer FOLDER    instead of one with 4,096 pieces, made from the rows
    ... --sizes tiny,1b,7b    the last two need a GPU; without one, seconds are those of one thread

Each side trains the same random LLaMA on the same rows, in a process of its own and in turns:
`transformers.Trainer` as Stanford Alpaca used it in 2023 (random batches padded to the longest
row), `trl sft` as it comes (it computes activations twice), and ours for each way of batching, with
the labels of 2023. Padding counts as no token, and `train()` alone is timed. Every round has
other weights and another order; the loss is that of 200 rows kept apart.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from code_alpaca.core.prompts import format_prompt
from code_alpaca.core.quiet import silence_libraries
from code_alpaca.teacher.offline.tasks import compose_task

APART = 200  # rows
BEFORE, PLAIN = "as in 2023", "trl sft"
TOKENS = {"prompt_style": "alpaca", "max_length": 512, "mask": "alpaca_2023"}
CPU = {"use_cpu": True, "bf16": False, "learning_rate": 1e-3, "optim": "adamw_torch"}
GPU = {"bf16": True, "learning_rate": 2e-5, "optim": "adamw_torch_fused"}


@dataclass(frozen=True, slots=True)
class Size:
    """A LLaMA: width, inner width, layers, heads; and its training, of 8 * `sums` rows a step."""

    shape: tuple[int, int, int, int]
    sums: int
    epochs: int
    how: dict[str, Any]

    @property
    def on_cpu(self) -> bool:
        return self.how is CPU

    def modes(self) -> dict[str, dict[str, Any]]:
        """Our ways to batch; a step of a few rows must be cut up to be sorted or packed within."""
        cut = {"per_device_train_batch_size": 2} if self.sums == 1 else {}
        packed = {"per_device_train_batch_size": 1} if self.sums == 1 else {"max_length": 1024}
        return {
            "ours, random": {},
            "ours, sorted by length": {"train_sampling_strategy": "group_by_length"},
            "ours, sorted in steps": {"train_sampling_strategy": "batch_rebalance", **cut},
            "ours, packed": {"packing": True, "packing_strategy": "bfd", **packed},
        }


SIZES = {
    "tiny": Size((192, 576, 4, 4), 1, 1, CPU),
    "1b": Size((2048, 5504, 24, 16), 16, 6, GPU),
    "7b": Size((4096, 11008, 32, 32), 16, 2, {**GPU, "optim": "adafactor"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="?", help="an Alpaca JSON file")
    parser.add_argument("--tokenizer", metavar="FOLDER")
    parser.add_argument("--sizes", default="tiny,1b,7b")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="the most rows to learn from")
    parser.add_argument("--side", nargs=4, help=argparse.SUPPRESS)  # what run_apart starts
    args = parser.parse_args()
    if args.side:
        return train(*args.side)
    import torch

    silence_libraries()
    for name in args.sizes.split(","):
        if SIZES[name].on_cpu or torch.cuda.is_available():
            with tempfile.TemporaryDirectory() as folder:
                compare(name, Path(folder), args)
        else:
            print(f"{name}: not measured, there is no GPU")


def compare(name: str, folder: Path, args: argparse.Namespace) -> None:
    size = SIZES[name]
    print(f"{name}: {prepare(folder, size, args)}", flush=True)
    sides: dict[str, list[dict[str, Any]]] = {side: [] for side in (BEFORE, PLAIN, *size.modes())}
    for seed in range(args.rounds):
        initialize(folder, size, seed)
        for side, runs in sides.items():
            if len(runs) == seed:  # it had enough memory until now
                runs += run_apart(side, folder, name, seed)
    unit = "tokens/CPU s" if size.on_cpu else "tokens/s"
    print(f"{'':<24}{unit:>12}  speed  padding  MFU  peak GiB  loss of each round")
    for side, runs in sides.items():
        if len(runs) < args.rounds:
            print(f"{side:<24}out of memory")
            continue
        pace, padding, mfu, peak = (
            median(run[key] or 0 for run in runs) for key in ("pace", "padding", "mfu", "peak")
        )
        pairs = zip(runs, sides[BEFORE], strict=False)  # shorter, where memory was too small
        speed = median([new["pace"] / old["pace"] for new, old in pairs] or [0])
        told = [f"{speed:.2f} x" if speed else "-", f"{padding:.0%}", f"{mfu:.0%}" if mfu else "-"]
        losses = " ".join(f"{run['loss']:.3f}" for run in runs)
        print(
            f"{side:<24}{pace:12,.0f} {told[0]:>7} {told[1]:>7} {told[2]:>5} {peak:9.2f}  {losses}"
        )


def prepare(folder: Path, size: Size, args: argparse.Namespace) -> str:
    """Rows and tokenizer on disk, and a line that says what learns from what, and where."""
    import torch
    from transformers import AutoTokenizer

    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    if args.rows:
        rows = json.loads(Path(args.rows).read_text("utf-8"))
    else:
        tasks = [compose_task(random.Random(number)) for number in range(2_000)]
        rows = [{"instruction": t.instruction, "input": t.input, "output": t.output} for t in tasks]
    random.Random(0).shuffle(rows)
    apart, rows = rows[:APART], rows[APART:][: args.limit]
    prompts = [format_prompt(row["instruction"], row["input"]) for row in rows]
    if args.tokenizer:
        tokenizer = AutoTokenizer.from_pretrained(args.tokenizer)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    else:
        texts = (prompt + row["output"] for prompt, row in zip(prompts, rows, strict=True))
        _, tokenizer = build_scratch_model(
            texts, ScratchShape(vocab_size=4_096, hidden_size=64, num_layers=1, num_heads=1)
        )
    tokenizer.save_pretrained(folder / "model")
    (folder / "apart.json").write_text(json.dumps(apart), "utf-8")
    (folder / "rows.json").write_text(json.dumps(rows), "utf-8")
    plain = [{"prompt": p, "completion": r["output"]} for p, r in zip(prompts, rows, strict=True)]
    (folder / "plain").mkdir()
    (folder / "plain/train.json").write_text(json.dumps(plain), "utf-8")
    _, counts = tokens_of(folder, "rows")
    return (
        f"{size.shape[2]} layers of {size.shape[0]}, vocabulary {len(tokenizer):,}; "
        f"{size.epochs} x {counts.rows:,} rows of {counts.tokens / counts.rows:.0f} tokens, "
        f"{8 * size.sums} a step; "
        f"{platform.machine() if size.on_cpu else torch.cuda.get_device_name()}"
    )


def tokens_of(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    from code_alpaca.training.tokenization import TokenizationOptions, tokenize_rows

    rows = json.loads((folder / f"{name}.json").read_text("utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return tokenize_rows(rows, tokenizer, TokenizationOptions(**TOKENS))


def initialize(folder: Path, size: Size, seed: int) -> None:
    """Random weights, the same for every side."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, set_seed

    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    signs = {f"{sign}_token_id": getattr(tokenizer, f"{sign}_token_id") for sign in ("bos", "eos")}
    shape = dict(zip(names, size.shape, strict=True))
    config = LlamaConfig(
        vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **signs, **shape
    )
    set_seed(seed)
    with torch.device("cpu" if size.on_cpu else "cuda"):
        model = LlamaForCausalLM(config)
    model.to(torch.float32 if size.on_cpu else torch.bfloat16).save_pretrained(folder / "model")


def run_apart(side: str, folder: Path, size: str, seed: int) -> list[dict[str, Any]]:
    """What a process measured that trains so; nothing where the memory was too small."""
    words = [sys.executable, __file__, "--side", side, str(folder), size, str(seed)]
    # With one thread, none burns CPU time in waiting for another.
    more = {"OMP_NUM_THREADS": "1"} if SIZES[size].on_cpu else {}
    more |= {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env={**os.environ, **more})
    if "OutOfMemoryError" in done.stderr:
        return []
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-3000:]}")
    return [json.loads((folder / "measured.json").read_text("utf-8"))]


def train(side: str, folder: str, size_name: str, seed: str) -> None:
    size = SIZES[size_name]
    watch(Path(folder), size)
    how = {
        **size.how, "seed": int(seed), "output_dir": f"{folder}/{side} {seed}",
        "num_train_epochs": size.epochs, "per_device_train_batch_size": 8,
        "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "weight_decay": 0.0,
        "logging_steps": 50, "save_strategy": "no", "report_to": "none",
    }  # fmt: skip
    if side == BEFORE:
        return loop_of_2023(Path(folder), {**how, "gradient_accumulation_steps": size.sums})
    how |= {"model_name_or_path": f"{folder}/model", "max_length": TOKENS["max_length"]}
    if side == PLAIN:
        from trl.scripts import sft as trl_sft

        how |= {"dataset_name": f"{folder}/plain", "gradient_accumulation_steps": size.sums}
        return trl_sft.main(*trl_sft.make_parser().parse_args_and_config(as_words(how)))
    from code_alpaca.training import sft

    how |= {
        "dataset_name": f"{folder}/rows.json", "mask": TOKENS["mask"],
        "activation_checkpointing": False, "dtype": "float32" if size.on_cpu else "bfloat16",
        "target_examples_per_step": 8 * size.sums,
    }  # fmt: skip
    sft.train(as_words({**how, **size.modes()[side]}))


def as_words(how: dict[str, Any]) -> list[str]:
    return [word for key, value in how.items() for word in (f"--{key}", str(value))]


def loop_of_2023(folder: Path, how: dict[str, Any]) -> None:
    """As https://github.com/tatsu-lab/stanford_alpaca, train.py, does it."""
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokens, _ = tokens_of(folder, "rows")

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids, labels = ([torch.tensor(row[key]) for row in batch] for key in ("input_ids", "labels"))
        return {
            "input_ids": pad_sequence(ids, True, model.config.pad_token_id),
            "labels": pad_sequence(labels, True, -100),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], True, 0),
        }

    how = TrainingArguments(**how)
    Trainer(model, how, train_dataset=tokens.to_list(), data_collator=collate).train()


def watch(folder: Path, size: Size) -> None:
    """Have `Trainer.train`, which all sides end in, write down what it took and came to."""
    from transformers import Trainer

    from code_alpaca.training.model_state_memory import GIB
    from code_alpaca.training.throughput import ThroughputMeter, peak_memory_bytes

    train, step, slots = Trainer.train, Trainer.training_step, 0

    def counted(self: Trainer, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        nonlocal slots
        slots += inputs["input_ids"].numel()
        return step(self, model, inputs, *rest, **more)

    def timed(self: Trainer, *rest: Any, **more: Any) -> Any:
        clock = time.process_time if size.on_cpu else time.monotonic
        began = clock()
        result = train(self, *rest, **more)
        took = clock() - began
        peak = peak_memory_bytes(size.on_cpu) / GIB
        _, counts = tokens_of(folder, "rows")
        real = counts.tokens * size.epochs
        speed = ThroughputMeter(self.model.config, counts.tokens // counts.rows, 1, adapter=False)
        measured = {"pace": real / took, "padding": 1 - real / slots, "mfu": speed.mfu(real / took)}
        measured |= {"peak": peak, "loss": loss_apart(self.model, folder)}
        (folder / "measured.json").write_text(json.dumps(measured), "utf-8")
        return result

    Trainer.train, Trainer.training_step = timed, counted


def loss_apart(model: Any, folder: Path) -> float:
    """Nats a learned token of the rows kept apart."""
    import torch

    model.eval()
    tokens, counts = tokens_of(folder, "apart")
    total = 0.0
    with torch.no_grad():
        for row in tokens:
            ids, labels = (torch.tensor([row[key]], device=model.device) for key in row)
            learned = (labels[:, 1:] != -100).sum().item()
            total += model(input_ids=ids, labels=labels).loss.item() * learned
    return total / counts.loss_tokens


if __name__ == "__main__":
    main()
