"""Measure the speed of tokenization for SFT, compared with the code of 2023.

The 2023 code tokenized prompt and answer together and the prompt again, a row at a time.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

from common import Bench, Values, run
from sft_rows import read_rows, train_tokenizer

from code_alpaca.core.prompts import format_prompt
from code_alpaca.core.quiet import silence_libraries


def measure(bench: Bench) -> None:
    silence_libraries()
    bench.add_versions("transformers", "tokenizers")
    rows = read_rows(bench)
    tokenizer = train_tokenizer(rows)
    for size in bench.choose((2_000, 6_000, 20_000), (50,)):
        drawn = random.Random(0).choices(rows, k=size)
        for number, row in enumerate(drawn):  # no row is twice in the dataset
            drawn[number] = {**row, "instruction": f"{row['instruction']} ({number})"}
        contestants = {
            "code-alpaca": partial(time_tokenization, drawn, tokenizer),
            "as in 2023": partial(time_2023, drawn, tokenizer),
        }
        bench.compare(contestants, repeats=bench.choose(3, 1), size=size)


def time_tokenization(rows: list[dict[str, str]], tokenizer: Any) -> Values:
    from code_alpaca.training.tokenization import TokenizationOptions, tokenize_rows

    started = time.monotonic()
    tokenize_rows(rows, tokenizer, TokenizationOptions(prompt_style="alpaca", max_length=512))
    return {"seconds": time.monotonic() - started}


def time_2023(rows: list[dict[str, str]], tokenizer: Any) -> Values:
    """Tokenize as train.py of https://github.com/tatsu-lab/stanford_alpaca."""

    def tokenize(text: str) -> Any:
        return tokenizer(
            text, return_tensors="pt", padding="longest", max_length=512, truncation=True
        ).input_ids[0]

    started = time.monotonic()
    for row in rows:
        prompt = format_prompt(row["instruction"], row["input"])
        labels = tokenize(f"{prompt}{row['output']}{tokenizer.eos_token}").clone()
        labels[: len(tokenize(prompt))] = -100
    return {"seconds": time.monotonic() - started}


if __name__ == "__main__":
    run(measure)
