"""A step learns from the examples that the recipe names, and packed rows stay apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import format_prompt
from code_alpaca.training.batching import accumulation
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model
from code_alpaca.training.tokenization import IGNORED, tokenize

ROWS = [
    {"instruction": f"Add {n}.", "input": "x" * n, "output": f"return x + {n}\n" * (1 + n % 4)}
    for n in range(23)
]


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 64))
def test_the_target_is_met_whatever_the_machine(each, processes, more):
    target = each * processes * more
    assert accumulation(target, each, processes, 1.0) == more


@given(st.integers(1, 16), st.integers(1, 8), st.floats(1.01, 20), st.integers(1, 2048))
def test_packed_rows_come_as_near_as_they_can(each, processes, per_sequence, target):
    more = accumulation(target, each, processes, per_sequence)
    at_once = each * processes * per_sequence
    assert more == 1 or abs(more * at_once - target) <= at_once / 2 + 1e-6


def test_a_target_that_cannot_be_is_refused_with_one_that_can():
    with pytest.raises(InputError, match="give per_device_train_batch_size 6"):
        accumulation(60, 8, 1, 1.0)
    with pytest.raises(InputError, match="give a target that 7 divides"):
        accumulation(256, 4, 7, 1.0)


def test_packed_rows_give_the_loss_of_padded_ones(tmp_path):
    """Rows packed into one sequence must not see each other."""
    import torch
    from trl import pack_dataset
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    texts = [format_prompt(row["instruction"], row["input"]) + row["output"] for row in ROWS]
    model, tokenizer = build_scratch_model(
        texts, ScratchShape(vocab_size=300, hidden_size=32, num_layers=2, num_heads=2)
    )
    dataset, _ = tokenize(ROWS, tokenizer, prompt_style="alpaca", max_length=1024)

    def total(rows, **how):
        collate = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id, **how)
        summed, learned = 0.0, 0
        for start in range(0, len(rows), 4):
            batch = collate([rows[i] for i in range(start, min(start + 4, len(rows)))])
            labels = batch.pop("labels")
            with torch.no_grad():
                logits = model(**batch, use_cache=False).logits.double()
            shifted = torch.nn.functional.pad(labels, (0, 1), value=IGNORED)[:, 1:]
            summed += torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), shifted.flatten(), ignore_index=IGNORED, reduction="sum"
            ).item()
            learned += int((shifted != IGNORED).sum())
        return summed / learned, learned

    packed = pack_dataset(dataset, 1024, "bfd")
    assert len(packed) < len(dataset) / 2
    padded_loss, padded_learned = total(dataset)
    packed_loss, packed_learned = total(packed, padding_free=True)
    assert packed_learned == padded_learned
    assert packed_loss == pytest.approx(padded_loss, abs=1e-6)
