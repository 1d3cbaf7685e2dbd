"""LoRA: the adapter is trained, and the merged model is saved with it."""

from __future__ import annotations

import pytest
from support.tiny_sft import interrupt_before_end, write_rows

from code_alpaca.cli import main
from code_alpaca.core.records import RunRecord
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a base model and an adapter trained on it, and the command."""
    folder = tmp_path_factory.mktemp("adapter")
    rows = write_rows(folder / "rows.json", 40)
    shape = ScratchShape(vocab_size=300, hidden_size=64, num_layers=2, num_heads=2)
    for part in build_scratch_model(["return 0123456789"], shape):
        part.save_pretrained(folder / "base")
    words = ["sft", "--model_name_or_path", str(folder / "base"), "--dataset_name", str(rows),
             "--output_dir", str(folder / "out"), "--use_peft", "true", "--use_cpu", "true",
             "--bf16", "false", "--learning_rate", "1e-2", "--num_train_epochs", "2",
             "--logging_steps", "1"]  # fmt: skip
    assert main(words) == 0
    return folder, words


def test_the_merged_model_equals_base_and_adapter(trained):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, _ = trained
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    merged = AutoModelForCausalLM.from_pretrained(folder / "out")
    ids = torch.arange(30).reshape(1, -1)
    with torch.no_grad():
        base_logits = base(ids).logits
        adapted_logits = PeftModel.from_pretrained(base, folder / "out/adapter")(ids).logits
        merged_logits = merged(ids).logits
    assert torch.allclose(merged_logits, adapted_logits, atol=1e-4)
    assert not torch.allclose(merged_logits, base_logits, atol=1e-2)
    for path in (folder / "out", folder / "out/adapter"):
        assert not (path / "training_args.bin").exists()


def test_the_loss_falls_and_the_trainable_parameters_are_recorded(trained):
    folder, _ = trained
    record = RunRecord.load(folder / "out")
    assert record.last_loss < record.first_loss
    assert record.trainable_parameters < record.parameters / 2
    assert record.config["use_peft"] is True


def test_training_resumes_from_its_checkpoint(trained, capsys):
    folder, words = trained
    loss_curve = RunRecord.load(folder / "out").loss_curve
    interrupt_before_end(folder / "out")
    for path in folder.glob("out/*.safetensors"):
        path.unlink()
    assert main(words) == 0
    assert "resuming from" in capsys.readouterr().out
    assert RunRecord.load(folder / "out").loss_curve == loss_curve


def test_quantized_weights_need_an_adapter_and_a_gpu(trained, tmp_path, capsys):
    _, words = trained
    words = [*words, "--output_dir", str(tmp_path)]
    assert main([*words, "--load_in_4bit", "true"]) == 2
    assert "need a GPU" in capsys.readouterr().err
    assert main([*words, "--load_in_4bit", "true", "--use_peft", "false"]) == 2
    assert "set use_peft: true" in capsys.readouterr().err
