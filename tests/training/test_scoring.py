"""On a CPU the loss is that of TRL, whichever tokens of a batch are learned."""

from __future__ import annotations

import pytest

from code_alpaca.training.trainer import learned_alone


@pytest.mark.parametrize("packing", [False, True])
def test_loss_and_gradients_are_those_of_trl(tmp_path, packing):
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

    model, tokenizer = build_scratch_model(
        ["some text"], ScratchShape(vocab_size=300, hidden_size=16, num_layers=1, num_heads=2)
    )
    rows = [([5, 6, 7, 8, 2], 2), ([9, 10, 11, 12, 13, 14, 15, 2], 5), ([20, 21, 2], 1)]
    dataset = Dataset.from_list(
        [{"input_ids": ids, "labels": [-100] * n + ids[n:]} for ids, n in rows]
    )
    config = SFTConfig(
        output_dir=str(tmp_path), use_cpu=True, bf16=False, max_length=32, packing=packing
    )
    found = {}
    for kind in (SFTTrainer, learned_alone(SFTTrainer)):
        trainer = kind(model, config, train_dataset=dataset, processing_class=tokenizer)
        (batch,) = trainer.get_train_dataloader()
        for count in (None, torch.tensor(40)):
            model.zero_grad()
            loss = trainer.compute_loss(model, batch, num_items_in_batch=count)
            loss.backward()
            grads = [weight.grad.clone() for weight in model.parameters()]
            found.setdefault(count is None, []).append([loss.detach(), *grads])
    for theirs, ours in found.values():
        torch.testing.assert_close(ours, theirs)
