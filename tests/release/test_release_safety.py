"""A model release sends only its own files, and names or keeps those of other users."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from support.hub_client import create_repo
from support.hub_double import WRITES
from support.hub_versions import read_tree
from support.markup import HOSTILE, body, front, shape
from support.model_releases import REPO, SPACE, release_command, release_config, update_json

from code_alpaca.cli import main
from code_alpaca.core.markdown import url
from code_alpaca.core.records import EvalResults, RunRecord
from code_alpaca.release.card import render_model_card
from code_alpaca.release.facts import ContaminationCheck, read_facts


@pytest.fixture
def refusal(hub, worker):
    """Return a function that returns why a release is refused: as its dry run, with no write."""

    def refuse(words):
        hub.log.clear()
        results = [worker.run(*words, *dry_run) for dry_run in (["--dry_run"], [])]
        assert [code for code, _, _ in results] == [2, 2]
        assert results[0][2] == results[1][2]
        assert not WRITES & set(hub.log)
        assert results[0][2].count("\n") == 1
        return results[0][2]

    return refuse


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model.safetensors", "loss.png", "run.json", "adapter"]
)
def test_a_link_in_the_model_folder_is_not_followed(trained, tmp_path, name, capsys):
    private, link = tmp_path / "private", trained.model_dir / name
    if name == "adapter":
        private.mkdir()
        (private / "adapter_config.json").write_text("{}")
    else:
        link.rename(private)
    link.symlink_to(private)
    for dry_run in (["--dry_run"], []):
        assert main(release_command(trained, tmp_path / "r", *dry_run)) == 2
        error = capsys.readouterr().err
        assert f"{name} is a link to {private}" in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_link_to_the_model_folder_itself_is_followed(trained, tmp_path):
    latest = tmp_path / "latest"
    latest.symlink_to(trained.model_dir)
    assert main(release_command(trained._replace(model_dir=latest), tmp_path / "r")) == 0


def test_code_and_pickles_of_other_users_are_refused(hub, worker, command, refusal):
    worker.succeed(*command())
    harmful = ["adapter_config.json", "model-2.safetensors", "modeling.py", "old/optimizer.PT"]
    foreign = {"notes.md": b"n", "assets/logo.png": b"l"}
    hub.edit(REPO, foreign | dict.fromkeys(harmful, b"?"), author="bob", kind="models")
    error = refusal(command(version="0.2.0"))
    assert f"that no release of code-alpaca made ({', '.join(harmful)})" in error
    output = worker.succeed(*command("--replace", "--dry_run", version="0.2.0"))
    assert f"files to delete on the Hub: {', '.join(harmful)}" in output
    worker.succeed(*command("--replace", version="0.2.0"))
    files = read_tree(hub, "v0.2.0", REPO)
    assert not files.keys() & set(harmful) and files.items() >= foreign.items()


def test_the_first_release_overwrites_no_foreign_file(hub, worker, command, refusal):
    create_repo(hub, REPO, "model")
    foreign = {"run.json": b"{}", "README.md": b"---\nlicense: mit\n---\n# Mine\n"}
    hub.edit(REPO, foreign, author="bob", kind="models")
    assert "made (README.md, run.json)" in refusal(command())
    worker.succeed(*command("--replace"))
    assert b"license: apache-2.0" in read_tree(hub, "v0.1.0", REPO)["README.md"]


def test_code_next_to_the_app_of_a_space_is_refused(hub, worker, command, refusal):
    worker.succeed(*command("--space", SPACE))
    hub.edit(SPACE, {"gradio.py": b"import os"}, author="bob", kind="spaces")
    assert "made (gradio.py)" in refusal(command("--space", SPACE, version="0.2.0"))
    assert set(hub.repository(REPO, "models").tags) == {"v0.1.0"}


def test_a_dry_run_refuses_what_a_release_refuses(hub, worker, command, refusal):
    worker.succeed(*command(version="0.2.0"))
    assert "0.1.0 is lower" in refusal(command(version="0.1.0"))
    hub.orgs["alice"] = [{"name": "stranger", "roleInOrg": "read"}]
    error = refusal(command(version="0.3.0", repo="stranger/coder"))
    assert "alice has read access only in stranger" in error
    del hub.repository(REPO, "models").tags["v0.2.0"]
    error = refusal(command("--license", "mit", version="0.2.0"))
    assert "released v0.2.0 with other content as commit" in error
    worker.succeed(*command(version="0.2.0"))  # the same content gets its tag back
    assert len(hub.repository(REPO, "models").heads) == 2


@pytest.mark.parametrize("change", ["deleted", "renamed"])
def test_a_repository_that_vanishes_during_a_release_stops_it_in_one_line(
    hub, worker, command, change
):
    worker.succeed(*command("--private"))
    hub.block("commit")
    worker.start_run(*command(version="0.2.0"))
    assert hub.blocked.wait(60)
    if change == "deleted":
        hub.delete(REPO, "models")
    else:
        hub.rename(REPO, "alice/other", "models")
    hub.unblock.set()
    code, _, error = worker.result()
    assert code == 3 and error.count("\n") == 1
    assert ("no longer exists" if change == "deleted" else "renamed to alice/other") in error
    error = worker.refuse(*command(version="0.2.0"))
    assert (
        "was private and no longer exists" if change == "deleted" else "renamed to alice/other"
    ) in error
    assert ("models", REPO) not in hub.repositories


@pytest.mark.parametrize(
    ("clean", "text"),
    [
        ({}, "the training data (REVISION) contains matches of 2 of 20"),
        ({"revision": "sha256 ab"}, "**not compared with the training data of this model**; other"),
        ({"sources": [{"name": "x", "config": "verified", "revision": "REVISION"}]}, "**not comp"),
    ],
)
def test_contamination_is_reported_for_the_data_that_was_searched(
    trained, release, tmp_path, clean, text
):
    run = json.loads((trained.model_dir / "run.json").read_text())
    revision = run["datasets"][0]["revision"]
    searched = {"training_data": "rows", "revision": revision, "matched": ["a", "b"],
                "problems": 18}  # fmt: skip
    clean = json.loads(json.dumps(clean).replace("REVISION", revision))
    update_json(trained.results / "results.json", uncontaminated={**searched, **clean})
    assert release(tmp_path / "r") == 0
    card = (tmp_path / "r/README.md").read_text()
    assert text.replace("REVISION", revision) in card and "matches of 2 of 20 problems" in card


def test_a_training_dataset_that_was_not_searched_is_named(trained, release, tmp_path):
    run = json.loads((trained.model_dir / "run.json").read_text())
    more = {**run["datasets"][0], "name": "org/more", "revision": "0" * 40}
    update_json(trained.model_dir / "run.json", datasets=[*run["datasets"], more])
    searched = {"training_data": "rows", "revision": run["datasets"][0]["revision"],
                "matched": [], "problems": 20}  # fmt: skip
    update_json(trained.results / "results.json", uncontaminated=searched)
    assert release(tmp_path / "r") == 0
    assert "**Not compared: `org/more`**" in (tmp_path / "r/README.md").read_text()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_model_card_contains_no_markup_of_its_files(trained, text):
    facts = read_facts(trained.model_dir, [trained.results])

    def render(word):
        origin = dict.fromkeys(("version", "teacher", "strategy", "license"), word)
        source = {"name": word, "config": word, "revision": word, "weight": 1.0, "origin": origin}
        training = facts.training.as_dict() | {
            "datasets": [source], "layout": word, "git_sha": word, "base_revision": word,
            "versions": {"torch": word, "x": word},
            "config": {**facts.training.config, "optim": word},
        }  # fmt: skip
        results = facts.results["mini"].as_dict()
        results |= {
            "prompt_format": word, "statuses": {word: 1},
            "source": {"name": word, "dataset": word, "revision": word},
            "sandbox": {"backend": word, "canary_escaped": [word]},
            "config": {**results["config"], "prompt_format": word},
            "uncontaminated": {"training_data": word, "revision": word, "matched": [],
                               "problems": 1},
        }  # fmt: skip
        hostile = replace(
            facts,
            training=RunRecord(**training),
            results={word: EvalResults(**results)},
            base_model=word,
            contamination={word: ContaminationCheck(False, [word])},
        )
        config = release_config(trained, license=word, base_license=word, weight_diff=True)
        return render_model_card(config, hostile)

    bad, good = render(text), render("benign")
    assert shape(body(bad)) == [
        (kind, url(f"https://huggingface.co/{text}/tree/{text}") if "benign" in str(what) else what)
        for kind, what in shape(body(good))
    ]
    assert yaml.safe_load(front(bad)).keys() == yaml.safe_load(front(good)).keys()
    assert "pip install code-alpaca" not in good and "'code-alpaca==" not in good
