"""An answer is the greedy continuation of the very prompt of training."""

from __future__ import annotations

import pytest
import torch

import code_alpaca
from code_alpaca.errors import InputError
from code_alpaca.formatting import chat_template, format_prompt
from code_alpaca.training.scratch import make_base


@pytest.fixture(scope="module", params=["alpaca", "alpaca_nl", None])
def student(request, tmp_path_factory):
    """A random model, and the style of its prompt; None: it has no chat template."""
    folder = tmp_path_factory.mktemp("student")
    model, tokenizer = make_base(
        [format_prompt("Add 1 to x.") + "return x + 1"], vocab_size=300, hidden_size=32, layers=1,
        heads=2, max_length=128, seed=3,
    )  # fmt: skip
    if request.param:
        tokenizer.chat_template = chat_template(tokenizer, request.param)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder, model.eval(), tokenizer, request.param or "alpaca"


def greedy(model, tokenizer, prompt, count):
    """By the logits alone, without `generate`."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(count):
        with torch.no_grad():
            best = model(ids).logits[0, -1].argmax()
        if best == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, best.reshape(1, 1)], dim=1)
    return tokenizer.decode(ids[0, len(tokenizer(prompt)["input_ids"]) :], skip_special_tokens=True)


@pytest.mark.parametrize("input", ["", "x = 1\n  y"])
def test_it_is_the_greedy_continuation_of_the_prompt(student, input):
    folder, model, tokenizer, style = student
    expected = greedy(model, tokenizer, format_prompt("Add 1.", input, style=style), 12)
    answer = code_alpaca.generate(folder, "Add 1.", input, max_new_tokens=12)
    assert answer == expected and answer


def test_a_pipeline_is_as_good_as_its_name(student):
    from transformers import pipeline

    folder, *_ = student
    pipe = pipeline("text-generation", str(folder))
    assert code_alpaca.generate(pipe, "Go.", max_new_tokens=6) == code_alpaca.generate(
        str(folder), "Go.", max_new_tokens=6
    )


def test_a_temperature_samples(student):
    folder, *_ = student
    told = dict(max_new_tokens=12, temperature=2.0)
    assert len({code_alpaca.generate(folder, "Add 1.", **told) for _ in range(4)}) > 1


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot load the model"):
        code_alpaca.generate(tmp_path, "Add 1.")
