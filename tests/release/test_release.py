"""A release folder holds what a user needs, and its card says only what the files say."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from support.release_sessions import rewrite

from code_alpaca.cli import main
from code_alpaca.core import fs
from code_alpaca.core.fs import weights_sha256
from code_alpaca.core.prompts import format_prompt
from code_alpaca.release import card
from code_alpaca.release.facts import read

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def release(trained, out, *more):
    model, results = trained
    return main(["release", "--model_dir", str(model), "--results", str(results),
                 "--output_dir", str(out), *more])  # fmt: skip


def based(trained, base="org/base", commit=COMMIT):
    """As if it had been trained from a model of the Hub, on a dataset of the Hub."""
    source = {"name": "org/tasks", "config": "default", "revision": commit, "weight": 1.0,
              "origin": {"version": "1.2.0", "teacher": "gpt-x", "strategy": "self_instruct",
                         "license": "cc-by-4.0"}}  # fmt: skip
    dataset = {"name": "org/tasks", "config": "default", "revision": commit}
    path = trained[0] / "run.json"
    config = {**json.loads(path.read_text())["config"], "from_scratch": False}
    rewrite(path, base_model=base, base_revision=commit, dataset=dataset, datasets=[source],
            config={**config, "model_name_or_path": base})  # fmt: skip
    return trained


def card_of(folder):
    return (folder / "README.md").read_text(encoding="utf-8")


def test_the_folder_holds_what_a_user_needs_and_no_more(trained, tmp_path):
    out = tmp_path / "release"
    (trained[0] / "training_args.bin").write_bytes(b"a pickle")
    assert any(trained[0].glob("checkpoint-*"))
    assert release(trained, out) == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "README.md", "assets/card.md", "assets/loss.png", "chat_template.jinja", "config.json",
        "generation_config.json", "model.safetensors", "release.json", "results.json", "run.json",
        "tokenizer.json", "tokenizer_config.json", "training_config.yaml",
    ]  # fmt: skip
    for path in (trained[0] / "run.json", trained[1] / "results.json"):
        text = json.dumps(json.loads(path.read_text()))
        released = json.dumps(json.loads((out / path.name).read_text()))
        assert released == re.sub(r'"/[^"]*/([^"/]+)"', r'"\1"', text)  # no folder of this machine
    assert weights_sha256(str(out)) == weights_sha256(str(trained[0]))
    assert release(trained, out, "--model_version", "0.2.0") == 0
    assert "# code-alpaca-model 0.2.0" in card_of(out)


def test_the_same_command_makes_the_same_bytes(trained, tmp_path):
    out = tmp_path / "release"
    seen = []
    for _ in range(2):
        assert release(trained, out) == 0
        seen.append({path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()})
    assert seen[0] == seen[1]


def test_every_number_of_the_card_is_in_the_files(trained, tmp_path):
    out = tmp_path / "r"
    assert release(trained, out, "--license", "apache-2.0") == 0
    text, run = card_of(out), json.loads((out / "run.json").read_text())
    for fact in ("| mini | 20 | pass@1 | 0.0% | 0.0% to 16.1% |", "none: trained from nothing",
                 format_prompt("{instruction}"), format_prompt("{instruction}", "{input}"),
                 run["dataset"]["revision"], f"{run['parameters']:,} parameters",
                 f"{run['first_loss']:.3f} first, {run['last_loss']:.3f} last",
                 "| `learning_rate` | 0.002 |", "holds a match of 0 of 20 problems",
                 "![The loss over the steps of training](assets/loss.png)",
                 f"torch {run['versions']['torch']}, transformers",
                 "Read the code before you run it"):  # fmt: skip
        assert fact in text, fact


def complete(folder):
    """A card without gaps, whose links into its folder lead somewhere."""
    text = card_of(folder)
    for gap in ("None", "More Information", "{{", "{%", "undefined", "[]", "nan"):
        assert gap not in text.replace("{instruction}", "").replace("{input}", ""), gap
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert links
    for link in links:
        assert link.startswith("https://") or (folder / link).is_file(), link
    card = ModelCard.load(folder / "README.md")
    assert yaml.safe_load(text.split("---\n")[1])["license"] == card.data.license
    return text, card


def test_the_card_of_a_model_from_nothing_is_whole(trained, tmp_path):
    assert release(trained, tmp_path / "r", "--license", "apache-2.0") == 0
    _, card = complete(tmp_path / "r")
    assert card.data.eval_results[0].metric_value == 0.0
    assert card.data.base_model is None and card.data.datasets is None


def test_the_card_of_a_tuned_model_names_its_origin_to_the_commit(trained, tmp_path):
    more = ("--license", "mit", "--base_license", "apache-2.0")
    assert release(based(trained), tmp_path / "r", *more) == 0
    text, card = complete(tmp_path / "r")
    assert card.data.base_model == "org/base" and card.data.datasets == ["org/tasks"]
    assert card.data.get("base_model_relation") == "finetune"
    for fact in (f"https://huggingface.co/datasets/org/tasks/tree/{COMMIT}", "version 1.2.0",
                 f"https://huggingface.co/org/base/tree/{COMMIT}", "`gpt-x`", "`cc-by-4.0`",
                 "The base model: `apache-2.0`",
                 "do not say what the training improved"):  # fmt: skip
        assert fact in text, fact
    assert "scratch_" not in text
    recipe = yaml.safe_load((tmp_path / "r/training_config.yaml").read_text())
    assert recipe["dataset_revision"] == COMMIT and recipe["model_revision"] == COMMIT
    assert recipe["model_name_or_path"] == "org/base" and "output_dir" not in recipe


def test_the_card_says_what_the_embedded_teacher_is_and_what_the_data_was_compared_with(trained):
    facts = read(trained[0], [trained[1]])
    origin = {"teacher": "offline-teacher", "strategy": "self_instruct", "embedded_teacher": True,
              "decontaminated": ["mini"]}  # fmt: skip
    facts.training["datasets"][0]["origin"] = origin
    del facts.results["mini"]["uncontaminated"]  # as where eval was asked to skip it
    text = card.render(facts, card.About(version="0.1.0", license="mit"))
    assert "a grammar for trying the pipeline, and no language model" in text
    assert "its rows were compared with them: its card says what was found" in text


def test_what_was_trained_can_be_trained_again_from_the_release(made, trained, tmp_path):
    assert release(trained, tmp_path / "r") == 0
    again = ["--config", str(tmp_path / "r/training_config.yaml"), "--output_dir"]
    data = ["--dataset_name", str(made / "rows.json")]  # which was on no Hub
    assert main(["sft", *again, str(tmp_path / "again"), *data]) == 0
    assert weights_sha256(str(tmp_path / "again")) == weights_sha256(str(trained[0]))


def test_several_benchmarks_and_the_base_model_beside_them(trained, tmp_path, capsys):
    model, results = based(trained)
    more = tmp_path / "more"
    more.mkdir()
    lines = (results / "samples.jsonl").read_text().splitlines()
    for folder, name, passed in ((results, "mini", 12), (more, "other", 3)):
        marked = [
            {**json.loads(line), "status": "passed" if n < passed else "failed"}
            for n, line in enumerate(lines)
        ]
        (folder / "samples.jsonl").write_text("\n".join(map(json.dumps, marked)))
        rewrite_from = json.loads((results / "results.json").read_text())
        rewrite_from |= {"benchmark": name, "pass@1": passed / 20}
        (folder / "results.json").write_text(json.dumps(rewrite_from))
    base = tmp_path / "base"
    base.mkdir()
    (base / "samples.jsonl").write_text("\n".join(
        json.dumps({**json.loads(line), "status": "failed"}) for line in lines
    ))  # fmt: skip
    told = json.loads((results / "results.json").read_text())
    (base / "results.json").write_text(json.dumps(told))
    out = tmp_path / "r"
    words = ["release", "--model_dir", str(model), "--results", f"{results},{more}",
             "--base_results", str(base), "--output_dir", str(out)]  # fmt: skip
    assert main(words) == 2
    assert "and training began from org/base; run eval with that" in capsys.readouterr().err
    rewrite(base / "results.json", model={"name": "org/base", "sha256": None},
            config={**told["config"], "temperature": 0.5})  # fmt: skip
    assert main(words) == 2
    assert "was measured with temperature 0.5, the tuned model with 0.0" in capsys.readouterr().err
    rewrite(base / "results.json", config=told["config"])
    assert main(words) == 0
    text, card = complete(out)
    assert [r.metric_value for r in card.data.eval_results] == [0.6, 0.15]
    assert "12 problems won and 0 lost, p = 0.00049" in text and "+60.0 points" in text
    assert json.loads((out / "results-2.json").read_text())["benchmark"] == "other"
    assert json.loads((out / "comparison.json").read_text())["mini"]["ours"] == 0.6


def test_contamination_and_a_sandbox_that_does_not_hold_are_said(trained, tmp_path):
    clean = {"training_data": "rows", "revision": "sha256 ab", "matched": ["mini/1", "mini/2"],
             "problems": 18, "pass@1": 0.5, "pass@1_interval": [0.25, 0.75]}  # fmt: skip
    sandbox = {"backend": "rlimit", "canary_escaped": ["read_secret", "network"]}
    rewrite(trained[1] / "results.json", uncontaminated=clean, sandbox=sandbox)
    assert release(trained, tmp_path / "r") == 0
    text, _ = complete(tmp_path / "r")
    assert "match of 2 of 20 problems" in text and "On the other 18: pass@1 50.0%" in text
    assert "**which does not hold** (a test program got out by: read_secret, network)" in text


def test_an_adapter_goes_along_and_names_no_folder_of_ours(trained, tmp_path):
    adapter = based(trained)[0] / "adapter"
    adapter.mkdir()
    (adapter / "adapter_model.safetensors").write_bytes(b"adapter")
    (adapter / "adapter_config.json").write_text(
        json.dumps({"r": 8, "base_model_name_or_path": "/home/me/secret/base"})
    )
    (adapter / "training_args.bin").write_bytes(b"a pickle")
    assert release(trained, tmp_path / "r", "--base_model", "org/base") == 0
    there = tmp_path / "r/adapter"
    assert {path.name for path in there.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors",
    }  # fmt: skip
    found = json.loads((there / "adapter_config.json").read_text())
    assert found == {"r": 8, "base_model_name_or_path": "org/base", "revision": COMMIT}


def test_the_card_of_an_adapter_serves_it_with_the_tokenizer_of_its_training(trained):
    facts = read(*based(trained)[:1], [trained[1]])
    facts = replace(facts, adapter="alone")
    facts.training["config"]["lora_r"] = 24
    about = card.About(version="0.1.0", license="mit", hub_id="me/model")
    text = card.render(facts, about)
    for line in ("hf download me/model --revision v0.1.0 --local-dir model",
                 f"vllm serve org/base --revision {COMMIT} --tokenizer model \\",
                 "    --enable-lora --max-lora-rank 32 --lora-modules model=model",
                 'AutoPeftModelForCausalLM.from_pretrained("me/model", revision="v0.1.0")',
                 '    model="model", messages=[task]'):  # fmt: skip
        assert line in text, line
    text = card.render(facts, replace(about, hub_id=None))
    assert "hf download" not in text and "--tokenizer path/to/this/folder" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model_version", "1"], "not SemVer"),
        (["--results", "missing.json"], "cannot read missing.json"),
        (["--model_dir", "missing"], "expected what sft writes"),
        (["--hub_model_id", "me"], "give ORG/NAME"),
        (["--base_model", "org/base"], "was trained from nothing"),
        (["--weight_diff"], "trained from nothing"),
        (["--space", "me/space"], "give hub_model_id as well"),
        (["--hub_revision", ".."], "no name for a branch"),
        (["--hub_revision=-x"], "no name for a branch"),
        (["--hub_revision", "a//b"], "no name for a branch"),
        (["--hub_revision", "a/"], "no name for a branch"),
        (["--hub_revision", "v1.0.0"], "versions are its tags"),
        (["--dataset_card", "nowhere.md"], "is no file"),
        (["--base_results", "nowhere"], "cannot read nowhere"),
    ],
)
def test_bad_input(trained, tmp_path, words, said, capsys):
    assert release(trained, tmp_path / "r", *words) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_base_model_that_nobody_else_has_must_be_named(trained, tmp_path, capsys):
    based(trained, base=str(tmp_path / "base"), commit=None)
    assert release(trained, tmp_path / "r") == 2
    assert "say what it is there with --base_model ORG/NAME" in capsys.readouterr().err
    assert release(trained, tmp_path / "r", "--base_model", "org/base") == 0
    assert str(tmp_path) not in card_of(tmp_path / "r")


def test_results_of_another_model_are_refused(trained, tmp_path, capsys):
    weights = trained[0] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    assert release(trained, tmp_path / "r") == 2
    assert "holds no results of the weights" in capsys.readouterr().err


@pytest.mark.parametrize("style", ["alpaca_nl", None])
def test_a_chat_template_of_another_prompt_is_refused(trained, tmp_path, style, capsys):
    path = trained[0] / "chat_template.jinja"
    if style:
        config = json.loads((trained[0] / "run.json").read_text())["config"]
        rewrite(trained[0] / "run.json", config={**config, "prompt_style": style})
    else:
        path.write_text(path.read_text().replace("### Response:", "### Response"))
    assert release(trained, tmp_path / "r") == 2
    assert "does not render the prompt of training" in capsys.readouterr().err
    path.unlink()
    assert release(trained, tmp_path / "r") == 2
    assert "has no chat template" in capsys.readouterr().err


@pytest.mark.parametrize("manifest", [None, "{}", '{"version": "1.0.0", "sha256": {}}'])
def test_a_folder_that_is_no_release_is_not_replaced(trained, tmp_path, manifest, capsys):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.txt").write_text("words")
    if manifest:
        (precious / "release.json").write_text(manifest)
    assert release(trained, precious) == 2
    assert "choose another output_dir" in capsys.readouterr().err
    assert (precious / "chapter1.txt").read_text() == "words"


def test_what_people_put_beside_a_release_is_not_lost(trained, tmp_path, capsys):
    out = tmp_path / "r"
    assert release(trained, out) == 0
    (out / "notes.md").write_text("mine")
    assert release(trained, out, "--model_version", "0.2.0") == 2
    assert "notes.md is of no release, and would be lost" in capsys.readouterr().err
    assert (out / "notes.md").read_text() == "mine"


def test_a_folder_that_holds_the_model_is_not_replaced(trained, tmp_path, capsys):
    (tmp_path / "release.json").write_text('{"version": "1.0.0", "sha256": {}}')
    assert release(trained, tmp_path) == 2
    assert "choose another" in capsys.readouterr().err
    assert (trained[0] / "model.safetensors").exists()


def test_results_of_a_part_of_the_benchmark_are_refused(trained, tmp_path, capsys):
    config = json.loads((trained[1] / "results.json").read_text())["config"]
    rewrite(trained[1] / "results.json", config={**config, "limit": 3})
    assert release(trained, tmp_path / "r") == 2
    assert "run eval without limit" in capsys.readouterr().err


def test_no_folder_of_this_machine_and_no_secret_goes_out(trained, tmp_path):
    """Also where a benchmark or a key is the path of a file."""
    run = json.loads((trained[0] / "run.json").read_text())
    config = {**run["config"], "hub_token": "hf_secret", "run_name": "../private/x"}
    rewrite(trained[0] / "run.json", config=config, note={"/home/me/private": "~/private/y"})
    rewrite(trained[1] / "results.json", benchmark="/home/me/private/bench.jsonl")
    (trained[0] / "tokenizer_secret.txt").write_text("hf_secret")
    out = tmp_path / "r"
    assert release(trained, out) == 0
    assert "| bench.jsonl | 20 | pass@1 |" in card_of(out)
    for path in (p for p in out.rglob("*") if p.suffix in (".json", ".md", ".yaml", ".txt")):
        text = path.read_text()
        assert "private/" not in text and "hf_secret" not in text, path


@pytest.mark.parametrize("key", ["parameters", "hardware", "counts", "seconds", "loss", "datasets"])
def test_a_run_of_another_version_is_one_line(trained, tmp_path, key, capsys):
    path = trained[0] / "run.json"
    kept = {k: v for k, v in json.loads(path.read_text()).items() if not k.endswith(key)}
    path.write_text(json.dumps(kept if key != "loss" else {**kept, "first_loss": float("nan")}))
    assert release(trained, tmp_path / "r") == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "code-alpaca release:" in error
    assert not (tmp_path / "r").exists() and not (tmp_path / ".r.part").exists()


def test_no_release_without_weights_or_over_its_own_source(trained, tmp_path, capsys):
    model, results = trained
    assert release(trained, model) == 2
    assert release(trained, results) == 2
    (model / "model.safetensors").unlink()
    capsys.readouterr()
    assert release(trained, tmp_path / "r") == 2
    assert "holds no weights" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize("broken", [b"{}", b"[]", b"\xff", b"{"])
def test_files_that_are_broken(trained, tmp_path, broken, capsys):
    for path in (trained[1] / "results.json", trained[0] / "run.json"):
        kept = path.read_bytes()
        path.write_bytes(broken)
        assert release(trained, tmp_path / "r") == 2
        assert capsys.readouterr().err.count("\n") == 1
        path.write_bytes(kept)


def test_a_failure_leaves_the_last_release_and_nothing_half_made(trained, tmp_path, monkeypatch):
    out = tmp_path / "r"
    assert release(trained, out) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    monkeypatch.setattr(
        "shutil.copyfile", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full"))
    )
    assert release(trained, out, "--model_version", "0.2.0") != 0
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert not any(tmp_path.glob(".r*"))


def test_of_two_releases_into_one_folder_the_second_is_refused(trained, tmp_path, capsys):
    with fs.lock(tmp_path / "r"):
        assert release(trained, tmp_path / "r") == 2
    assert "another process is writing" in capsys.readouterr().err
    assert release(trained, tmp_path / "r") == 0


def test_a_space_needs_gradio(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    words = ("--hub_model_id", "me/model", "--space", "me/space", "--dry_run")
    assert release(trained, tmp_path / "r", *words) == 2
    assert "pip install 'gradio" in capsys.readouterr().err


def test_the_model_index_says_where_its_numbers_are_from(trained, tmp_path):
    assert release(trained, tmp_path / "r") == 0
    assert ModelCard.load(tmp_path / "r/README.md").data.eval_results[0].source_url is None
    facts = read(trained[0], [trained[1]])
    about = card.About(version="0.1.0", license="mit", hub_id="me/model")
    result = ModelCard(card.render(facts, about)).data.eval_results[0]
    assert result.source_url == "https://huggingface.co/me/model/blob/v0.1.0/results.json"


def test_dry_run_writes_nothing(trained, tmp_path, capsys):
    assert release(trained, tmp_path / "r", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "model.safetensors" in shown and "nothing was written or sent" in shown
    assert not (tmp_path / "r").exists() and not any(Path(tmp_path).glob(".r*"))
