"""An optimizer step has the configured number of rows, and packed rows do not see each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import format_prompt
from code_alpaca.training.plan import gradient_accumulation_steps
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model
from code_alpaca.training.tokenization import IGNORE_INDEX, TokenizationOptions, tokenize_rows

ROWS = [
    {"instruction": f"Add {n}.", "input": "x" * n, "output": f"return x + {n}\n" * (1 + n % 4)}
    for n in range(23)
]


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 64))
def test_the_global_batch_size_is_exact_for_any_world_size(micro_batch, world_size, accumulation):
    target = micro_batch * world_size * accumulation
    assert gradient_accumulation_steps(target, micro_batch, world_size, 1.0) == accumulation


@given(st.integers(1, 16), st.integers(1, 8), st.floats(1.01, 20), st.integers(1, 2048))
def test_the_global_batch_size_of_packed_rows_is_the_nearest_possible(
    micro_batch, world_size, rows_per_sequence, target
):
    steps = gradient_accumulation_steps(target, micro_batch, world_size, rows_per_sequence)
    rows_per_micro_batch = micro_batch * world_size * rows_per_sequence
    assert steps == 1 or (
        abs(steps * rows_per_micro_batch - target) <= rows_per_micro_batch / 2 + 1e-6
    )


def test_a_target_that_is_not_divisible_is_refused_with_one_that_is():
    with pytest.raises(InputError, match="set per_device_train_batch_size: 6"):
        gradient_accumulation_steps(60, 8, 1, 1.0)
    with pytest.raises(InputError, match="choose a target that is divisible by 7"):
        gradient_accumulation_steps(256, 4, 7, 1.0)


def test_packed_rows_have_the_loss_of_padded_rows():
    import torch
    from trl import pack_dataset
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    texts = [format_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS]
    shape = ScratchShape(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2)
    model, tokenizer = build_scratch_model(texts, shape)
    dataset, _ = tokenize_rows(ROWS, tokenizer, TokenizationOptions("alpaca", max_length=1024))

    def mean_loss(rows, **options):
        collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id, **options)
        total, loss_tokens = 0.0, 0
        for start in range(0, len(rows), 4):
            batch = collate([rows[i] for i in range(start, min(start + 4, len(rows)))])
            labels = batch.pop("labels")
            with torch.no_grad():
                logits = model(**batch, use_cache=False).logits.double()
            next_labels = torch.nn.functional.pad(labels, (0, 1), value=IGNORE_INDEX)[:, 1:]
            total += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1),
                next_labels.flatten(),
                ignore_index=IGNORE_INDEX,
                reduction="sum",
            ).item()
            loss_tokens += int((next_labels != IGNORE_INDEX).sum())
        return total / loss_tokens, loss_tokens

    packed = pack_dataset(dataset, 1024, "bfd")
    assert len(packed) < len(dataset) / 2
    padded_loss, padded_tokens = mean_loss(dataset)
    packed_loss, packed_tokens = mean_loss(packed, padding_free=True)
    assert packed_tokens == padded_tokens
    assert packed_loss == pytest.approx(padded_loss, abs=1e-6)
