"""On a CPU the loss, its gradients and the order of the rows equal those of TRL."""

from __future__ import annotations

import pytest
from support.tiny_sft import TINY_SHAPE

from code_alpaca.training.scratch_model import build_scratch_model


@pytest.mark.parametrize("packing", [False, True])
def test_loss_and_gradients_equal_those_of_trl(tmp_path, packing):
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from code_alpaca.training.trainer import CpuTrainer

    model, tokenizer = build_scratch_model(["some text"], TINY_SHAPE)
    rows = [([5, 6, 7, 8, 2], 2), ([9, 10, 11, 12, 13, 14, 15, 2], 5), ([20, 21, 2], 1)]
    dataset = Dataset.from_list(
        [{"input_ids": ids, "labels": [-100] * n + ids[n:]} for ids, n in rows]
    )
    args = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, max_length=32, packing=packing
    )

    def loss_and_gradients(trainer_class, num_items):
        trainer = trainer_class(model, args, train_dataset=dataset, processing_class=tokenizer)
        (batch,) = trainer.get_train_dataloader()
        model.zero_grad()
        loss = trainer.compute_loss(model, batch, num_items_in_batch=num_items)
        loss.backward()
        return [loss.detach(), *(weight.grad.clone() for weight in model.parameters())]

    for num_items in (None, torch.tensor(40)):
        expected = loss_and_gradients(SFTTrainer, num_items)
        torch.testing.assert_close(loss_and_gradients(CpuTrainer, num_items), expected)


def test_an_uninterrupted_run_groups_rows_by_length_in_the_order_of_trl(tmp_path):
    """So a checkpoint that an earlier version wrote resumes with the rows that it would train."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from code_alpaca.training.trainer import CpuTrainer

    model, tokenizer = build_scratch_model(["some text"], TINY_SHAPE)
    rows = [[5 + n] * (1 + n % 7) for n in range(50)]
    dataset = Dataset.from_list([{"input_ids": ids, "labels": ids} for ids in rows])
    args = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, per_device_train_batch_size=4,
        train_sampling_strategy="group_by_length", seed=3,
    )  # fmt: skip

    def read_epochs(trainer_class):
        trainer = trainer_class(model, args, train_dataset=dataset, processing_class=tokenizer)
        loader = trainer.get_train_dataloader()
        return [[batch["input_ids"].tolist() for batch in loader] for _ in range(3)]

    epochs = read_epochs(CpuTrainer)
    assert epochs == read_epochs(SFTTrainer)
    assert epochs[0] != epochs[1] != epochs[2]
