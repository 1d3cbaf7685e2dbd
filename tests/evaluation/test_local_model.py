"""Prompts and completions of a local model, for the tokenizers in use."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from support import scripted_model, tokenizers_in_use
from transformers import AutoTokenizer

import code_alpaca
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.prompts import PROMPT_STYLES, chat_template
from code_alpaca.evaluation.completions import (
    FUNCTION_STOPS,
    CompletionRequest,
    GenerationSettings,
    build_prompt,
)
from code_alpaca.evaluation.local_model import GumbelSampler, LocalModelBackend
from code_alpaca.evaluation.text_generation import truncate_at_stop
from code_alpaca.hub.model_source import find_model
from code_alpaca.problems import load_problems

PROBLEMS = load_problems("mini")[:5]
TEXTS = [problem.prompt + problem.canonical_solution for problem in PROBLEMS]


@pytest.fixture(scope="module", params=tokenizers_in_use.KINDS)
def tokenizer(request):
    return tokenizers_in_use.make(request.param, TEXTS)


@pytest.fixture(scope="module")
def llama():
    return tokenizers_in_use.make("llama-2", TEXTS)


def encode_continuation(tokenizer, prompt, text):
    """Return the token ids with which a model writes `text` after `prompt`."""
    start, both = tokenizer(prompt)["input_ids"], tokenizer(prompt + text)["input_ids"]
    if both[: len(start)] == start:
        return both[len(start) :]
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def save_scripted_model(folder, tokenizer, prompt_format, solve):
    """Write a model that responds to each problem of the mini benchmark with `solve(problem)`."""
    script = {}
    for problem in PROBLEMS:
        prompt, text = build_prompt(problem, prompt_format), solve(problem)
        ids = (
            encode_continuation(tokenizer, prompt, text)
            if prompt_format == "completion"
            else tokenizer(text, add_special_tokens=False)["input_ids"]
        )
        script[tuple(tokenizer(prompt)["input_ids"])] = ids
    scripted_model.save(folder, tokenizer, script)


def complete(folder, settings, batch_size=7, problems=PROBLEMS, num_samples=1):
    """Return the completions of a model by task_id, or by task_id and sample if there are more."""
    completions = {}
    backend = LocalModelBackend(find_model(str(folder)), settings, batch_size)
    backend.complete(
        [CompletionRequest(problem, n) for problem in problems for n in range(num_samples)],
        lambda request, completion: completions.__setitem__(
            request.key if num_samples > 1 else request.problem.task_id, completion
        ),
    )
    return completions


def greedy(prompt_format="completion", max_new_tokens=512):
    return GenerationSettings(prompt_format, 0.0, max_new_tokens, seed=0)


def canonical(problem):
    return problem.canonical_solution


def test_a_completion_keeps_the_indentation_of_its_first_line(tokenizer, tmp_path):
    save_scripted_model(tmp_path, tokenizer, "completion", canonical)
    completions = complete(tmp_path, greedy())
    for problem in PROBLEMS:
        assert completions[problem.task_id].text.rstrip() == problem.canonical_solution.rstrip()
        assert completions[problem.task_id].finish_reason == "stop"


@pytest.mark.parametrize("indentation", ["", "    "])
def test_a_response_is_the_text_that_training_tokenized(tokenizer, tmp_path, indentation):
    def solve(problem):
        return indentation + problem.canonical_solution.strip()

    save_scripted_model(tmp_path, tokenizer, "alpaca", solve)
    completions = complete(tmp_path, greedy("alpaca"), problems=PROBLEMS[:4])
    assert {p.task_id: solve(p) for p in PROBLEMS[:4]} == {
        task_id: completion.text for task_id, completion in completions.items()
    }


def test_a_completion_may_begin_with_text_that_would_end_it_after_a_newline(llama, tmp_path):
    def repeat_prompt(problem):
        return problem.prompt.rstrip() + "\n" + problem.canonical_solution

    save_scripted_model(tmp_path, llama, "completion", repeat_prompt)
    first = PROBLEMS[0]
    completions = complete(tmp_path, greedy(max_new_tokens=600), problems=[first])
    assert first.prompt.endswith("\n") and completions[first.task_id].text.startswith("def ")


def test_a_completion_ends_where_the_function_or_the_turn_does():
    text = "    return 1\n\n\ndef other():\n    pass\nprint(1)"
    stops = PROMPT_STYLES["alpaca"].stops
    assert truncate_at_stop(text, FUNCTION_STOPS) == "    return 1\n\n"
    assert truncate_at_stop("a\n### Instruction:\nb", stops) == "a"
    assert truncate_at_stop("a", stops) == "a"


def test_a_truncated_completion_has_finish_reason_length(llama, tmp_path):
    save_scripted_model(tmp_path, llama, "completion", canonical)
    completions = complete(tmp_path, greedy(max_new_tokens=4))
    assert {completion.finish_reason for completion in completions.values()} == {"length"}


def test_a_prompt_at_which_the_model_fails_does_not_affect_the_others(llama, tmp_path):
    save_scripted_model(tmp_path, llama, "completion", canonical)
    config = scripted_model.ScriptedConfig.from_pretrained(tmp_path)
    failing = PROBLEMS[2]
    ids = " ".join(map(str, llama(failing.prompt)["input_ids"]))
    config.script[ids] = [10**6]  # outside the vocabulary
    config.save_pretrained(tmp_path)
    completions = complete(tmp_path, greedy())
    failed = completions.pop(failing.task_id)
    assert failed.finish_reason == "error" and "Index" in failed.error
    for problem in PROBLEMS:
        if problem != failing:
            assert completions[problem.task_id].text.rstrip() == canonical(problem).rstrip()


def test_a_model_that_fails_at_every_prompt_is_an_error_and_not_a_score(llama, tmp_path):
    script = {tuple(llama(problem.prompt)["input_ids"]): [10**6] for problem in PROBLEMS}
    scripted_model.save(tmp_path, llama, script)
    with pytest.raises(InputError, match="fails at every prompt"):
        complete(tmp_path, greedy(max_new_tokens=16), batch_size=2)


def test_a_completion_stays_within_the_context_window(llama, tmp_path):
    save_scripted_model(tmp_path, llama, "completion", canonical)
    config = scripted_model.ScriptedConfig.from_pretrained(tmp_path)
    window = max(len(llama(problem.prompt)["input_ids"]) for problem in PROBLEMS)
    config.max_position_embeddings = window
    config.save_pretrained(tmp_path)
    completions = complete(tmp_path, greedy())
    for problem in PROBLEMS:
        prompt = llama(problem.prompt)["input_ids"]
        completion = completions[problem.task_id]
        assert len(llama(problem.prompt + completion.text)["input_ids"]) <= window
        if len(prompt) == window:
            assert (completion.text, completion.finish_reason) == ("", "length")


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_completion_does_not_depend_on_its_batch(tiny_model, temperature):
    def texts(batch_size, seed=3):
        settings = GenerationSettings("completion", temperature, 12, seed=seed)
        completions = complete(
            tiny_model, settings, batch_size, PROBLEMS[:4], num_samples=3 if temperature else 1
        )
        return {key: completion.text for key, completion in completions.items()}

    alone = texts(batch_size=1)
    assert alone == texts(batch_size=5)
    if temperature:
        assert len(set(alone.values())) > 9, "each sample has its own seed"
        assert alone != texts(batch_size=5, seed=4)


def test_the_sampler_draws_from_the_softmax():
    logits = torch.tensor([[1.0, 0.0, -1.0, 3.0]])
    settings = GenerationSettings("chat", 2.0, 1, 0)
    sampler = GumbelSampler([CompletionRequest(PROBLEMS[0], 0)], settings, "cpu")
    draws = torch.tensor([sampler(None, logits).argmax() for _ in range(4000)])
    frequencies = torch.bincount(draws, minlength=4) / 4000
    assert torch.allclose(frequencies, torch.softmax(logits[0] / 2, 0), atol=0.03)
    assert logits.tolist() == [[1.0, 0.0, -1.0, 3.0]], "the model's logits are not changed"


def test_the_generation_config_of_a_model_does_not_apply(tiny_model, tmp_path):
    settings = greedy(max_new_tokens=24)
    plain = complete(tiny_model, settings)
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model, copy)
    path = copy / "generation_config.json"
    config = json.loads(path.read_text()) | {
        "repetition_penalty": 1.8, "no_repeat_ngram_size": 2, "num_beams": 3, "do_sample": True,
        "temperature": 2.0, "top_p": 0.5, "min_new_tokens": 20, "suppress_tokens": [5],
    }  # fmt: skip
    path.write_text(json.dumps(config))
    assert complete(copy, settings) == plain
    response = code_alpaca.respond(copy, "Go.", max_new_tokens=24)
    assert response == code_alpaca.respond(tiny_model, "Go.", max_new_tokens=24)


@pytest.fixture(scope="module")
def evaluated(tiny_model, tmp_path_factory):
    """A model folder and the output folder of its evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    model, output = folder / "model", folder / "eval"
    shutil.copytree(tiny_model, model)
    words = ["eval", "--model", str(model), "--limit", "1", "--max_new_tokens", "2"]
    assert main([*words, "--output_dir", str(output)]) == 0
    return model, output


@pytest.mark.parametrize(
    "file",
    [
        "generation_config.json", "config.json", "tokenizer_config.json", "tokenizer.json",
        "chat_template.jinja", "model.safetensors",
    ],
)  # fmt: skip
def test_completions_of_a_changed_model_are_not_reused(evaluated, run_eval, file, capsys):
    model, output = evaluated
    shutil.copytree(output, run_eval.output_dir)
    before = run_eval.samples_file.read_text()
    path = model / file
    content = path.read_bytes() if path.exists() else None
    try:
        with path.open("a") as appended:
            appended.write(" ")
        assert run_eval("--model", model, "--limit", "1", "--max_new_tokens", "2") == 2
    finally:
        path.write_bytes(content) if content is not None else path.unlink()
    error = capsys.readouterr().err
    fact = file.replace("model.safetensors", "weights")
    assert f"model {fact} was " in error and ", now " in error
    assert run_eval.samples_file.read_text() == before


def test_results_record_the_model_the_sampling_and_how_completions_ended(tiny_model, run_eval):
    assert run_eval("--model", tiny_model, "--limit", "3", "--max_new_tokens", "2") == 0
    results = run_eval.results
    assert results.answers.truncated == 3
    assert results.answers.finish_reasons == {"length": 3}
    assert results.model.files["weights"] == results.model.sha256
    assert "generation_config.json" in results.model.files
    assert results.sampling["do_sample"] is False
    assert results.model.dtype in ("float32", "bfloat16")
    assert "3 truncated" in (run_eval.output_dir / "results.md").read_text()
    assert [row["finish_reason"] for row in run_eval.rows] == ["length"] * 3


def test_other_prompts_than_those_of_the_training_are_a_warning(tiny_model, tmp_path, capsys):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    style, *others = PROMPT_STYLES
    (folder / "run.json").write_text(json.dumps({"config": {"prompt_style": style}}))
    template = folder / "chat_template.jinja"
    template.write_text(chat_template(AutoTokenizer.from_pretrained(folder), style))

    def warning(*words):
        shutil.rmtree(tmp_path / "eval", ignore_errors=True)
        assert main(["eval", "--model", str(folder), "--output_dir", str(tmp_path / "eval"),
                     "--limit", "1", "--max_new_tokens", "1", *words]) == 0  # fmt: skip
        lines = capsys.readouterr().out.splitlines()
        return [line for line in lines if line.startswith("warning ")]

    assert warning() == []
    assert warning("--prompt_format", "chat") == []
    (line,) = warning("--prompt_format", others[0])
    assert f"trained with prompt_style {style} and gets prompt_format {others[0]}" in line
    template.write_text(template.read_text().replace(":", "."))
    (line,) = warning()
    assert f"the prompt style {style} changed after the training" in line


def test_the_default_prompts_are_those_of_the_training_else_of_the_chat_template(
    tiny_model, tmp_path, run_eval, capsys
):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    record, template = folder / "run.json", folder / "chat_template.jinja"

    def used(*words):
        shutil.rmtree(run_eval.output_dir, ignore_errors=True)
        assert run_eval("--model", folder, "--limit", "1", "--max_new_tokens", "1", *words) == 0
        return run_eval.results.prompt_format, capsys.readouterr().out

    prompt_format, out = used()
    assert prompt_format == "alpaca"
    assert "prompt format: alpaca (the model has neither a run.json nor a chat template)" in out
    template.write_text(
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
        "<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    )
    prompt_format, out = used()
    assert prompt_format == "chat"
    assert "prompt format: chat (the model's chat template)" in out
    prompt_format, out = used("--prompt_format", "completion")
    assert prompt_format == "completion"
    assert "prompt format: completion (set by prompt_format)" in out
    record.write_text(json.dumps({"config": {"prompt_style": "alpaca_nl"}}))
    prompt_format, out = used()
    assert prompt_format == "alpaca_nl"
    assert "prompt format: alpaca_nl (that of its training, in run.json)" in out
    record.write_text(json.dumps({"config": {}}))  # of a version with only one style
    assert used()[0] == "alpaca"


def test_a_prompt_style_of_another_version_is_refused_unless_overridden(
    tiny_model, tmp_path, run_eval, capsys
):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "run.json").write_text(json.dumps({"config": {"prompt_style": "qa"}}))
    words = ["--model", folder, "--limit", "1", "--max_new_tokens", "1"]
    assert run_eval(*words) == 2
    error = capsys.readouterr().err
    assert "this version has no prompt style 'qa'" in error and "or set prompt_format" in error
    assert run_eval(*words, "--prompt_format", "alpaca") == 0
    assert "does not have the prompts of its training" in capsys.readouterr().out


def test_a_base_model_that_completes_every_problem_scores_100_percent(
    llama, tmp_path, run_eval, capsys
):
    save_scripted_model(tmp_path / "model", llama, "completion", canonical)
    words = ["--model", tmp_path / "model", "--prompt_format", "completion"]
    assert run_eval(*words, "--limit", len(PROBLEMS)) == 0
    assert run_eval.results.pass_at(1).value == 1.0
    assert "truncated" not in capsys.readouterr().out
