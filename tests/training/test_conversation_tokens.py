"""With `prompt_style: chat`, training sees the tokens of the model's own chat template."""

from __future__ import annotations

from importlib import resources

import pytest
from datasets import Dataset
from support import tokenizers_in_use
from support.tiny_sft import TINY_SHAPE

from code_alpaca.core.errors import InputError
from code_alpaca.training.conversation_tokens import encode_conversation, prepare_chat_tokenizer
from code_alpaca.training.scratch_model import build_scratch_model
from code_alpaca.training.tokenization import TokenizationOptions, tokenize_rows

TEXTS = [
    "def add(a, b):\n    return a + b",
    "What is 2 + 3?",
    "Write a loop. 日本語 \U0001f999",
] * 4
QUESTION = {"role": "user", "content": "Add two numbers.\n\nx = 1"}
ANSWERS = ["def add(a, b):\n    return a + b", "\n\n  x = 1\n", "a", "日本語: \U0001f999", "x\n\n"]
SYSTEM = {"role": "system", "content": "Be brief."}
MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
         "<|user|>", "<|assistant|>", "<|end|>", "<|system|>"]  # fmt: skip
TEMPLATES = ["default", "qwen2_5", "llama3", "phi3"]


def read_template(name):
    """Return the chat template of a model family, as TRL ships it."""
    return (resources.files("trl") / f"chat_templates/{name}.jinja").read_text("utf-8")


def make_tokenizer(kind="qwen", template="default"):
    tokenizer = tokenizers_in_use.make(kind, TEXTS, vocab_size=400)
    if template != "default":
        tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
        tokenizer.chat_template = read_template(template)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    prepare_chat_tokenizer(tokenizer)
    return tokenizer


def answer(text):
    return {"role": "assistant", "content": text}


def loss_text(tokenizer, ids, has_loss):
    return tokenizer.decode([token for token, counts in zip(ids, has_loss, strict=True) if counts])


@pytest.mark.parametrize("kind", ["qwen", "smollm", "llama-1", "llama-2", "gpt-2"])
@pytest.mark.parametrize("template", TEMPLATES)
def test_ids_are_those_of_the_template_and_only_answers_have_a_loss(kind, template):
    tokenizer = make_tokenizer(kind, template)
    for text in ANSWERS:
        turns = [QUESTION, answer(text), QUESTION, answer(f"{text} again")]
        for messages in (turns[:2], turns, [SYSTEM, *turns]):
            ids, has_loss = encode_conversation(tokenizer, messages)
            whole = tokenizer.apply_chat_template(messages, return_dict=False)
            assert tokenizer.decode(ids) == tokenizer.decode(whole)
            prompt = tokenizer.apply_chat_template(
                messages[:-1], add_generation_prompt=True, return_dict=False
            )
            if len(messages) == 2:
                assert ids[: len(prompt)] == prompt, "the tokens that inference starts from"
                assert not any(has_loss[: len(prompt)]) and all(has_loss[len(prompt) :])
            if whole[: len(prompt)] == prompt and len(messages) == 2:
                assert ids == whole
            learned = loss_text(tokenizer, ids, has_loss)
            end = "<|end|>" if template == "phi3" else tokenizer.eos_token
            assert learned.count(end) == [m["role"] for m in messages].count("assistant")
            assert text.strip() in learned and QUESTION["content"] not in learned


@pytest.mark.parametrize("template", ["default", "qwen2_5", "qwen3"])
def test_ids_and_labels_are_those_of_trl(template, tmp_path):
    """TRL tokenizes a prompt and a completion that are messages, without its training template."""
    from trl import SFTConfig, SFTTrainer

    tokenizer = make_tokenizer("qwen", template)
    model, _ = build_scratch_model(TEXTS, TINY_SHAPE)
    model.resize_token_embeddings(len(tokenizer))
    conversations = [[QUESTION, answer(text)] for text in ANSWERS if text == text.strip()]
    conversations += [[SYSTEM, *turns] for turns in conversations]
    rows = [{"prompt": turns[:-1], "completion": turns[-1:]} for turns in conversations]
    arguments = SFTConfig(
        str(tmp_path), report_to="none", use_cpu=True, bf16=False, max_length=None
    )
    trainer = SFTTrainer(model, arguments, train_dataset=Dataset.from_list(rows),
                         processing_class=tokenizer)  # fmt: skip
    options = TokenizationOptions("chat", max_length=None)
    ours, _ = tokenize_rows([{"messages": turns} for turns in conversations], tokenizer, options)
    for row, expected in zip(ours, trainer.train_dataset, strict=True):
        assert row["input_ids"] == expected["input_ids"]
        assert row["labels"] == expected["labels"]


def test_generation_stops_at_the_token_that_ends_an_answer():
    tokenizer = make_tokenizer("qwen", "qwen2_5")
    assert tokenizer.eos_token == "<|im_end|>", "and not at the end of a document"
    assert make_tokenizer("llama-2").eos_token == "</s>", "the default template needs no new token"


def test_a_template_that_ends_an_answer_with_plain_text_is_refused():
    tokenizer = tokenizers_in_use.make("qwen", TEXTS)
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    with pytest.raises(InputError, match="would never learn to stop"):
        prepare_chat_tokenizer(tokenizer)


def test_earlier_turns_that_the_template_changes_are_refused():
    """Qwen3 writes an empty reasoning block before the last answer only."""
    tokenizer = make_tokenizer("qwen", "qwen3")
    turns = [QUESTION, answer("one")]
    ids, _ = encode_conversation(tokenizer, turns)
    assert "<think>" in tokenizer.decode(ids)
    with pytest.raises(InputError, match="set first_turn: true"):
        encode_conversation(tokenizer, [*turns, QUESTION, answer("two")])


def test_a_template_that_refuses_a_system_prompt_is_named():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
        + tokenizer.chat_template
    )
    with pytest.raises(InputError, match="no system role"):
        encode_conversation(tokenizer, [SYSTEM, QUESTION, answer("x")])


@pytest.mark.parametrize(
    ("kind", "template", "token"),
    [("qwen", "default", None), ("llama-2", "default", None), ("qwen", "qwen2_5", "<|im_start|>")],
)
def test_a_special_token_in_an_answer_means_its_characters(kind, template, token):
    tokenizer = make_tokenizer(kind, template)
    text = f"print('{token or tokenizer.eos_token}')"
    ids, has_loss = encode_conversation(tokenizer, [QUESTION, answer(text)])
    learned = [token for token, counts in zip(ids, has_loss, strict=True) if counts]
    assert learned.count(tokenizer.eos_token_id) == 1, "only the end of the answer"
    assert tokenizer.convert_tokens_to_ids(token or "<unused>") not in learned
    assert text in tokenizer.decode(learned)


def test_rows_are_truncated_and_those_without_a_loss_token_are_dropped():
    tokenizer = make_tokenizer()
    rows = [{"messages": [QUESTION, answer("x " * 200)]},
            {"messages": [{"role": "user", "content": "y " * 200}, answer("x")]}]  # fmt: skip
    ours, statistics = tokenize_rows(rows, tokenizer, TokenizationOptions("chat", max_length=100))
    assert (len(ours), statistics.dropped, statistics.truncated) == (1, 1, 1)
    assert len(ours[0]["input_ids"]) == 100
