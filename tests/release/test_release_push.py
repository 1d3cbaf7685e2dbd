"""A model release is one commit and one tag, or nothing; what it loads is what was trained."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from support.hub_client import Request
from support.release_sessions import REPO, SPACE, rewrite, tree_of

# Steps that write, and the moments of each; those of which the quick run has enough are slow.
STEPS = [
    ("commit", "before"),
    ("commit", "after"),
    ("tag", "before"),
    *(
        pytest.param(*step, marks=pytest.mark.slow)
        for step in (("create", "after"), ("lfs-put", "after"), ("tag", "after"))
    ),
]


def whole_versions(hub, repo=REPO, kind="models"):
    """The versions that `main` held one after the other, each checked to be complete."""
    import hashlib

    repository, versions = hub.repository(repo, kind), []
    for head in repository.heads:
        tree = repository.commits[head].tree
        if "release.json" not in tree:
            assert set(tree) <= {".gitattributes"}, "files without a manifest"
            continue
        manifest = json.loads(hub.blobs[tree["release.json"]])
        for path, digest in manifest["sha256"].items():
            assert hashlib.sha256(hub.blobs[tree[path]]).hexdigest() == digest, path
        if kind == "models":
            assert f" {manifest['version']}\n" in hub.blobs[tree["README.md"]].decode()
        versions.append(manifest["version"])
    return versions


LOADER = """
import json, sys, torch
from peft import AutoPeftModelForCausalLM
from transformers import AutoModelForCausalLM, AutoTokenizer
import code_alpaca
name, revision, kind = sys.argv[1:]
where = {} if revision == "-" else {"revision": revision}
model = globals()[kind].from_pretrained(name, **where)
tokenizer = AutoTokenizer.from_pretrained(name, **where)
chat = [{"role": "user", "content": "Return 3."}]
ids = tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)["input_ids"]
with torch.no_grad():
    logits = model(ids).logits
answer = code_alpaca.respond(name, "Return 3.", max_new_tokens=5, **where)
print(json.dumps([ids.tolist(), logits.double().flatten().tolist(), answer]))
"""


def loaded(hub, home, name, revision="-", kind="AutoModelForCausalLM"):
    done = subprocess.run(
        [sys.executable, "-c", LOADER, name, revision, kind], capture_output=True, text=True,
        env=hub.environment(home), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_pulled_from_a_fresh_cache_is_what_was_trained(
    hub, session, words, trained, tmp_path
):
    code, shown, error = session.run(*words())
    assert code == 0, error
    assert f"{hub.url}/{REPO}/tree/v0.1.0" in shown
    assert whole_versions(hub) == ["0.1.0"]
    repository = hub.repository(REPO, "models")
    assert repository.tags == {"v0.1.0": repository.heads[-1]} and len(repository.commits) == 2
    there, local = tree_of(hub, "v0.1.0"), tmp_path / "release"
    there.pop(".gitattributes")
    assert there == {  # the folder is what is on the Hub, byte for byte
        p.relative_to(local).as_posix(): p.read_bytes() for p in local.rglob("*") if p.is_file()
    }
    assert (
        f'pipeline("text-generation", "{REPO}", revision="v0.1.0")' in there["README.md"].decode()
    )
    fresh = loaded(hub, tmp_path / "fresh", REPO, "v0.1.0")
    assert fresh == loaded(hub, tmp_path / "none", str(trained[0]))


@pytest.mark.parametrize(("route", "moment"), STEPS)
def test_killed_at_any_step_it_goes_on(hub, start, session, words, route, moment):
    first = start()
    hub.fault = lambda name, nth: moment if name == route else None
    first.begin(*words())
    assert hub.held.wait(60)
    first.kill()
    hub.fault = lambda name, nth: None
    hub.resume.set()
    if (route, moment) not in (("create", "after"), ("commit", "after")):
        assert whole_versions(hub) == (["0.1.0"] if route == "tag" else [])
    code, _, error = session.run(*words())
    assert code == 0, error
    assert whole_versions(hub) == ["0.1.0"]
    repository = hub.repository(REPO, "models")
    assert repository.tags == {"v0.1.0": repository.heads[-1]}


def test_a_version_never_changes_and_a_lower_one_must_be_meant(hub, session, words, trained):
    assert session.run(*words(version="1.0.0"))[0] == 0
    before = tree_of(hub, "v1.0.0")
    code, _, error = session.run(*words(version="1.0.0"))
    assert code == 2 and "already has v1.0.0" in error and "model_version higher" in error
    with (trained[0] / "model.safetensors").open("ab") as file:
        file.write(b"other weights")
    code, _, error = session.run(*words(version="1.1.0"))
    assert code == 2 and "holds no results of the weights" in error
    rewrite_weights(trained)
    code, _, error = session.run(*words(version="1.0.0"))
    assert code == 2 and "already has v1.0.0" in error
    code, _, error = session.run(*words(version="0.9.0"))
    assert code == 2 and "0.9.0 is lower" in error
    assert session.run(*words("--allow_older", version="0.9.0"))[0] == 0
    assert tree_of(hub, "v1.0.0") == before
    assert set(hub.repository(REPO, "models").tags) == {"v1.0.0", "v0.9.0"}


def rewrite_weights(trained):
    """Other weights, and results that say that they are of these."""
    from code_alpaca.core.fs import weights_sha256

    path = trained[1] / "results.json"
    model = json.loads(path.read_text())["model"]
    rewrite(path, model={**model, "sha256": weights_sha256(str(trained[0]))})


def test_a_new_version_leaves_nothing_of_the_old_one(hub, session, words, trained):
    shard = trained[0] / "model.safetensors"
    whole = shard.read_bytes()
    shard.rename(trained[0] / "model-00001-of-00001.safetensors")
    rewrite_weights(trained)
    assert session.run(*words())[0] == 0
    (trained[0] / "model-00001-of-00001.safetensors").unlink()
    shard.write_bytes(whole)
    rewrite_weights(trained)
    theirs = {
        "notes.md": b"n",
        "config.json.md": b"n",
        "model-00001-of-00001.safetensors.txt": b"n",
    }
    hub.edit(REPO, theirs, author="alice", kind="models")
    assert session.run(*words(version="0.2.0"))[0] == 0
    names = set(tree_of(hub))
    assert "model.safetensors" in names and set(theirs) <= names
    assert "model-00001-of-00001.safetensors" not in names
    assert "model-00001-of-00001.safetensors" in tree_of(hub, "v0.1.0")


def test_weights_of_no_release_are_left_alone(hub, session, words):
    hub.do_create(Request("alice", {"name": "coder", "type": "model"}))
    hub.edit(REPO, {"pytorch_model.bin": b"theirs"}, author="bob", kind="models")
    code, _, error = session.run(*words())
    assert code == 2 and "that no release of code-alpaca made (pytorch_model.bin)" in error
    assert hub.repository(REPO, "models").tags == {}
    assert session.run(*words("--replace"))[0] == 0
    assert "pytorch_model.bin" not in tree_of(hub)


def test_prose_edited_on_the_hub_is_kept_and_numbers_are_made_anew(hub, session, words):
    session.run(*words())
    card = tree_of(hub)["README.md"].decode()
    edited = card.replace("It writes short programs", "It writes haiku").replace("0.0%", "99.9%")
    hub.edit(REPO, {"README.md": edited.encode()}, author="bob", kind="models")
    code, shown, _ = session.run(*words(version="0.2.0"))
    assert code == 0 and "kept: Intended use and limits" in shown and "replaced: Results" in shown
    card = tree_of(hub)["README.md"].decode()
    assert "It writes haiku" in card and "99.9%" not in card


def test_a_branch_other_than_main(hub, session, words):
    code, _, error = session.run(*words("--hub_revision", "candidates"))
    assert code == 0, error
    repository = hub.repository(REPO, "models")
    assert set(tree_of(hub, "main")) == {".gitattributes"}
    assert repository.tags["v0.1.0"] == repository.branches["candidates"]
    assert "model.safetensors" in tree_of(hub, "v0.1.0")


def test_a_dry_run_reads_alone(hub, session, words, tmp_path):
    code, shown, _ = session.run(*words("--dry_run"))
    assert code == 0 and "does not exist yet" in shown and "nothing was written or sent" in shown
    assert hub.repositories == {} and not (tmp_path / "release").exists()
    session.run(*words())
    code, _, error = session.run(*words("--dry_run"))
    assert code == 2 and "already has v0.1.0" in error
    code, shown, _ = session.run(*words("--dry_run", version="0.2.0"))
    assert code == 0 and "is at v0.1.0" in shown


def test_a_dry_run_refuses_what_the_release_would(hub, session, words, tmp_path):
    code, _, error = session.run(*words("--dry_run", "--license", "free-for-all"))
    assert code == 2 and 'refuses the request: "license" must be one of apache-2.0,' in error
    mine = tmp_path / "release-space" / "app.py"
    mine.parent.mkdir()
    mine.write_text("mine")
    code, _, error = session.run(*words("--dry_run", "--space", SPACE))
    assert code == 2 and "is no release of code-alpaca" in error and mine.read_text() == "mine"
    mine.unlink()
    mine.parent.rmdir()
    assert hub.repositories == {}
    session.run(*words())
    (tmp_path / ".release.begun").write_text(json.dumps({"repo": REPO, "tag": "v0.0.9"}))
    code, _, error = session.run(*words("--dry_run"))
    assert code == 2 and "already has v0.1.0" in error  # another version was begun
    code, _, error = session.run(*words("--dry_run", "--private", version="0.2.0"))
    assert code == 2 and "is public" in error
    assert set(hub.repository(REPO, "models").tags) == {"v0.1.0"}


def test_private_is_private_or_refused(hub, session, words):
    assert session.run(*words("--private"))[0] == 0
    assert hub.repository(REPO, "models").private
    assert session.run(*words("--private", version="0.2.0"))[0] == 0
    hub.repository(REPO, "models").private = False
    code, _, error = session.run(*words("--private", version="0.3.0"))
    assert code == 2 and "is public" in error
    assert set(hub.repository(REPO, "models").tags) == {"v0.1.0", "v0.2.0"}


def test_training_is_pinned_to_the_commit_of_its_base(hub, session, words, trained, tmp_path):
    """Recorded is what was trained, whatever the branch or tag means later."""
    assert session.run(*words())[0] == 0
    hub.edit(REPO, {"notes.md": b"n"}, author="alice", kind="models")
    repository = hub.repository(REPO, "models")
    rows = tmp_path / "rows.json"
    rows.write_text(json.dumps([{"instruction": "Go.", "input": "", "output": "went"}] * 4))
    for number, revision in enumerate(((), ("--model_revision", "v0.1.0"))):
        out = tmp_path / f"tuned-{number}"
        code, _, error = session.run(
            "sft", "--model_name_or_path", REPO, *revision, "--dataset_name", str(rows),
            "--output_dir", str(out), "--max_steps", "1", "--use_cpu", "true", "--bf16", "false",
            "--max_length", "128",
        )  # fmt: skip
        assert code == 0, error
        run = json.loads((out / "run.json").read_text())
        meant = repository.tags["v0.1.0"] if revision else repository.heads[-1]
        assert run["base_revision"] == meant and run["base_model"] == REPO
    assert repository.tags["v0.1.0"] != repository.heads[-1]


def test_a_base_model_that_the_hub_does_not_have(hub, session, words, trained):
    config = json.loads((trained[0] / "run.json").read_text())["config"]
    rewrite(trained[0] / "run.json", base_model="org/base", config=config)
    code, _, error = session.run(*words())
    assert code == 2 and "--base_license NAME" in error
    code, _, error = session.run(*words("--base_license", "mit"))
    assert code == 2 and "the Hub has no model org/base" in error
    assert hub.repositories == {}
    hub.do_create(Request("org", {"name": "base", "organization": "org", "type": "model"}))
    code, _, error = session.run(*words("--base_license", "mit"))
    assert code == 0, error


def test_tokens_that_will_not_do(hub, start, words, tmp_path):
    code, _, error = start("reader").run(*words())
    assert code == 2 and "is read-only" in error
    assert hub.repositories == {}


def test_a_space_stands_alone_and_links_what_it_shows(hub, session, words, tmp_path):
    code, shown, error = session.run(*words("--space", SPACE))
    assert code == 0, error
    assert f"{hub.url}/spaces/{SPACE}" in shown
    there = tree_of(hub, "v0.1.0", SPACE, "spaces")
    sha = hub.repository(REPO, "models").tags["v0.1.0"]
    settings = json.loads(there["settings.json"])
    assert settings["model"] == REPO and settings["revision"] == sha
    app = Path(sys.modules["code_alpaca"].__file__).with_name("release") / "app.py"
    assert there["app.py"] == app.read_bytes()
    card = SpaceCard(there["README.md"].decode())
    assert card.data.sdk == "gradio" and card.data.models == [REPO]
    assert (
        card.data.sdk_version == there["requirements.txt"].decode().split("gradio==")[1].split()[0]
    )
    assert whole_versions(hub, SPACE, "spaces") == ["0.1.0"]


def test_a_space_of_somebody_s_own_stays(hub, session, words):
    hub.do_create(Request("alice", {"name": "coder-space", "type": "space"}))
    hub.edit(SPACE, {"README.md": b"new", "index.html": b"mine"}, author="alice", kind="spaces")
    code, _, error = session.run(*words("--space", SPACE))
    assert code == 2 and "that no release of code-alpaca made (index.html)" in error
    assert list(hub.repositories) == [("spaces", SPACE)]  # nor is there half a release
    assert session.run(*words("--space", SPACE, "--replace"))[0] == 0
    there = tree_of(hub, "v0.1.0", SPACE, "spaces")
    assert "app.py" in there and "index.html" not in there


def test_what_was_edited_in_a_space_is_kept_or_told(hub, session, words):
    assert session.run(*words("--space", SPACE))[0] == 0
    there = tree_of(hub, "main", SPACE, "spaces")
    card = there["README.md"].replace(b"pinned: false", b"pinned: false\nsuggested_hardware: a10g")
    edits = {"README.md": card, "settings.json": b"{}", "thanks.md": b"To all."}
    hub.edit(SPACE, edits, author="bob", kind="spaces")
    code, shown, error = session.run(*words("--space", SPACE, version="0.2.0"))
    assert code == 0, error
    assert "kept: metadata suggested_hardware" in shown
    assert "edited on the Hub, replaced: settings.json" in shown
    now = tree_of(hub, "v0.2.0", SPACE, "spaces")
    assert b"suggested_hardware: a10g" in now["README.md"] and now["thanks.md"] == b"To all."
    assert json.loads(now["settings.json"])["model"] == REPO


@pytest.mark.parametrize("moment", ["before", pytest.param("after", marks=pytest.mark.slow)])
def test_killed_between_model_and_space_it_goes_on(hub, start, session, words, moment):
    first, commits = start(), []

    def fault(route, nth):
        commits.extend([nth] if route == "commit" else [])
        return moment if route == "commit" and len(commits) == 2 else None

    hub.fault = fault
    first.begin(*words("--space", SPACE))
    assert hub.held.wait(60)
    first.kill()
    hub.fault = lambda name, nth: None
    hub.resume.set()
    code, _, error = session.run(*words("--space", SPACE))
    assert code == 0, error
    assert whole_versions(hub) == ["0.1.0"]
    assert whole_versions(hub, SPACE, "spaces") == ["0.1.0"]
    code, _, error = session.run(*words("--space", SPACE))
    assert code == 2 and "already has v0.1.0" in error


@pytest.mark.slow  # three trainings and evaluations
@pytest.mark.parametrize("merged", ["true", "false"])
def test_an_adapter_alone_or_beside_its_merged_weights(
    hub, session, words, trained, tmp_path, merged
):
    """Released with its base on the Hub, it answers as the folder that was trained."""
    base = "alice/base"
    to_base = words(version="3.0.0")  # of which the adapter has no tag
    to_base[to_base.index(REPO)] = base
    assert session.run(*to_base)[0] == 0
    rows = Path(trained[0] / "rows.json")
    rows.write_text(json.dumps([{"instruction": "Go.", "input": "", "output": "went"}] * 8))
    tuned, results = tmp_path / "tuned", tmp_path / "tuned-eval"
    code, _, error = session.run(
        "sft", "--model_name_or_path", str(trained[0]), "--dataset_name", str(rows),
        "--output_dir", str(tuned), "--use_peft", "true", "--merge_adapter", merged,
        "--max_steps", "2", "--learning_rate", "0.1", "--use_cpu", "true", "--bf16", "false",
        "--max_length", "128",
    )  # fmt: skip
    assert code == 0, error
    code, _, error = session.run("eval", "--benchmark", "mini", "--model", str(tuned),
                                 "--max_new_tokens", "4", "--output_dir", str(results))  # fmt: skip
    assert code == 0, error
    code, _, error = session.run(
        "release", "--model_dir", str(tuned), "--results", str(results), "--output_dir",
        str(tmp_path / "tuned-release"), "--hub_model_id", REPO, "--base_model", base,
        "--base_license", "mit",
    )  # fmt: skip
    assert code == 0, error
    names = set(tree_of(hub, "v0.1.0"))
    assert ("adapter/adapter_model.safetensors" in names) == (merged == "true")
    assert ("adapter_model.safetensors" in names) == (merged == "false")
    kind = "AutoModelForCausalLM" if merged == "true" else "AutoPeftModelForCausalLM"
    card = tree_of(hub, "v0.1.0")["README.md"].decode()
    assert kind in card or merged == "true"
    assert loaded(hub, tmp_path / "fresh", REPO, "v0.1.0", kind) == loaded(
        hub, tmp_path / "none", str(tuned), kind=kind
    )
