"""What a local model is asked and how its answer is read, for the tokenizers in use."""

from __future__ import annotations

import json
import shutil

import pytest
from support import scripted_model, tokenizers_in_use

import code_alpaca
from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.evaluation.completions import CompletionRequest, GenerationSettings, build_prompt
from code_alpaca.evaluation.local_model import complete_with_model
from code_alpaca.problems import load_problems
from code_alpaca.training.scratch_model import ScratchShape, build_scratch_model

PROBLEMS = load_problems("mini")[:5]
TEXTS = [problem.prompt + problem.canonical_solution for problem in PROBLEMS]


@pytest.fixture(scope="module", params=tokenizers_in_use.KINDS)
def tokenizer(request):
    return tokenizers_in_use.make(request.param, TEXTS)


def continuation(tokenizer, prompt, text):
    """The ids by which a model writes `text` after `prompt`."""
    start, both = tokenizer(prompt)["input_ids"], tokenizer(prompt + text)["input_ids"]
    if both[: len(start)] == start:
        return both[len(start) :]
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def perfect_student(folder, tokenizer, prompt_format, answer_of):
    """Write a model that answers each problem of the mini benchmark with `answer_of(problem)`."""
    script = {}
    for problem in PROBLEMS:
        prompt, answer = build_prompt(problem, prompt_format), answer_of(problem)
        ids = (
            continuation(tokenizer, prompt, answer)
            if prompt_format == "completion"
            else tokenizer(answer, add_special_tokens=False)["input_ids"]
        )
        script[tuple(tokenizer(prompt)["input_ids"])] = ids
    scripted_model.save(folder, tokenizer, script)


def answers(folder, settings, batch_size=7, problems=PROBLEMS):
    found = {}
    complete_with_model(
        str(folder), [CompletionRequest(problem, 0) for problem in problems],
        lambda job, answer: found.__setitem__(job.problem.task_id, answer),
        settings, batch_size=batch_size, dtype="auto",
    )  # fmt: skip
    return found


def test_a_completion_keeps_the_indentation_of_its_first_line(tokenizer, tmp_path):
    perfect_student(tmp_path, tokenizer, "completion", lambda p: p.canonical_solution)
    found = answers(tmp_path, GenerationSettings("completion", 0.0, 512, seed=0))
    for problem in PROBLEMS:
        assert found[problem.task_id].text.rstrip() == problem.canonical_solution.rstrip()
        assert found[problem.task_id].finish_reason == "stop"


@pytest.mark.parametrize("beginning", ["", "    "])
def test_an_answer_is_the_text_that_training_tokenized(tokenizer, tmp_path, beginning):
    def answer(problem):
        return beginning + problem.canonical_solution.strip()

    perfect_student(tmp_path, tokenizer, "alpaca", answer)
    found = answers(tmp_path, GenerationSettings("alpaca", 0.0, 512, seed=0), problems=PROBLEMS[:4])
    assert {p.task_id: answer(p) for p in PROBLEMS[:4]} == {k: a.text for k, a in found.items()}


@pytest.fixture(scope="module")
def llama():
    return tokenizers_in_use.make("llama-2", TEXTS)


def test_an_answer_may_begin_with_what_ends_it_after_a_newline(llama, tmp_path):
    def whole(problem):
        return problem.prompt.rstrip() + "\n" + problem.canonical_solution

    perfect_student(tmp_path, llama, "completion", whole)
    found = answers(
        tmp_path, GenerationSettings("completion", 0.0, 600, seed=0), problems=PROBLEMS[:1]
    )
    assert PROBLEMS[0].prompt.endswith("\n") and found[PROBLEMS[0].task_id].text.startswith("def ")


def test_a_cut_answer_says_so_and_one_that_ended_does_not(llama, tmp_path):
    perfect_student(tmp_path, llama, "completion", lambda p: p.canonical_solution)
    short = answers(tmp_path, GenerationSettings("completion", 0.0, 4, seed=0))
    assert {answer.finish_reason for answer in short.values()} == {"length"}


def test_one_prompt_that_the_model_fails_at_has_no_answer_and_the_others_have_theirs(
    llama, tmp_path
):
    perfect_student(tmp_path, llama, "completion", lambda p: p.canonical_solution)
    config = scripted_model.ScriptedConfig.from_pretrained(tmp_path)
    bad = PROBLEMS[2]
    ids = " ".join(map(str, llama(bad.prompt)["input_ids"]))
    config.script[ids] = [10**6]  # beyond the vocabulary
    config.save_pretrained(tmp_path)
    found = answers(tmp_path, GenerationSettings("completion", 0.0, 512, seed=0))
    assert found[bad.task_id].finish_reason == "error" and "Index" in found[bad.task_id].error
    for problem in PROBLEMS:
        if problem != bad:
            assert found[problem.task_id].text.rstrip() == problem.canonical_solution.rstrip()


def test_a_model_that_fails_at_every_prompt_is_an_error_and_not_a_score(llama, tmp_path):
    script = {tuple(llama(problem.prompt)["input_ids"]): [10**6] for problem in PROBLEMS}
    scripted_model.save(tmp_path, llama, script)
    with pytest.raises(InputError, match="fails at every prompt"):
        answers(tmp_path, GenerationSettings("completion", 0.0, 16, seed=0), batch_size=2)


def test_an_answer_stays_within_the_window_of_its_model(llama, tmp_path):
    perfect_student(tmp_path, llama, "completion", lambda p: p.canonical_solution)
    config = scripted_model.ScriptedConfig.from_pretrained(tmp_path)
    lengths = sorted(len(llama(problem.prompt)["input_ids"]) for problem in PROBLEMS)
    config.max_position_embeddings = lengths[-1]
    config.save_pretrained(tmp_path)
    found = answers(tmp_path, GenerationSettings("completion", 0.0, 512, seed=0))
    for problem in PROBLEMS:
        prompt = llama(problem.prompt)["input_ids"]
        answer = found[problem.task_id]
        used = len(llama(problem.prompt + answer.text)["input_ids"])
        assert used <= max(lengths[-1], len(prompt))
        if len(prompt) == lengths[-1]:
            assert (answer.text, answer.finish_reason) == ("", "length")


@pytest.fixture(scope="module")
def random_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("random")
    for part in build_scratch_model(
        TEXTS, ScratchShape(vocab_size=400, hidden_size=32, num_layers=1, num_heads=2)
    ):
        part.save_pretrained(folder)
    return folder


def set_generation_config(folder, **values):
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_greedy_is_greedy_whatever_the_generation_config_says(random_model, tmp_path):
    settings = GenerationSettings("completion", 0.0, 24, seed=0)
    plain = answers(random_model, settings)
    copy = tmp_path / "copy"
    shutil.copytree(random_model, copy)
    set_generation_config(
        copy, repetition_penalty=1.8, no_repeat_ngram_size=2, num_beams=3, do_sample=True,
        temperature=2.0, top_p=0.5, min_new_tokens=20, suppress_tokens=[5],
    )  # fmt: skip
    assert answers(copy, settings) == plain
    ask = dict(max_new_tokens=24)
    assert code_alpaca.respond(copy, "Go.", **ask) == code_alpaca.respond(
        random_model, "Go.", **ask
    )


@pytest.mark.parametrize(
    "change",
    [
        "generation_config.json", "config.json", "tokenizer_config.json", "tokenizer.json",
        "chat_template.jinja", "model.safetensors",
    ],
)  # fmt: skip
def test_answers_of_another_model_are_not_reused(random_model, tmp_path, change, capsys):
    model = tmp_path / "model"
    shutil.copytree(random_model, model)
    words = ["eval", "--model", str(model), "--limit", "1", "--max_new_tokens", "2",
             "--output_dir", str(tmp_path / "eval")]  # fmt: skip
    assert main(words) == 0
    held = (tmp_path / "eval/samples.jsonl").read_text()
    with (model / change).open("a") as file:
        file.write(" ")
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"model {change.replace('model.safetensors', 'weights')}: " in said
    assert " there, " in said and (tmp_path / "eval/samples.jsonl").read_text() == held


def test_answers_of_an_earlier_version_are_set_aside(random_model, tmp_path):
    """They were decoded by other rules, and are kept under another name."""
    words = ["eval", "--model", str(random_model), "--limit", "1", "--max_new_tokens", "2",
             "--output_dir", str(tmp_path)]  # fmt: skip
    assert main(words) == 0
    (tmp_path / "answers.json").unlink()
    row = json.loads((tmp_path / "samples.jsonl").read_text())
    (tmp_path / "samples.jsonl").write_text(json.dumps({**row, "run": "before"}) + "\n")
    assert main(words) == 0
    assert json.loads((tmp_path / "samples.jsonl").read_text()) == row
    assert json.loads((tmp_path / "old-samples.jsonl").read_text())["run"] == "before"


def test_results_record_the_model_the_sampling_and_how_answers_ended(random_model, tmp_path):
    words = ["eval", "--model", str(random_model), "--limit", "3", "--max_new_tokens", "2",
             "--output_dir", str(tmp_path)]  # fmt: skip
    assert main(words) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["answers"]["truncated"] == 3
    assert results["answers"]["finish_reasons"] == {"length": 3}
    assert results["model"]["files"]["weights"] == results["model"]["sha256"]
    assert "generation_config.json" in results["model"]["files"]
    assert results["sampling"]["do_sample"] is False
    assert results["model"]["dtype"] in ("float32", "bfloat16")
    assert "3 truncated" in (tmp_path / "results.md").read_text()
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [row["finish_reason"] for row in rows] == ["length"] * 3


def test_a_base_model_that_completes_every_problem_scores_all_of_them(llama, tmp_path, capsys):
    perfect_student(tmp_path / "model", llama, "completion", lambda p: p.canonical_solution)
    words = ["eval", "--model", str(tmp_path / "model"), "--prompt_format", "completion",
             "--limit", str(len(PROBLEMS)), "--output_dir", str(tmp_path / "eval")]  # fmt: skip
    assert main(words) == 0
    assert json.loads((tmp_path / "eval/results.json").read_text())["pass@1"] == 1.0
    assert "truncated" not in capsys.readouterr().out
