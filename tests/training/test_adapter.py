"""LoRA: an adapter is learned, and a whole model comes with it."""

from __future__ import annotations

import json

import pytest

from code_alpaca.cli import main
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapter")
    rows = [
        {"instruction": f"Return {n}.", "input": "", "output": f"return {n}"} for n in range(40)
    ]
    (folder / "rows.json").write_text(json.dumps(rows))
    model, tokenizer = build_scratch_model(
        [row["output"] for row in rows],
        ScratchShape(vocab_size=300, hidden_size=64, num_layers=2, num_heads=2),
    )
    model.save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    words = ["sft", "--model_name_or_path", str(folder / "base"), "--dataset_name",
             str(folder / "rows.json"), "--output_dir", str(folder / "out"), "--use_peft", "true",
             "--use_cpu", "true", "--bf16", "false", "--learning_rate", "1e-2",
             "--num_train_epochs", "4", "--logging_steps", "1"]  # fmt: skip
    assert main(words) == 0
    return folder, words


def test_the_adapter_on_the_base_is_the_merged_model(trained):
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder, _ = trained
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    merged = AutoModelForCausalLM.from_pretrained(folder / "out")
    ids = torch.arange(30).reshape(1, -1)
    with torch.no_grad():
        before = base(ids).logits
        adapted = PeftModel.from_pretrained(base, folder / "out/adapter")(ids).logits
        found = merged(ids).logits
    assert torch.allclose(found, adapted, atol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)
    for path in (folder / "out", folder / "out/adapter"):
        assert not (path / "training_args.bin").exists()


def test_it_learns_and_says_what_was_learned(trained):
    folder, _ = trained
    report = json.loads((folder / "out/run.json").read_text())
    assert report["last_loss"] < report["first_loss"]
    assert report["trainable_parameters"] < report["parameters"] / 2
    assert report["config"]["use_peft"] is True


def test_it_goes_on_from_its_checkpoint(trained, capsys):
    folder, words = trained
    before = json.loads((folder / "out/run.json").read_text())
    (folder / "out/run.json").unlink()
    for path in folder.glob("out/*.safetensors"):
        path.unlink()
    assert main(words) == 0
    assert "going on from" in capsys.readouterr().out
    after = json.loads((folder / "out/run.json").read_text())
    assert after["loss_curve"] == before["loss_curve"]


def test_quantized_weights_need_an_adapter_and_a_gpu(trained, tmp_path, capsys):
    _, words = trained
    words = [*words, "--output_dir", str(tmp_path)]
    assert main([*words, "--load_in_4bit", "true"]) == 2
    assert "need a GPU" in capsys.readouterr().err
    assert main([*words, "--load_in_4bit", "true", "--use_peft", "false"]) == 2
    assert "set use_peft: true" in capsys.readouterr().err
