"""The demo's model: its prompts are those of training, and its responses end where they should."""

from __future__ import annotations

import asyncio
import copy
import json
import shutil
from dataclasses import replace

import pytest
from support import scripted_model
from support.demo import (
    LONG,
    TASK,
    load_model,
    make_settings,
    respond,
    start_response,
    wait_for,
    with_settings,
)

from code_alpaca.core import languages
from code_alpaca.core.prompts import PROMPT_STYLES, default_chat_template, format_prompt
from code_alpaca.release import app


@pytest.mark.parametrize("style", PROMPT_STYLES)
def test_prompts_are_those_of_training_token_by_token(demo_folder, demo_model, style):
    model = with_settings(demo_model, demo_folder, prompt_style=style)
    for task in [(TASK, ""), (TASK, "a = {1}\n\tb"), ("Ж {input} 加 😀", "{x}")]:
        expected = format_prompt(*task, style=style)
        ids, _, _ = model.parse_request(*task, 0, 1)
        assert ids == model.loaded.tokenizer(expected).input_ids


def test_a_model_that_was_trained_with_its_chat_template_gets_it(demo_folder, demo_model):
    model = with_settings(demo_model, demo_folder, prompt_style="chat")
    tokenizer = copy.deepcopy(model.loaded.tokenizer)
    tokenizer.chat_template = default_chat_template(tokenizer)
    model.loaded = replace(model.loaded, tokenizer=tokenizer)
    for task, message in [((TASK, ""), TASK), ((TASK, "x = 1"), f"{TASK}\n\nx = 1")]:
        ids, _, _ = model.parse_request(*task, 0, 1)
        chat = [{"role": "user", "content": message}]
        assert ids == tokenizer.apply_chat_template(
            chat, add_generation_prompt=True, return_dict=False
        )


def test_the_generation_config_of_the_model_changes_no_response(demo_folder, demo_model, tmp_path):
    folder = shutil.copytree(demo_folder, tmp_path / "model")
    path = folder / "generation_config.json"
    config = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**config, "repetition_penalty": 50.0, "num_beams": 2}))
    responses = [
        respond(other, TASK, "", 0, 30).text()
        for other in (demo_model, load_model(folder, prompt_style="alpaca"))
    ]
    assert responses[0] == responses[1]


def test_the_response_is_that_of_generate(demo_model):
    model = demo_model
    stream = respond(model, TASK, "", 0, 60)
    tokenizer = model.loaded.tokenizer
    inputs = tokenizer(format_prompt(TASK), return_tensors="pt")
    inputs.pop("token_type_ids", None)
    output = model.loaded.model.generate(**inputs, max_new_tokens=60, do_sample=False)
    expected = output[0, inputs["input_ids"].shape[1] :]
    assert stream.ids == expected.tolist()
    assert stream.text() == tokenizer.decode(expected, skip_special_tokens=True)
    assert stream.truncation_note() == " Truncated at the limit of 60 tokens."


def test_a_response_ends_where_the_next_turn_begins(demo_model, streams, tmp_path):
    tokenizer = demo_model.loaded.tokenizer
    text = "x = 1\n### Instruction:\n" + "more " * 300
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    prompt, _, _ = demo_model.parse_request(TASK, "", 0, 1)
    scripted_model.save(tmp_path, tokenizer, {tuple(prompt): ids})

    async def read_last_update() -> tuple[str, str, str]:
        model = load_model(tmp_path, prompt_style="alpaca")
        return [update async for update in model.respond(TASK, "", 0, LONG)][-1]

    text, _, status = asyncio.run(read_last_update())
    assert text == "x = 1" and "Truncated" not in status
    (stream,) = streams
    assert len(stream.ids) < len(ids)


def test_at_most_concurrency_responses_are_generated_at_once(demo_folder, demo_model):
    """A stopped response may compute a last token, and the next one waits for it."""
    single = with_settings(demo_model, demo_folder, concurrency=1)
    streams = [start_response(single, TASK, "", 0, LONG) for _ in range(3)]
    first, second, third = streams
    assert first.started.wait(60)
    third.stop()
    assert not second.ids
    first.stop()
    assert second.started.wait(60)
    second.stop()
    wait_for(streams)
    assert not third.ids


def test_settings_come_from_run_json(demo_folder):
    settings = make_settings(demo_folder)
    assert settings.prompt_without_input.endswith("### Response:\n")
    url = f"https://huggingface.co/datasets/some-org/some-data/tree/{'a' * 40}"
    assert settings.datasets == [{"name": "some-org/some-data", "url": url}]
    assert tuple(settings.stops) == PROMPT_STYLES["alpaca_nl"].stops


@pytest.mark.parametrize(
    ("instruction", "language"),
    [
        ("Write a Python function", "python"),
        ("Do it", "python"),
        ("Sort in JavaScript", "javascript"),
        ("Sort in Java.", "java"),
        ("A C++ class", "cpp"),
        ("In C, swap two ints", "c"),
        ("A SQL query", "sql"),
        ("Use C# and LINQ", "csharp"),
        ("A bash one-liner", "bash"),
        ("Let go of it, in Go", "go"),
    ],
)
def test_code_is_highlighted_in_the_language_of_the_instruction(instruction, language):
    assert app.detect_language(instruction, languages.highlighting()) == language


def test_code_is_fenced_and_existing_fences_are_kept():
    assert app.as_markdown("\n\ta = `b`\n", "go") == "```go\n\ta = `b`\n```"
    assert app.as_markdown("Text:\n```sql\nSELECT 1\n```", "python").startswith("Text:\n```sql")
    assert app.as_markdown("\n ", "python").isspace()
