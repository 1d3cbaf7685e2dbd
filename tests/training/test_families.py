"""Models of any family are trained: by an estimate of their memory, or, without one, all the same.

What a model has no place for (token ids, positions) is refused in one line.
"""

from __future__ import annotations

import json

import pytest
from support.tiny_sft import TINY

from code_alpaca.cli import main
from code_alpaca.core.prompts import format_prompt
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

SHAPE = dict(vocab_size=600, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
             bos_token_id=1, eos_token_id=2, pad_token_id=0)  # fmt: skip
EXPERTS = dict(num_experts_per_tok=2, moe_intermediate_size=16)
LATENT = dict(q_lora_rank=8, kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8,
              n_group=1, topk_group=1, first_k_dense_replace=1, num_key_value_heads=4)  # fmt: skip
FAMILIES = {
    "GemmaForCausalLM": dict(head_dim=8),
    "Gemma2ForCausalLM": dict(head_dim=8, sliding_window=16),
    "Gemma3ForCausalLM": dict(head_dim=8, sliding_window=16),
    "Qwen3MoeForCausalLM": dict(head_dim=8, num_experts=4, **EXPERTS),
    "GptOssForCausalLM": dict(head_dim=8, num_local_experts=4, sliding_window=16,
                              num_experts_per_tok=2),
    "DeepseekV2ForCausalLM": dict(n_routed_experts=4, **EXPERTS, **LATENT),
    "OPTForCausalLM": dict(ffn_dim=64, word_embed_proj_dim=32),
}  # fmt: skip
# A model in a file of its own, whose forward pass looks at the values of its input.
CUSTOM = """
from transformers import LlamaConfig, LlamaForCausalLM


class CustomConfig(LlamaConfig):
    model_type = "custom"


class CustomModel(LlamaForCausalLM):
    config_class = CustomConfig

    def forward(self, input_ids=None, **more):
        assert input_ids.max().item() >= 0
        return super().forward(input_ids=input_ids, **more)
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """Rows of about sixty tokens, for a tokenizer that knows the prompt by heart."""
    path = tmp_path_factory.mktemp("data") / "rows.json"
    path.write_text(json.dumps([
        {"instruction": f"Return {n}.", "input": "", "output": f"return {n}"} for n in range(8)
    ]))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def tokenizer():
    texts = [format_prompt("Return it.", ""), "return 0123456789"]
    return build_scratch_model(
        texts, ScratchShape(vocab_size=600, hidden_size=32, num_layers=1, num_heads=2)
    )[1]


@pytest.fixture
def train(rows, tokenizer, tmp_path):
    """Save a tiny model of a family with a tokenizer, and train it for a step."""

    def run(family: str, *words: str, **shape) -> int:
        import transformers

        kind = getattr(transformers, family)
        config = kind.config_class(**{**SHAPE, **FAMILIES.get(family, {}), **shape})
        folder = tmp_path / "base"
        if not folder.exists():
            kind(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return main([
            "sft", "--model_name_or_path", str(folder), "--dataset_name", str(rows),
            "--output_dir", str(tmp_path / "out"), "--use_cpu", "true", "--bf16", "false",
            "--max_steps", "1", "--save_strategy", "no", "--report_to", "none", *words,
        ])  # fmt: skip

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_the_memory_of_every_family_is_estimated_and_it_trains(family, train, tmp_path, capsys):
    assert train(family, "--max_length", "96") == 0, capsys.readouterr().err
    shown = capsys.readouterr().out
    assert "each process needs" in shown and "warning" not in shown
    report = json.loads((tmp_path / "out/run.json").read_text())
    assert report["preflight_memory_gib"] > 0 and report["steps"] == 1


def test_a_model_whose_memory_cannot_be_estimated_trains_with_a_warning(train, tmp_path, capsys):
    folder = tmp_path / "base"
    assert train("LlamaForCausalLM", "--dry_run") == 0
    (folder / "custom.py").write_text(CUSTOM)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "custom", "architectures": ["CustomModel"],
               "auto_map": {"AutoConfig": "custom.CustomConfig",
                            "AutoModelForCausalLM": "custom.CustomModel"}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    words = ["--trust_remote_code", "true", "--max_length", "96"]
    assert train("LlamaForCausalLM", *words) == 0, capsys.readouterr().err
    warned = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warned) == 1 and "not estimated for this model" in warned[0]
    report = json.loads((tmp_path / "out/run.json").read_text())
    assert report["preflight_memory_gib"] is None and report["steps"] == 1


def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(train, capsys):
    assert train("LlamaForCausalLM", "--max_length", "96", vocab_size=280) == 2
    error = capsys.readouterr().err
    assert "has ids up to" in error and "embedding has 280 rows" in error
    assert error.count("\n") == 1


def test_a_special_token_beyond_the_embedding_that_no_row_uses_is_accepted(
    train, tokenizer, tmp_path, capsys
):
    """As Gemma 3's tokenizer has one for images, also for its models that read text alone."""
    size = len(tokenizer)
    assert train("LlamaForCausalLM", "--dry_run", vocab_size=size) == 0
    from transformers import AutoTokenizer

    larger = AutoTokenizer.from_pretrained(tmp_path / "base")
    larger.add_special_tokens({"extra_special_tokens": ["<image>"]})
    larger.save_pretrained(tmp_path / "base")
    assert len(larger) == size + 1
    words = ["--max_length", "96", "--dry_run"]
    assert train("LlamaForCausalLM", *words, vocab_size=size) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max_length", "129"], "max_length 129 is above the 128 positions"),
        (["--max_length", "129", "--packing", "true"], "max_length 129 is above the 128 positions"),
        (["--max_length", "129", "--dry_run"], "set max_length: 128 or less"),
    ],
)
def test_a_max_length_above_the_positions_of_the_model_is_refused(words, said, train, capsys):
    assert train("LlamaForCausalLM", *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1


def test_rows_beyond_the_positions_are_refused_where_nobody_gave_a_max_length(train, capsys):
    assert train("LlamaForCausalLM", "--dry_run", max_position_embeddings=16) == 2
    assert "has 16 positions; set max_length: 16 or less" in capsys.readouterr().err


def test_positions_may_be_scaled_in_the_config(train, capsys):
    scaled = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128,
              "rope_theta": 10_000.0}  # fmt: skip
    words = ["--max_length", "256", "--dry_run"]
    assert train("LlamaForCausalLM", *words, rope_parameters=scaled) == 0, capsys.readouterr().err


def test_a_row_too_large_to_learn_from_is_left_out_and_named(tmp_path, capsys):
    rows = [{"instruction": f"Return {n}.", "input": "", "output": f"return {n}"} for n in range(9)]
    rows[4]["output"] = "x" * 2_000_000
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    words = ["sft", *TINY, "--dataset_name", str(path), "--output_dir", str(tmp_path / "out")]
    assert main([*words, "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "row 5 (2,000,009 bytes) left out" in shown and "rows      8 rows" in shown
    path.write_text(json.dumps(rows[4:5]))
    assert main([*words, "--dry_run"]) == 2
    assert "row 1 (2,000,009 bytes) left out" in capsys.readouterr().err
