"""`code_alpaca.respond` continues exactly the prompt of the model's training."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch

import code_alpaca
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import PROMPT_STYLES, chat_template, format_prompt
from code_alpaca.evaluation.inference import encode_prompt
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

WINDOW = 512  # tokens


@pytest.fixture(scope="module", params=[*PROMPT_STYLES, None])
def trained(request, tmp_path_factory):
    """A random model and its prompt style; with None it has no chat template."""
    folder = tmp_path_factory.mktemp("trained")
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
    """Return the greedy continuation, computed from logits without `generate`."""
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    for _ in range(count):
        with torch.no_grad():
            best = model(ids).logits[0, -1].argmax()
        if best == tokenizer.eos_token_id:
            break
        ids = torch.cat([ids, best.reshape(1, 1)], dim=1)
    return tokenizer.decode(ids[0, len(tokenizer(prompt)["input_ids"]) :], skip_special_tokens=True)


@pytest.mark.parametrize("input", ["", "x = 1\n  y"])
def test_a_response_is_the_greedy_continuation_of_the_prompt(trained, input):
    folder, model, tokenizer, style = trained
    expected = greedy(model, tokenizer, format_prompt("Add 1.", input, style=style), 12)
    response = code_alpaca.respond(folder, "Add 1.", input, max_new_tokens=12)
    assert response == expected and response


def test_a_pipeline_responds_like_its_folder_and_keeps_its_generation_config(trained):
    from transformers import pipeline

    folder, *_ = trained
    pipe = pipeline("text-generation", str(folder))
    own_config = pipe.model.generation_config
    response = code_alpaca.respond(pipe, "Go.", max_new_tokens=6)
    assert response == code_alpaca.respond(str(folder), "Go.", max_new_tokens=6)
    assert pipe.model.generation_config is own_config


def test_a_temperature_samples(trained):
    folder, *_ = trained
    options = dict(max_new_tokens=12, temperature=2.0)
    assert len({code_alpaca.respond(folder, "Add 1.", **options) for _ in range(4)}) > 1


def test_a_prompt_beyond_the_context_window_is_refused_and_a_response_is_truncated(trained):
    folder, _, tokenizer, style = trained
    with pytest.raises(InputError, match="context window 512, response included"):
        code_alpaca.respond(folder, "Add 1. " * 300)
    prompt = len(tokenizer(format_prompt("Add 1.", style=style))["input_ids"])
    response = code_alpaca.respond(folder, "Add 1.", max_new_tokens=10_000)
    assert len(tokenizer(response, add_special_tokens=False)["input_ids"]) <= WINDOW - prompt


def test_an_input_that_the_chat_template_would_drop_is_part_of_the_message(trained):
    tokenizer = copy.deepcopy(trained[2])
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    ids = encode_prompt(tokenizer, "Go.", "x = 1")
    assert ids == tokenizer("Go.\n\nx = 1", add_special_tokens=False)["input_ids"]


def test_a_retrained_model_is_reloaded(trained, tmp_path):
    _, model, tokenizer, _ = trained
    tokenizer.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    before = code_alpaca.respond(tmp_path, "Go.", max_new_tokens=12)
    retrained = copy.deepcopy(model)
    with torch.no_grad():
        retrained.model.norm.weight.zero_()  # all logits are equal: greedy decoding takes token 0
    retrained.save_pretrained(tmp_path)
    assert code_alpaca.respond(tmp_path, "Go.", max_new_tokens=12) != before


@pytest.mark.parametrize("broken", ["model.safetensors", "tokenizer.json", "config.json"])
def test_broken_files_are_one_line(trained, tmp_path, broken):
    folder, *_ = trained
    shutil.copytree(folder, tmp_path / "model")
    (tmp_path / "model" / broken).write_bytes(b"{nothing")
    with pytest.raises(InputError, match="cannot load model"):
        code_alpaca.respond(tmp_path / "model", "Go.")
    with pytest.raises(InputError, match="which has no revision"):
        code_alpaca.respond(folder, "Go.", revision="v1.0.0")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot load model"):
        code_alpaca.respond(tmp_path, "Add 1.")
