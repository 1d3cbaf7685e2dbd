"""An answer is the greedy continuation of the very prompt of training."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch

import code_alpaca
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import chat_template, format_prompt
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

WINDOW = 512  # tokens


@pytest.fixture(scope="module", params=["alpaca", "alpaca_nl", None])
def student(request, tmp_path_factory):
    """A random model, and the style of its prompt; None: it has no chat template."""
    folder = tmp_path_factory.mktemp("student")
    model, tokenizer = build_scratch_model(
        [format_prompt("Add 1 to x.") + "return x + 1"],
        ScratchShape(vocab_size=300, hidden_size=32, num_layers=1, num_heads=2),
        seed=3,
    )
    if request.param:
        tokenizer.chat_template = chat_template(tokenizer, request.param)
    model.config.max_position_embeddings = WINDOW
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
    answer = code_alpaca.respond(folder, "Add 1.", input, max_new_tokens=12)
    assert answer == expected and answer


def test_a_pipeline_is_as_good_as_its_name(student):
    from transformers import pipeline

    folder, *_ = student
    pipe = pipeline("text-generation", str(folder))
    assert code_alpaca.respond(pipe, "Go.", max_new_tokens=6) == code_alpaca.respond(
        str(folder), "Go.", max_new_tokens=6
    )


def test_a_temperature_samples(student):
    folder, *_ = student
    told = dict(max_new_tokens=12, temperature=2.0)
    assert len({code_alpaca.respond(folder, "Add 1.", **told) for _ in range(4)}) > 1


def test_a_prompt_that_does_not_fit_is_refused_and_an_answer_is_cut(student):
    folder, _, tokenizer, style = student
    with pytest.raises(InputError, match="this model reads 512 at most"):
        code_alpaca.respond(folder, "Add 1. " * 300)
    prompt = len(tokenizer(format_prompt("Add 1.", style=style))["input_ids"])
    answer = code_alpaca.respond(folder, "Add 1.", max_new_tokens=10_000)
    assert len(tokenizer(answer, add_special_tokens=False)["input_ids"]) <= WINDOW - prompt


def test_an_input_is_never_dropped_in_silence(student, tmp_path):
    _, model, tokenizer, _ = student
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    assert code_alpaca.respond(tmp_path, "Go.", max_new_tokens=2) is not None
    with pytest.raises(InputError, match="no place for an input"):
        code_alpaca.respond(tmp_path, "Go.", "x = 1", max_new_tokens=2)


def test_a_model_that_was_trained_again_is_loaded_again(student, tmp_path):
    _, model, tokenizer, _ = student
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    before = code_alpaca.respond(tmp_path, "Go.", max_new_tokens=12)
    again = copy.deepcopy(model)
    with torch.no_grad():
        again.model.norm.weight.zero_()  # all tokens are alike, and the first one is taken
    again.save_pretrained(tmp_path)
    assert code_alpaca.respond(tmp_path, "Go.", max_new_tokens=12) != before


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "config.json"])
def test_broken_files_are_one_line(student, tmp_path, broken):
    folder, *_ = student
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / broken).write_bytes(b"{nothing")
    with pytest.raises(InputError, match="cannot load model"):
        code_alpaca.respond(tmp_path / "model", "Go.")
    with pytest.raises(InputError, match="which has no revision"):
        code_alpaca.respond(folder, "Go.", revision="v1.0.0")


def test_a_model_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot load model"):
        code_alpaca.respond(tmp_path, "Add 1.")
