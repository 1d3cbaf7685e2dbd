"""Measure the training throughput of SFT, compared with the 2023 script and `trl sft`.

    python benchmarks/sft_throughput.py                      # composed rows
    python benchmarks/sft_throughput.py code_alpaca.json     # real rows
    ... --tokenizer FOLDER    replaces the tokenizer of 4,096 tokens trained on the rows
    ... --sizes tiny,1b,7b    1b and 7b need a GPU; on the CPU, times are those of one thread

Every contestant trains the same randomly initialized LLaMA on the same rows, each in its own
process, in turns: `transformers.Trainer` as Stanford Alpaca used it in 2023 (random batches padded
to the longest row), `trl sft` with its defaults (which include activation checkpointing), and
code-alpaca with each batching strategy and the labels of 2023. Throughput excludes padding tokens,
and only `train()` is timed. Every round has a new initialization and data order; the loss is that
of 200 held-out rows.
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

NUM_HELD_OUT = 200
ALPACA_2023, TRL = "as in 2023", "trl sft"
TOKENIZATION = {"prompt_style": "alpaca", "max_length": 512, "mask": "alpaca_2023"}
CPU = {"use_cpu": True, "bf16": False, "learning_rate": 1e-3, "optim": "adamw_torch"}
GPU = {"bf16": True, "learning_rate": 2e-5, "optim": "adamw_torch_fused"}


@dataclass(frozen=True, slots=True)
class Size:
    """A LLaMA and its training.

    Attributes:
        shape: hidden size, intermediate size, layers and attention heads.
        accumulation_steps: micro-batches of 8 rows per step.
        settings: of the trainer.
    """

    shape: tuple[int, int, int, int]
    accumulation_steps: int
    epochs: int
    settings: dict[str, Any]

    @property
    def on_cpu(self) -> bool:
        return self.settings is CPU

    def batching_strategies(self) -> dict[str, dict[str, Any]]:
        """Return the settings of each batching strategy.

        A step of one micro-batch is split into smaller ones, so that its rows can be sorted or
        packed.
        """
        single = self.accumulation_steps == 1
        split = {"per_device_train_batch_size": 2} if single else {}
        packed = {"per_device_train_batch_size": 1} if single else {"max_length": 1024}
        return {
            "random batches": {},
            "sorted by length": {"train_sampling_strategy": "group_by_length"},
            "sorted within steps": {"train_sampling_strategy": "batch_rebalance", **split},
            "packed": {"packing": True, "packing_strategy": "bfd", **packed},
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
    parser.add_argument("--limit", type=int, help="maximum number of training rows")
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)  # see run_in_process
    args = parser.parse_args()
    if args.contestant:
        return train(*args.contestant)
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
    contestants = (ALPACA_2023, TRL, *size.batching_strategies())
    results: dict[str, list[dict[str, Any]]] = {contestant: [] for contestant in contestants}
    for seed in range(args.rounds):
        initialize_model(folder, size, seed)
        for contestant, runs in results.items():
            if len(runs) == seed:  # not out of memory in an earlier round
                runs += run_in_process(contestant, folder, name, seed)
    unit = "tokens/CPU s" if size.on_cpu else "tokens/s"
    print(f"{'':<24}{unit:>12}  speed  padding  MFU  peak GiB  loss of each round")
    for contestant, runs in results.items():
        if len(runs) < args.rounds:
            print(f"{contestant:<24}out of memory")
            continue
        throughput, padding, mfu, peak = (
            median(run[key] or 0 for run in runs)
            for key in ("throughput", "padding", "mfu", "peak")
        )
        pairs = zip(runs, results[ALPACA_2023], strict=False)  # fewer if it ran out of memory
        speedup = median([new["throughput"] / old["throughput"] for new, old in pairs] or [0])
        columns = [
            f"{speedup:.2f} x" if speedup else "-", f"{padding:.0%}", f"{mfu:.0%}" if mfu else "-",
        ]  # fmt: skip
        losses = " ".join(f"{run['loss']:.3f}" for run in runs)
        print(
            f"{contestant:<24}{throughput:12,.0f} {columns[0]:>7} {columns[1]:>7} "
            f"{columns[2]:>5} {peak:9.2f}  {losses}"
        )


def prepare(folder: Path, size: Size, args: argparse.Namespace) -> str:
    """Write the rows and the tokenizer; return a description of model, data and hardware."""
    import torch
    from transformers import AutoTokenizer

    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    if args.rows:
        rows = json.loads(Path(args.rows).read_text("utf-8"))
    else:
        tasks = [compose_task(random.Random(number)) for number in range(2_000)]
        rows = [{"instruction": t.instruction, "input": t.input, "output": t.output} for t in tasks]
    random.Random(0).shuffle(rows)
    held_out, rows = rows[:NUM_HELD_OUT], rows[NUM_HELD_OUT:][: args.limit]
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
    (folder / "held_out.json").write_text(json.dumps(held_out), "utf-8")
    (folder / "rows.json").write_text(json.dumps(rows), "utf-8")
    outputs = [row["output"] for row in rows]
    pairs = [{"prompt": p, "completion": o} for p, o in zip(prompts, outputs, strict=True)]
    (folder / "trl").mkdir()
    (folder / "trl/train.json").write_text(json.dumps(pairs), "utf-8")
    _, counts = tokenize(folder, "rows")
    return (
        f"{size.shape[2]} layers of {size.shape[0]}, vocabulary {len(tokenizer):,}; "
        f"{size.epochs} x {counts.rows:,} rows of {counts.tokens / counts.rows:.0f} tokens, "
        f"{8 * size.accumulation_steps} a step; "
        f"{platform.machine() if size.on_cpu else torch.cuda.get_device_name()}"
    )


def tokenize(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    from code_alpaca.training.tokenization import TokenizationOptions, tokenize_rows

    rows = json.loads((folder / f"{name}.json").read_text("utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return tokenize_rows(rows, tokenizer, TokenizationOptions(**TOKENIZATION))


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


def run_in_process(contestant: str, folder: Path, size: str, seed: int) -> list[dict[str, Any]]:
    """Return the measurements of a training run, or nothing if it runs out of memory."""
    command = [sys.executable, __file__, "--contestant", contestant, str(folder), size, str(seed)]
    # With one thread, no CPU time is spent waiting for other threads.
    more = {"OMP_NUM_THREADS": "1"} if SIZES[size].on_cpu else {}
    more |= {"HF_DATASETS_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **more})
    if "OutOfMemoryError" in done.stderr:
        return []
    if done.returncode:
        raise SystemExit(f"{contestant}: {done.stderr[-3000:]}")
    return [json.loads((folder / "measured.json").read_text("utf-8"))]


def train(contestant: str, folder: str, size_name: str, seed: str) -> None:
    size = SIZES[size_name]
    measure_training(Path(folder), size)
    settings = {
        **size.settings, "seed": int(seed), "output_dir": f"{folder}/{contestant} {seed}",
        "num_train_epochs": size.epochs, "per_device_train_batch_size": 8,
        "lr_scheduler_type": "cosine", "warmup_steps": 0.03, "weight_decay": 0.0,
        "logging_steps": 50, "save_strategy": "no", "report_to": "none",
    }  # fmt: skip
    if contestant == ALPACA_2023:
        return train_as_in_2023(
            Path(folder), {**settings, "gradient_accumulation_steps": size.accumulation_steps}
        )
    settings |= {"model_name_or_path": f"{folder}/model", "max_length": TOKENIZATION["max_length"]}
    if contestant == TRL:
        from trl.scripts import sft as trl_sft

        settings |= {
            "dataset_name": f"{folder}/trl",
            "gradient_accumulation_steps": size.accumulation_steps,
        }
        return trl_sft.main(*trl_sft.make_parser().parse_args_and_config(to_args(settings)))
    from code_alpaca.training import sft

    settings |= {
        "dataset_name": f"{folder}/rows.json", "mask": TOKENIZATION["mask"],
        "activation_checkpointing": False, "dtype": "float32" if size.on_cpu else "bfloat16",
        "target_examples_per_step": 8 * size.accumulation_steps,
    }  # fmt: skip
    sft.train(to_args({**settings, **size.batching_strategies()[contestant]}))


def to_args(settings: dict[str, Any]) -> list[str]:
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


def train_as_in_2023(folder: Path, settings: dict[str, Any]) -> None:
    """Train as train.py of https://github.com/tatsu-lab/stanford_alpaca."""
    import torch
    from torch.nn.utils.rnn import pad_sequence
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    tokens, _ = tokenize(folder, "rows")

    def collate(batch: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        ids, labels = ([torch.tensor(row[key]) for row in batch] for key in ("input_ids", "labels"))
        return {
            "input_ids": pad_sequence(ids, True, model.config.pad_token_id),
            "labels": pad_sequence(labels, True, -100),
            "attention_mask": pad_sequence([torch.ones_like(row) for row in ids], True, 0),
        }

    args = TrainingArguments(**settings)
    Trainer(model, args, train_dataset=tokens.to_list(), data_collator=collate).train()


def measure_training(folder: Path, size: Size) -> None:
    """Patch `Trainer.train`, which every contestant calls, to write its measurements."""
    from transformers import Trainer

    from code_alpaca.training.metrics import ThroughputMeter, peak_memory_bytes
    from code_alpaca.training.model_state_memory import GIB

    train, step, num_positions = Trainer.train, Trainer.training_step, 0

    def count_positions(self: Trainer, model: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        nonlocal num_positions
        num_positions += inputs["input_ids"].numel()
        return step(self, model, inputs, *rest, **more)

    def measure(self: Trainer, *rest: Any, **more: Any) -> Any:
        clock = time.process_time if size.on_cpu else time.monotonic
        started = clock()
        result = train(self, *rest, **more)
        seconds = clock() - started
        peak = peak_memory_bytes(size.on_cpu) / GIB
        _, counts = tokenize(folder, "rows")
        throughput = counts.tokens * size.epochs / seconds
        meter = ThroughputMeter(self.model.config, counts.tokens // counts.rows, 1, adapter=False)
        measured = {
            "throughput": throughput,
            "padding": 1 - counts.tokens * size.epochs / num_positions,
            "mfu": meter.mfu(throughput),
            "peak": peak,
            "loss": compute_held_out_loss(self.model, folder),
        }
        (folder / "measured.json").write_text(json.dumps(measured), "utf-8")
        return result

    Trainer.train, Trainer.training_step = measure, count_positions


def compute_held_out_loss(model: Any, folder: Path) -> float:
    """Return the loss of the held-out rows, in nats per loss token."""
    import torch

    model.eval()
    tokens, counts = tokenize(folder, "held_out")
    total = 0.0
    with torch.no_grad():
        for row in tokens:
            ids, labels = (torch.tensor([row[key]], device=model.device) for key in row)
            num_tokens = (labels[:, 1:] != -100).sum().item()
            total += model(input_ids=ids, labels=labels).loss.item() * num_tokens
    return total / counts.loss_tokens


if __name__ == "__main__":
    main()
