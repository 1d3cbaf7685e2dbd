"""Train one contestant of sft_throughput.py, in a process of its own.

    python benchmarks/sft_contestant.py CONTESTANT FOLDER SIZE SEED

The folder holds model/, rows.json, held_out.json and trl/; measured.json is written into it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from code_alpaca.core.quiet import silence_libraries

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


def train(contestant: str, folder: str, size_name: str, seed: str) -> None:
    silence_libraries()
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
            "tokens_per_s": throughput,
            "padding": 1 - counts.tokens * size.epochs / num_positions,
            "mfu": meter.mfu(throughput) or 0.0,  # 0: the peak of this hardware is unknown
            "peak_gib": peak,
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


def tokenize(folder: Path, name: str) -> Any:
    from transformers import AutoTokenizer

    from code_alpaca.training.tokenization import TokenizationOptions, tokenize_rows

    rows = json.loads((folder / f"{name}.json").read_text("utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    return tokenize_rows(rows, tokenizer, TokenizationOptions(**TOKENIZATION))


if __name__ == "__main__":
    train(*sys.argv[1:])
