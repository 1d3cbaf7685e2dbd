"""A release folder contains what a user needs; its card shows only numbers of its files."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from support.model_releases import release_command, release_config, update_json

from code_alpaca import __version__
from code_alpaca.cli import main
from code_alpaca.core import fs
from code_alpaca.core.config import parse
from code_alpaca.core.prompts import format_prompt
from code_alpaca.core.records import RunRecord
from code_alpaca.evaluation.config import EvalConfig
from code_alpaca.release.card import render_model_card
from code_alpaca.release.facts import read_facts

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def read_card(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def read_complete_card(folder):
    """Return a card without gaps, whose links into its folder exist, as text and parsed."""
    text = read_card(folder)
    for gap in ("None", "More Information", "{{", "{%", "undefined", "[]", "nan"):
        assert gap not in text.replace("{instruction}", "").replace("{input}", ""), gap
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert link.startswith("https://") or (folder / link).is_file(), link
    card = ModelCard.load(folder / "README.md")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == card.data.license
    return text, card


@pytest.fixture
def tuned(trained):
    """Return a function that makes the model look fine-tuned from the Hub."""

    def tune(base="org/base", commit=COMMIT):
        origin = {"version": "1.2.0", "teacher": "gpt-x", "strategy": "self_instruct",
                  "license": "cc-by-4.0"}  # fmt: skip
        dataset = {"name": "org/tasks", "config": "default", "revision": commit}
        path = trained.model_dir / "run.json"
        config = {**json.loads(path.read_text())["config"], "from_scratch": False}
        update_json(
            path, base_model=base, base_revision=commit, dataset=dataset,
            datasets=[{**dataset, "weight": 1.0, "origin": origin}],
            config={**config, "model_name_or_path": base},
        )  # fmt: skip
        return trained

    return tune


# -- the folder ----------------------------------------------------------------------------------


def test_the_folder_contains_what_a_user_needs_and_no_more(trained, release, tmp_path):
    out = tmp_path / "release"
    (trained.model_dir / "training_args.bin").write_bytes(b"a pickle")
    assert any(trained.model_dir.glob("checkpoint-*"))
    assert release(out) == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "README.md", "assets/card.md", "assets/loss.png", "chat_template.jinja", "config.json",
        "generation_config.json", "model.safetensors", "release.json", "results.json", "run.json",
        "tokenizer.json", "tokenizer_config.json", "training_config.yaml",
    ]  # fmt: skip
    for path in (trained.model_dir / "run.json", trained.results / "results.json"):
        text = json.dumps(json.loads(path.read_text()))
        released = json.dumps(json.loads((out / path.name).read_text()))
        assert released == re.sub(r'"/[^"]*/([^"/]+)"', r'"\1"', text)  # without local folders
    assert fs.weights_sha256(out) == fs.weights_sha256(trained.model_dir)


def test_the_same_command_writes_the_same_bytes_and_another_version_replaces_them(
    release, tmp_path
):
    out = tmp_path / "release"
    contents = []
    for _ in range(2):
        assert release(out) == 0
        contents.append({p.name: p.read_bytes() for p in out.rglob("*") if p.is_file()})
    assert contents[0] == contents[1]
    assert release(out, "--model_version", "0.2.0") == 0
    assert "# code-alpaca-model 0.2.0" in read_card(out)


def test_an_adapter_is_released_without_local_paths(tuned, release, tmp_path):
    adapter = tuned().model_dir / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"adapter")
    (adapter / "adapter_config.json").write_text(
        json.dumps({"r": 8, "base_model_name_or_path": "/home/me/secret/base"})
    )
    (adapter / "training_args.bin").write_bytes(b"a pickle")
    assert release(tmp_path / "r", "--base_model", "org/base") == 0
    released = tmp_path / "r/adapter"
    assert {path.name for path in released.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    config = json.loads((released / "adapter_config.json").read_text())
    assert config == {"r": 8, "base_model_name_or_path": "org/base", "revision": COMMIT}


def test_no_local_path_and_no_secret_is_released(trained, release, tmp_path):
    """Also if a benchmark or a key is the path of a file."""
    run = json.loads((trained.model_dir / "run.json").read_text())
    config = {**run["config"], "hub_token": "hf_secret", "run_name": "../private/x"}
    note = {"/home/me/private": "~/private/y"}
    update_json(trained.model_dir / "run.json", config=config, note=note)
    update_json(trained.results / "results.json", benchmark="/home/me/private/bench.jsonl")
    (trained.model_dir / "tokenizer_secret.txt").write_text("hf_secret")
    out = tmp_path / "r"
    assert release(out) == 0
    assert "| bench.jsonl | 20 | pass@1 |" in read_card(out)
    for path in (p for p in out.rglob("*") if p.suffix in (".json", ".md", ".yaml", ".txt")):
        text = path.read_text()
        assert "private/" not in text and "hf_secret" not in text, path


def test_the_released_config_trains_the_same_weights(trained_once, trained, release, tmp_path):
    assert release(tmp_path / "r") == 0
    words = ["--config", str(tmp_path / "r/training_config.yaml"), "--output_dir"]
    rows = ["--dataset_name", str(trained_once.model_dir.parent / "rows.json")]  # on no Hub
    assert main(["sft", *words, str(tmp_path / "again"), *rows]) == 0
    assert fs.weights_sha256(tmp_path / "again") == fs.weights_sha256(trained.model_dir)


def test_a_dry_run_writes_nothing(release, tmp_path, capsys):
    assert release(tmp_path / "r", "--dry_run") == 0
    output = capsys.readouterr().out
    assert "model.safetensors" in output and "nothing was written or sent" in output
    assert not (tmp_path / "r").exists() and not any(Path(tmp_path).glob(".r*"))


# -- the card ------------------------------------------------------------------------------------


def test_the_card_of_a_model_trained_from_scratch_shows_the_numbers_of_its_files(release, tmp_path):
    out = tmp_path / "r"
    assert release(out, "--license", "apache-2.0") == 0
    text, card = read_complete_card(out)
    run = RunRecord.load(out)
    for fact in ("| mini | 20 | pass@1 | 0.0% | 0.0% to 16.1% |", "none: trained from scratch",
                 format_prompt("{instruction}"), format_prompt("{instruction}", "{input}"),
                 run.dataset.revision, f"{run.parameters:,} parameters",
                 f"{run.first_loss:.3f} at the first step logged, {run.last_loss:.3f} at the last",
                 "| `learning_rate` | 0.002 |", "contains matches of 0 of 20 problems",
                 "![Training loss](assets/loss.png)",
                 f"torch {run.versions['torch']}, transformers",
                 "Read the code before you run it"):  # fmt: skip
        assert fact in text, fact
    (result,) = card.data.eval_results
    assert result.metric_value == 0.0 and result.metric_name == "pass@1"
    assert result.source_url is None  # the release is on no Hub
    assert card.data.base_model is None and card.data.datasets is None


def test_the_card_of_a_fine_tuned_model_names_its_origin_by_commit(tuned, release, tmp_path):
    tuned()
    assert release(tmp_path / "r", "--license", "mit", "--base_license", "apache-2.0") == 0
    text, card = read_complete_card(tmp_path / "r")
    assert card.data.base_model == "org/base" and card.data.datasets == ["org/tasks"]
    assert card.data.get("base_model_relation") == "finetune"
    for fact in (f"https://huggingface.co/datasets/org/tasks/tree/{COMMIT}", "version 1.2.0",
                 f"https://huggingface.co/org/base/tree/{COMMIT}", "`gpt-x`", "`cc-by-4.0`",
                 "The base model: `apache-2.0`",
                 "do not show what fine-tuning improved"):  # fmt: skip
        assert fact in text, fact
    assert "scratch_" not in text
    config = yaml.safe_load((tmp_path / "r/training_config.yaml").read_text())
    assert config["dataset_revision"] == COMMIT and config["model_revision"] == COMMIT
    assert config["model_name_or_path"] == "org/base" and "output_dir" not in config


def test_the_card_describes_the_embedded_teacher_and_decontamination(trained):
    facts = read_facts(trained.model_dir, [trained.results])
    origin = {"teacher": "offline-teacher", "strategy": "self_instruct", "embedded_teacher": True,
              "decontaminated": ["mini"]}  # fmt: skip
    values = facts.training.as_dict()
    values["datasets"][0]["origin"] = origin
    results = facts.results["mini"].model_copy(update={"uncontaminated": None})
    facts = replace(facts, training=RunRecord(**values), results={"mini": results})
    text = render_model_card(release_config(trained), facts)
    assert "a grammar for trying the pipeline, not a language model" in text
    assert "was decontaminated against them when it was made; its card reports the matches" in text


def test_the_command_that_repeats_a_measurement_takes_the_arguments_of_a_server(trained):
    facts = read_facts(trained.model_dir, [trained.results])
    mini = facts.results["mini"]
    served = {"engine": "vllm", "serving_args": ["--dtype", "float16"], "k": [1, 2]}
    results = mini.model_copy(update={"config": {**mini.config, **served}})
    card = render_model_card(release_config(trained), replace(facts, results={"mini": results}))
    (line,) = [line for line in card.splitlines() if "eval --benchmark mini" in line]
    words = shlex.split(line)[2 : shlex.split(line).index("--output_dir")]
    config = parse(EvalConfig, [*words, "--num_samples", "2", "--temperature", "1"])
    assert (config.engine, config.serving_args, config.k) == tuple(served.values())


def test_several_benchmarks_are_compared_with_the_base_model(tuned, tmp_path, capsys):
    model_dir, results = tuned()
    more, base = tmp_path / "more", tmp_path / "base"
    lines = (results / "samples.jsonl").read_text().splitlines()
    measured = json.loads((results / "results.json").read_text())
    for folder, name, passed in ((results, "mini", 12), (more, "other", 3), (base, "mini", 0)):
        folder.mkdir(exist_ok=True)
        rows = [
            {**json.loads(line), "status": "passed" if n < passed else "failed"}
            for n, line in enumerate(lines)
        ]
        (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, rows)))
        values = measured | {"benchmark": name, "pass@1": passed / 20}
        (folder / "results.json").write_text(json.dumps(values))
    out = tmp_path / "r"
    words = ["release", "--model_dir", str(model_dir), "--results", f"{results},{more}",
             "--base_results", str(base), "--output_dir", str(out)]  # fmt: skip
    assert main(words) == 2
    assert "and training started from org/base; run eval with that" in capsys.readouterr().err
    update_json(base / "results.json", model={"name": "org/base", "sha256": None},
                config={**measured["config"], "temperature": 0.5})  # fmt: skip
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "was measured with temperature 0.5, the fine-tuned model with 0.0" in error
    update_json(base / "results.json", config=measured["config"])
    assert main(words) == 0
    text, card = read_complete_card(out)
    assert [r.metric_value for r in card.data.eval_results] == [0.6, 0.15]
    assert "12 problems won and 0 lost, p = 0.00049" in text and "+60.0 points" in text
    assert json.loads((out / "results-2.json").read_text())["benchmark"] == "other"
    assert json.loads((out / "comparison.json").read_text())["mini"]["ours"] == 0.6


def test_contamination_and_an_insecure_sandbox_are_reported(trained, release, tmp_path):
    clean = {"training_data": "rows", "revision": "sha256 ab", "matched": ["mini/1", "mini/2"],
             "problems": 18, "pass@1": 0.5, "pass@1_interval": [0.25, 0.75]}  # fmt: skip
    sandbox = {"backend": "rlimit", "canary_escaped": ["read_secret", "network"]}
    update_json(trained.results / "results.json", uncontaminated=clean, sandbox=sandbox)
    assert release(tmp_path / "r") == 0
    text, _ = read_complete_card(tmp_path / "r")
    assert "matches of 2 of 20 problems" in text
    assert "On the other 18 problems: pass@1 50.0%" in text
    assert "(a test program escaped by: read_secret, network)" in text


def test_a_card_states_that_the_sandbox_is_not_recorded(trained, release, tmp_path):
    update_json(trained.results / "results.json", sandbox=None)
    assert release(tmp_path / "r") == 0
    text, _ = read_complete_card(tmp_path / "r")
    assert "The sandbox in which programs ran is not recorded." in text


def test_an_adapter_is_served_with_its_own_tokenizer(tuned):
    trained = tuned()
    facts = replace(read_facts(trained.model_dir, [trained.results]), adapter="alone")
    facts.training.config["lora_r"] = 24
    text = render_model_card(release_config(trained, hub_model_id="me/model"), facts)
    for line in ("hf download me/model --revision v0.1.0 --local-dir model",
                 f"vllm serve org/base --revision {COMMIT} --tokenizer model \\",
                 "    --enable-lora --max-lora-rank 32 --lora-modules model=model",
                 'AutoPeftModelForCausalLM.from_pretrained("me/model", revision="v0.1.0")',
                 '    model="model", messages=[task]'):  # fmt: skip
        assert line in text, line
    text = render_model_card(release_config(trained), facts)
    assert "hf download" not in text and "--tokenizer path/to/this/folder" in text


def test_the_model_index_links_to_the_released_results(trained):
    facts = read_facts(trained.model_dir, [trained.results])
    card = render_model_card(release_config(trained, hub_model_id="me/model"), facts)
    (result,) = ModelCard(card).data.eval_results
    assert result.source_url == "https://huggingface.co/me/model/blob/v0.1.0/results.json"


# -- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model_version", "1"], "not SemVer"),
        (["--results", "missing.json"], "cannot read missing.json"),
        (["--model_dir", "missing"], "code-alpaca sft writes it"),
        (["--hub_model_id", "me"], "use ORG/NAME"),
        (["--base_model", "org/base"], "was trained from scratch"),
        (["--weight_diff"], "trained from scratch"),
        (["--space", "me/space"], "set hub_model_id as well"),
        (["--hub_revision", ".."], "is not a branch name"),
        (["--hub_revision=-x"], "is not a branch name"),
        (["--hub_revision", "a//b"], "is not a branch name"),
        (["--hub_revision", "a/"], "is not a branch name"),
        (["--hub_revision", "v1.0.0"], "versions are tags"),
        (["--dataset_card", "nowhere.md"], "is not a file"),
        (["--base_results", "nowhere"], "cannot read nowhere"),
    ],
)
def test_bad_input_is_refused_in_one_line(refused, tmp_path, words, message):
    error = refused(tmp_path / "r", *words)
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_base_model_that_is_not_on_the_hub_must_be_named(tuned, release, tmp_path, refused):
    tuned(base=str(tmp_path / "base"), commit=None)
    assert "name it with --base_model ORG/NAME" in refused(tmp_path / "r")
    assert release(tmp_path / "r", "--base_model", "org/base") == 0
    assert str(tmp_path) not in read_card(tmp_path / "r")


def test_results_of_other_weights_are_refused(trained, refused, tmp_path):
    weights = trained.model_dir / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert "does not measure the weights" in refused(tmp_path / "r")


def test_results_of_a_part_of_the_benchmark_are_refused(trained, refused, tmp_path):
    path = trained.results / "results.json"
    update_json(path, config={**json.loads(path.read_text())["config"], "limit": 3})
    assert "run eval without limit" in refused(tmp_path / "r")


@pytest.mark.parametrize("style", ["alpaca_nl", None])
def test_a_chat_template_that_renders_another_prompt_is_refused(trained, refused, tmp_path, style):
    path = trained.model_dir / "chat_template.jinja"
    if style:
        config = json.loads((trained.model_dir / "run.json").read_text())["config"]
        update_json(trained.model_dir / "run.json", config={**config, "prompt_style": style})
    else:
        path.write_text(path.read_text().replace("### Response:", "### Response"))
    assert "does not render the training prompt" in refused(tmp_path / "r")
    path.unlink()
    assert "has no chat template" in refused(tmp_path / "r")


def test_a_model_with_a_prompt_style_of_another_version_is_refused(trained, refused, tmp_path):
    config = json.loads((trained.model_dir / "run.json").read_text())["config"]
    update_json(trained.model_dir / "run.json", config={**config, "prompt_style": "qa"})
    assert (
        "this version has no prompt style 'qa', which run.json of the model names; install the "
        f"version of code-alpaca that trained the model ({__version__}), or add the style"
    ) in refused(tmp_path / "r")


@pytest.mark.parametrize("manifest", [None, "{}", '{"version": "1.0.0", "sha256": {}}'])
def test_a_folder_that_is_not_a_release_is_not_replaced(refused, tmp_path, manifest):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("words")
    if manifest:
        (precious / "release.json").write_text(manifest)
    assert "choose another output_dir" in refused(precious)
    assert (precious / "chapter1.txt").read_text() == "words"


def test_a_file_that_was_added_to_a_release_is_not_lost(release, tmp_path, refused):
    out = tmp_path / "r"
    assert release(out) == 0
    (out / "notes.md").write_text("mine")
    assert "notes.md is not part of the release and would be lost" in refused(
        out, "--model_version", "0.2.0"
    )
    assert (out / "notes.md").read_text() == "mine"


def test_a_folder_that_contains_an_input_is_not_replaced(trained, refused, tmp_path):
    (tmp_path / "release.json").write_text('{"version": "1.0.0", "sha256": {}}')
    for folder in (tmp_path, trained.model_dir, trained.results):
        assert "choose another" in refused(folder)
    assert (trained.model_dir / "model.safetensors").exists()
    (trained.model_dir / "model.safetensors").unlink()
    assert "contains no weights" in refused(tmp_path / "r")
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("key", ["parameters", "hardware", "counts", "seconds", "loss", "datasets"])
def test_a_run_json_without_a_number_of_the_card_is_refused_in_one_line(
    trained, refused, tmp_path, key
):
    path = trained.model_dir / "run.json"
    values = {k: v for k, v in json.loads(path.read_text()).items() if not k.endswith(key)}
    path.write_text(json.dumps(values | {"first_loss": float("nan")} if key == "loss" else values))
    error = refused(tmp_path / "r")
    assert error.count("\n") == 1 and "code-alpaca release:" in error
    assert not (tmp_path / "r").exists() and not (tmp_path / ".r.part").exists()


@pytest.mark.parametrize("content", [b"{}", b"[]", b"\xff", b"{"])
def test_a_broken_file_is_refused_in_one_line(trained, refused, tmp_path, content):
    for path in (trained.results / "results.json", trained.model_dir / "run.json"):
        original = path.read_bytes()
        path.write_bytes(content)
        assert refused(tmp_path / "r").count("\n") == 1
        path.write_bytes(original)


def test_a_failure_leaves_the_last_release(release, tmp_path, monkeypatch):
    out = tmp_path / "r"
    assert release(out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def fail(*_):
        raise OSError(28, "disk full")

    monkeypatch.setattr("shutil.copyfile", fail)
    assert release(out, "--model_version", "0.2.0") != 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert list(tmp_path.glob(".r*")) == [tmp_path / ".r.lock"]


def test_a_concurrent_release_into_the_same_folder_is_refused(release, tmp_path, refused):
    with fs.lock(tmp_path / "r"):
        assert "another process is writing" in refused(tmp_path / "r")
    assert release(tmp_path / "r") == 0


def test_a_space_needs_gradio(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    words = ("--hub_model_id", "me/model", "--space", "me/space", "--dry_run")
    assert main(release_command(trained, tmp_path / "r", *words)) == 2
    assert "gradio is not installed; pip install" in capsys.readouterr().err
