"""Models of any family train, and what exceeds their vocabulary or positions is refused."""

from __future__ import annotations

import json

import pytest
from support.tiny_sft import tiny_sft, write_rows

from code_alpaca.cli import main
from code_alpaca.core.prompts import format_prompt
from code_alpaca.core.records import RunRecord
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
# A model with custom code, whose forward pass depends on the values of its input.
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
def few_rows(tmp_path_factory):
    """Rows of about sixty tokens each."""
    return write_rows(tmp_path_factory.mktemp("data") / "rows.json", 8)


@pytest.fixture(scope="module")
def tokenizer():
    """A tokenizer with one token for the text of the prompt."""
    texts = [format_prompt("Return it.", ""), "return 0123456789"]
    shape = ScratchShape(vocab_size=600, hidden_size=32, num_layers=1, num_heads=2)
    return build_scratch_model(texts, shape)[1]


@pytest.fixture
def train(few_rows, tokenizer, tmp_path):
    """Return a function that saves a tiny model of a family and trains it for one step."""

    def run(family: str, *words: str, **shape) -> int:
        import transformers

        model_class = getattr(transformers, family)
        config = model_class.config_class(**{**SHAPE, **FAMILIES.get(family, {}), **shape})
        folder = tmp_path / "base"
        if not folder.exists():
            model_class(config).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        return main([
            "sft", "--model_name_or_path", str(folder), "--dataset_name", str(few_rows),
            "--output_dir", str(tmp_path / "out"), "--use_cpu", "true", "--bf16", "false",
            "--max_steps", "1", "--save_strategy", "no", "--report_to", "none", *words,
        ])  # fmt: skip

    return run


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_a_memory_estimate_and_trains(family, train, tmp_path, capsys):
    assert train(family, "--max_length", "96") == 0, capsys.readouterr().err
    output = capsys.readouterr().out
    assert "each process needs" in output and "warning" not in output
    record = RunRecord.load(tmp_path / "out")
    assert record.preflight_memory_gib > 0 and record.steps == 1


def test_a_model_without_a_memory_estimate_trains_with_a_warning(train, tmp_path, capsys):
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
    warnings = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "no estimate for this model" in warnings[0]
    record = RunRecord.load(tmp_path / "out")
    assert record.preflight_memory_gib is None and record.steps == 1


def test_a_tokenizer_with_more_ids_than_embeddings_is_refused(train, capsys):
    assert train("LlamaForCausalLM", "--max_length", "96", vocab_size=280) == 2
    error = capsys.readouterr().err
    assert "has ids up to" in error and "embedding has 280 rows" in error
    assert error.count("\n") == 1


def test_a_special_token_beyond_the_embedding_that_no_row_uses_is_accepted(
    train, tokenizer, tmp_path, capsys
):
    """Gemma 3's tokenizer has one for images, also for its text-only models."""
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
    ("words", "message"),
    [
        (["--max_length", "129"], "max_length 129 is above the 128 positions"),
        (["--max_length", "129", "--packing", "true"], "max_length 129 is above the 128 positions"),
        (["--max_length", "129", "--dry_run"], "set max_length: 128 or less"),
    ],
)
def test_a_max_length_above_the_positions_is_refused(words, message, train, capsys):
    assert train("LlamaForCausalLM", *words) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_rows_beyond_the_positions_are_refused_without_an_explicit_max_length(train, capsys):
    assert train("LlamaForCausalLM", "--dry_run", max_position_embeddings=16) == 2
    assert "has 16 positions; set max_length: 16 or less" in capsys.readouterr().err


def test_positions_may_be_scaled_in_the_config(train, capsys):
    scaled = {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 128,
              "rope_theta": 10_000.0}  # fmt: skip
    words = ["--max_length", "256", "--dry_run"]
    assert train("LlamaForCausalLM", *words, rope_parameters=scaled) == 0, capsys.readouterr().err


def test_a_row_that_is_too_large_is_left_out_with_a_warning(tmp_path, capsys):
    def output(n: int) -> str:
        return "x" * 2_000_000 if n == 4 else f"return {n}"

    path = write_rows(tmp_path / "rows.json", 9, output)
    words = tiny_sft(path, tmp_path / "out", "--dry_run")
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "row 5 (2,000,020 bytes) left out" in shown and "rows      8 rows" in shown
    path.write_text(json.dumps(json.loads(path.read_text())[4:5]))
    assert main(words) == 2
    assert "row 1 (2,000,020 bytes) left out" in capsys.readouterr().err
