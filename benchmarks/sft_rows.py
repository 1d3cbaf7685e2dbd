"""Rows and a tokenizer for the training benchmarks."""

from __future__ import annotations

import json
import random
from typing import Any

from common import Bench

from code_alpaca.core.prompts import format_prompt
from code_alpaca.teacher.offline.tasks import compose_task


def read_rows(bench: Bench) -> list[dict[str, str]]:
    """Return real rows in random order, or 2,000 composed ones."""
    if path := bench.find_file("code_alpaca.json"):
        rows = json.loads(path.read_text("utf-8"))
    else:
        tasks = [compose_task(random.Random(number)) for number in range(2_000)]
        rows = [{"instruction": t.instruction, "input": t.input, "output": t.output} for t in tasks]
    random.Random(0).shuffle(rows)
    return rows


def train_tokenizer(rows: list[dict[str, str]]) -> Any:
    """Return a tokenizer of 4,096 tokens, trained on the rows."""
    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    texts = (format_prompt(row["instruction"], row["input"]) + row["output"] for row in rows)
    shape = ScratchShape(vocab_size=4_096, hidden_size=64, num_layers=1, num_heads=1)
    return build_scratch_model(texts, shape)[1]
