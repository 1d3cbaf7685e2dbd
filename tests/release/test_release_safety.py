"""A release sends only what is its own, and leaves or names what other people put there."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from support.hub_client import Request
from support.markup import HOSTILE, body, front, shape
from support.release_sessions import REPO, SPACE, rewrite, tree_of

from code_alpaca.cli import main
from code_alpaca.core.markdown import url
from code_alpaca.release import card
from code_alpaca.release.facts import Compared, read

WRITES = {"create", "lfs-batch", "lfs-put", "commit", "tag", "branch"}


def refused(hub, session, words):
    """The reason why a release is refused: that of its dry run; neither changes anything."""
    hub.log.clear()
    ended = [session.run(*words, *dry) for dry in (["--dry_run"], [])]
    assert [code for code, _, _ in ended] == [2, 2] and ended[0][2] == ended[1][2]
    assert not WRITES & set(hub.log)
    assert ended[0][2].count("\n") == 1
    return ended[0][2]


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model.safetensors", "loss.png", "run.json", "adapter"]
)
def test_a_link_in_the_model_folder_is_never_followed(trained, tmp_path, name, capsys):
    model, results = trained
    private = tmp_path / "private"
    if name == "adapter":
        private.mkdir()
        (private / "adapter_config.json").write_text("{}")
    else:
        (model / name).rename(private)
    (model / name).symlink_to(private)
    words = ["--model_dir", str(model), "--results", str(results), "--output_dir"]
    for dry in (["--dry_run"], []):
        assert main(["release", *words, str(tmp_path / "r"), *dry]) == 2
        error = capsys.readouterr().err
        assert f"{name} is a link to {private}" in error and error.count("\n") == 1
    assert not (tmp_path / "r").exists()


def test_a_link_to_the_model_folder_itself_is_its_user_s_own(trained, tmp_path):
    latest = tmp_path / "latest"
    latest.symlink_to(trained[0])
    words = ["--model_dir", str(latest), "--results", str(trained[1]), "--output_dir"]
    assert main(["release", *words, str(tmp_path / "r")]) == 0


@pytest.mark.parametrize(
    "name", ["modeling.py", "old/optimizer.PT", "adapter_config.json", "model-2.safetensors"]
)
def test_code_and_pickles_of_others_are_never_tagged_in_silence(hub, session, words, name):
    assert session.run(*words())[0] == 0
    theirs = {name: b"theirs", "notes.md": b"n", "assets/logo.png": b"l"}
    hub.edit(REPO, theirs, author="bob", kind="models")
    error = refused(hub, session, words(version="0.2.0"))
    assert f"that no release of code-alpaca made ({name})" in error
    code, shown, _ = session.run(*words("--replace", "--dry_run", version="0.2.0"))
    assert code == 0 and f"files to delete on the Hub: {name}" in shown
    assert session.run(*words("--replace", version="0.2.0"))[0] == 0
    there = tree_of(hub, "v0.2.0")
    assert name not in there and there["notes.md"] == b"n" and there["assets/logo.png"] == b"l"


def test_the_first_release_overwrites_nothing_in_silence(hub, session, words):
    hub.do_create(Request("alice", {"name": "coder", "type": "model"}))
    theirs = {"run.json": b"{}", "README.md": b"---\nlicense: mit\n---\n# Mine\n"}
    hub.edit(REPO, theirs, author="bob", kind="models")
    assert "made (README.md, run.json)" in refused(hub, session, words())
    assert session.run(*words("--replace"))[0] == 0
    assert b"license: apache-2.0" in tree_of(hub, "v0.1.0")["README.md"]


def test_code_beside_the_app_of_a_space_is_refused(hub, session, words):
    assert session.run(*words("--space", SPACE))[0] == 0
    hub.edit(SPACE, {"gradio.py": b"import os"}, author="bob", kind="spaces")
    assert "made (gradio.py)" in refused(hub, session, words("--space", SPACE, version="0.2.0"))
    assert set(hub.repository(REPO, "models").tags) == {"v0.1.0"}


def test_a_dry_run_refuses_what_a_release_refuses(hub, session, words):
    assert session.run(*words(version="0.2.0"))[0] == 0
    assert "0.1.0 is lower" in refused(hub, session, words(version="0.1.0"))
    elsewhere = words(version="0.3.0")
    elsewhere[elsewhere.index(REPO)] = "stranger/coder"
    hub.orgs["alice"] = [{"name": "stranger", "roleInOrg": "read"}]
    assert "alice has read access only in stranger" in refused(hub, session, elsewhere)
    del hub.repository(REPO, "models").tags["v0.2.0"]
    other = words("--license", "mit", version="0.2.0")
    assert "released v0.2.0 with other content as commit" in refused(hub, session, other)
    assert session.run(*words(version="0.2.0"))[0] == 0  # the same content gets its tag back
    assert len(hub.repository(REPO, "models").heads) == 2


@pytest.mark.parametrize("change", ["deleted", "renamed"])
def test_a_repository_that_vanishes_meanwhile_is_one_line(hub, session, words, change):
    assert session.run(*words("--private"))[0] == 0
    hub.fault = lambda name, nth: "before" if name == "commit" else None
    session.begin(*words(version="0.2.0"))
    assert hub.held.wait(60)
    if change == "deleted":
        hub.delete(REPO, "models")
    else:
        hub.rename(REPO, "alice/other", "models")
    hub.fault = lambda name, nth: None
    hub.resume.set()
    code, _, error = session.end()
    assert code == 3 and error.count("\n") == 1
    assert ("no longer exists" if change == "deleted" else "renamed to alice/other") in error
    code, _, error = session.run(*words(version="0.2.0"))
    assert code == 2
    assert (
        "was private and no longer exists" if change == "deleted" else "renamed to alice/other"
    ) in error
    assert ("models", REPO) not in hub.repositories


@pytest.mark.parametrize(
    ("clean", "said"),
    [
        ({}, "the training data (REVISION) holds a match of 2 of 20"),
        ({"revision": "sha256 ab"}, "**not compared with what this model was trained on**; `rows`"),
        ({"sources": [{"name": "x", "config": "verified", "revision": "REVISION"}]}, "**not comp"),
    ],
)
def test_contamination_is_said_of_the_data_that_it_was_found_in(trained, tmp_path, clean, said):
    revision = json.loads((trained[0] / "run.json").read_text())["datasets"][0]["revision"]
    found = {"training_data": "rows", "revision": revision, "matched": ["a", "b"], "problems": 18}
    clean = json.loads(json.dumps(clean).replace("REVISION", revision))
    rewrite(trained[1] / "results.json", uncontaminated={**found, **clean})
    words = ["--model_dir", str(trained[0]), "--results", str(trained[1]), "--output_dir"]
    assert main(["release", *words, str(tmp_path / "r")]) == 0
    text = (tmp_path / "r/README.md").read_text()
    assert said.replace("REVISION", revision) in text and "a match of 2 of 20 problems" in text


def test_data_that_was_left_out_of_the_comparison_is_named(trained, tmp_path):
    run = json.loads((trained[0] / "run.json").read_text())
    more = {**run["datasets"][0], "name": "org/more", "revision": "0" * 40}
    rewrite(trained[0] / "run.json", datasets=[*run["datasets"], more])
    found = {"training_data": "rows", "revision": run["datasets"][0]["revision"], "matched": [],
             "problems": 20}  # fmt: skip
    rewrite(trained[1] / "results.json", uncontaminated=found)
    words = ["--model_dir", str(trained[0]), "--results", str(trained[1]), "--output_dir"]
    assert main(["release", *words, str(tmp_path / "r")]) == 0
    assert "**Not compared: `org/more`**" in (tmp_path / "r/README.md").read_text()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_model_card_holds_no_markup_of_its_files(trained, text):
    facts = read(trained[0], [trained[1]])

    def rendered(word):
        origin = dict.fromkeys(("version", "teacher", "strategy", "license"), word)
        source = {"name": word, "config": word, "revision": word, "weight": 1.0, "origin": origin}
        training = {**facts.training, "datasets": [source], "layout": word, "git_sha": word,
                    "base_revision": word, "versions": {"torch": word, "x": word},
                    "config": {**facts.training["config"], "optim": word}}  # fmt: skip
        result = {**facts.results["mini"], "prompt_format": word, "statuses": {word: 1},
                  "source": {"dataset": word, "revision": word},
                  "sandbox": {"backend": word, "canary_escaped": [word]},
                  "config": {**facts.results["mini"]["config"], "prompt_format": word},
                  "uncontaminated": {"training_data": word, "revision": word, "matched": [],
                                     "problems": 1}}  # fmt: skip
        found = replace(
            facts, training=training, results={word: result}, base_model=word,
            compared={word: Compared(False, [word])},
        )  # fmt: skip
        about = card.About("1.0.0", license=word, base_license=word, weight_diff=True)
        return card.render(found, about)

    bad, good = rendered(text), rendered("benign")
    assert shape(body(bad)) == [
        (kind, url(f"https://huggingface.co/{text}/tree/{text}") if "benign" in str(what) else what)
        for kind, what in shape(body(good))
    ]
    assert yaml.safe_load(front(bad)).keys() == yaml.safe_load(front(good)).keys()
    assert "pip install code-alpaca" not in good and "'code-alpaca==" not in good
