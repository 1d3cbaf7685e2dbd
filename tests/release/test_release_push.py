"""A model release is one commit and one tag or nothing, and loads as the model that was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard
from support.hub_client import create_repo
from support.hub_versions import model_versions, read_tree
from support.model_releases import (
    REPO,
    SPACE,
    TrainedModel,
    match_results,
    release_command,
    update_json,
)
from support.tiny_sft import write_rows

import code_alpaca

# Requests that write, and the moment at which the client is killed.
KILLS = [
    ("commit", "after"),
    *(
        pytest.param(*kill, marks=pytest.mark.slow)
        for kill in (
            ("commit", "before"), ("create", "after"), ("lfs-put", "after"), ("tag", "before"),
            ("tag", "after"),
        )
    ),
]  # fmt: skip


def test_a_release_loads_as_the_model_that_was_trained(hub, worker, command, trained, tmp_path):
    output = worker.succeed(*command())
    assert f"{hub.url}/{REPO}/tree/v0.1.0" in output
    assert model_versions(hub, REPO) == ["0.1.0"]
    repository = hub.repository(REPO, "models")
    assert repository.tags == {"v0.1.0": repository.heads[-1]} and len(repository.commits) == 2
    released, local = read_tree(hub, "v0.1.0", REPO), tmp_path / "release"
    released.pop(".gitattributes")
    assert released == {  # the folder is byte for byte what is on the Hub
        p.relative_to(local).as_posix(): p.read_bytes() for p in local.rglob("*") if p.is_file()
    }
    card = released["README.md"].decode()
    assert f'pipeline("text-generation", "{REPO}", revision="v0.1.0")' in card
    assert worker.run_model(REPO, "v0.1.0") == worker.run_model(str(trained.model_dir))


@pytest.mark.parametrize(("route", "moment"), KILLS)
def test_a_release_that_was_killed_is_resumed(hub, worker, start_worker, command, route, moment):
    killed = start_worker()
    hub.block(route, moment)
    killed.start_run(*command())
    assert hub.blocked.wait(60)
    killed.kill()
    hub.unblock.set()
    if (route, moment) not in (("create", "after"), ("commit", "after")):
        assert model_versions(hub, REPO) == (["0.1.0"] if route == "tag" else [])
    worker.succeed(*command())
    assert model_versions(hub, REPO) == ["0.1.0"]
    repository = hub.repository(REPO, "models")
    assert repository.tags == {"v0.1.0": repository.heads[-1]}


def test_a_version_never_changes_and_a_lower_one_needs_allow_older(hub, worker, command, trained):
    worker.succeed(*command(version="1.0.0"))
    before = read_tree(hub, "v1.0.0", REPO)
    output = worker.succeed(*command(version="1.0.0"))
    assert "v1.0.0 is already released with these very files" in output
    with (trained.model_dir / "model.safetensors").open("ab") as file:
        file.write(b"other weights")
    assert "does not measure the weights" in worker.refuse(*command(version="1.1.0"))
    match_results(trained)
    error = worker.refuse(*command(version="1.0.0"))
    assert "already has v1.0.0" in error and "model_version higher" in error
    assert "with other files" in error and "model.safetensors" in error
    assert "0.9.0 is lower" in worker.refuse(*command(version="0.9.0"))
    worker.succeed(*command("--allow_older", version="0.9.0"))
    assert read_tree(hub, "v1.0.0", REPO) == before
    assert set(hub.repository(REPO, "models").tags) == {"v1.0.0", "v0.9.0"}


def test_a_new_version_deletes_the_files_of_the_old_one_only(hub, worker, command, trained):
    shard = trained.model_dir / "model.safetensors"
    numbered = trained.model_dir / "model-00001-of-00001.safetensors"
    weights = shard.read_bytes()
    shard.rename(numbered)
    match_results(trained)
    worker.succeed(*command())
    numbered.unlink()
    shard.write_bytes(weights)
    match_results(trained)
    foreign = {name: b"n" for name in ("notes.md", "config.json.md", f"{numbered.name}.txt")}
    hub.edit(REPO, foreign, author="alice", kind="models")
    worker.succeed(*command(version="0.2.0"))
    names = set(read_tree(hub, "main", REPO))
    assert "model.safetensors" in names and set(foreign) <= names
    assert numbered.name not in names
    assert numbered.name in read_tree(hub, "v0.1.0", REPO)


def test_weights_that_no_release_made_are_not_replaced(hub, worker, command):
    create_repo(hub, REPO, "model")
    hub.edit(REPO, {"pytorch_model.bin": b"foreign"}, author="bob", kind="models")
    error = worker.refuse(*command())
    assert "that no release of code-alpaca made (pytorch_model.bin)" in error
    assert hub.repository(REPO, "models").tags == {}
    worker.succeed(*command("--replace"))
    assert "pytorch_model.bin" not in read_tree(hub, "main", REPO)


def test_prose_edited_on_the_hub_is_kept_and_numbers_are_replaced(hub, worker, command):
    worker.run(*command())
    card = read_tree(hub, "main", REPO)["README.md"].decode()
    edited = card.replace("writes short programs", "writes haiku").replace("0.0%", "99.9%")
    hub.edit(REPO, {"README.md": edited.encode()}, author="bob", kind="models")
    output = worker.succeed(*command(version="0.2.0"))
    assert "kept: Intended use and limits" in output and "replaced: Results" in output
    card = read_tree(hub, "main", REPO)["README.md"].decode()
    assert "writes haiku" in card and "99.9%" not in card


def test_a_release_can_go_to_another_branch(hub, worker, command):
    worker.succeed(*command("--hub_revision", "candidates"))
    repository = hub.repository(REPO, "models")
    assert set(read_tree(hub, "main", REPO)) == {".gitattributes"}
    assert repository.tags["v0.1.0"] == repository.branches["candidates"]
    assert "model.safetensors" in read_tree(hub, "v0.1.0", REPO)


def test_a_dry_run_changes_nothing(hub, worker, command, tmp_path):
    output = worker.succeed(*command("--dry_run"))
    assert "does not exist yet" in output and "nothing was written or sent" in output
    assert hub.repositories == {} and not (tmp_path / "release").exists()
    worker.run(*command())
    assert "has v0.1.0 with these very files" in worker.succeed(*command("--dry_run"))
    assert "is at v0.1.0" in worker.succeed(*command("--dry_run", version="0.2.0"))


def test_a_dry_run_refuses_what_the_release_would(hub, worker, command, tmp_path):
    error = worker.refuse(*command("--dry_run", "--license", "free-for-all"))
    assert 'refuses the request: "license" must be one of apache-2.0,' in error
    mine = tmp_path / "release-space" / "app.py"
    mine.parent.mkdir()
    mine.write_text("mine")
    error = worker.refuse(*command("--dry_run", "--space", SPACE))
    assert "is not a release of code-alpaca" in error and mine.read_text() == "mine"
    mine.unlink()
    mine.parent.rmdir()
    assert hub.repositories == {}
    worker.run(*command())
    (tmp_path / ".release.begun").write_text(json.dumps({"repo": REPO, "tag": "v0.0.9"}))
    # The unfinished release is another one.
    assert "has v0.1.0 with these very files" in worker.succeed(*command("--dry_run"))
    assert "is public" in worker.refuse(*command("--dry_run", "--private", version="0.2.0"))
    assert set(hub.repository(REPO, "models").tags) == {"v0.1.0"}


def test_a_private_release_is_private_or_refused(hub, worker, command):
    worker.succeed(*command("--private"))
    assert hub.repository(REPO, "models").private
    worker.succeed(*command("--private", version="0.2.0"))
    hub.repository(REPO, "models").private = False
    assert "is public" in worker.refuse(*command("--private", version="0.3.0"))
    assert set(hub.repository(REPO, "models").tags) == {"v0.1.0", "v0.2.0"}


def test_training_records_the_commit_of_its_base_model(hub, worker, command, tmp_path):
    """The commit stays that of the training when the branch or tag moves."""
    worker.succeed(*command())
    hub.edit(REPO, {"notes.md": b"n"}, author="alice", kind="models")
    repository = hub.repository(REPO, "models")
    rows = write_rows(tmp_path / "rows.json", 4)
    for number, revision in enumerate(((), ("--model_revision", "v0.1.0"))):
        out = tmp_path / f"tuned-{number}"
        worker.succeed(
            "sft", "--model_name_or_path", REPO, *revision, "--dataset_name", rows,
            "--output_dir", out, "--max_steps", "1", "--use_cpu", "true", "--bf16", "false",
            "--max_length", "128",
        )  # fmt: skip
        run = json.loads((out / "run.json").read_text())
        expected = repository.tags["v0.1.0"] if revision else repository.heads[-1]
        assert run["base_revision"] == expected and run["base_model"] == REPO
    assert repository.tags["v0.1.0"] != repository.heads[-1]


def test_a_base_model_that_the_hub_does_not_have_is_refused(hub, worker, command, trained):
    update_json(trained.model_dir / "run.json", base_model="org/base")
    assert "--base_license NAME" in worker.refuse(*command())
    assert "the Hub has no model org/base" in worker.refuse(*command("--base_license", "mit"))
    assert hub.repositories == {}
    create_repo(hub, "org/base", "model")
    worker.succeed(*command("--base_license", "mit"))


def test_a_token_without_write_access_is_refused(hub, worker, command):
    assert "is read-only" in worker.as_user("reader").refuse(*command())
    assert hub.repositories == {}


def test_a_space_is_self_contained_and_links_the_model(hub, worker, command):
    output = worker.succeed(*command("--space", SPACE))
    assert f"{hub.url}/spaces/{SPACE}" in output
    files = read_tree(hub, "v0.1.0", SPACE, "spaces")
    settings = json.loads(files["settings.json"])
    assert settings["model"] == REPO
    assert settings["revision"] == hub.repository(REPO, "models").tags["v0.1.0"]
    package = Path(code_alpaca.__file__).parent
    assert files["app.py"] == (package / "release/app.py").read_bytes()
    helper = package / "evaluation/text_generation.py"
    assert files["text_generation.py"] == helper.read_bytes()
    card = SpaceCard(files["README.md"].decode())
    assert card.data.sdk == "gradio" and card.data.models == [REPO]
    assert f"gradio=={card.data.sdk_version}\n" in files["requirements.txt"].decode()
    assert model_versions(hub, SPACE, "spaces") == ["0.1.0"]


def test_a_space_that_code_alpaca_did_not_create_is_not_replaced(hub, worker, command):
    create_repo(hub, SPACE, "space")
    hub.edit(SPACE, {"README.md": b"new", "index.html": b"mine"}, author="alice", kind="spaces")
    error = worker.refuse(*command("--space", SPACE))
    assert "that no release of code-alpaca made (index.html)" in error
    assert list(hub.repositories) == [("spaces", SPACE)]  # no half release
    worker.succeed(*command("--space", SPACE, "--replace"))
    files = read_tree(hub, "v0.1.0", SPACE, "spaces")
    assert "app.py" in files and "index.html" not in files


def test_edits_in_a_space_are_kept_or_reported(hub, worker, command):
    worker.succeed(*command("--space", SPACE))
    card = read_tree(hub, "main", SPACE, "spaces")["README.md"]
    card = card.replace(b"pinned: false", b"pinned: false\nsuggested_hardware: a10g")
    edits = {"README.md": card, "settings.json": b"{}", "thanks.md": b"To all."}
    hub.edit(SPACE, edits, author="bob", kind="spaces")
    output = worker.succeed(*command("--space", SPACE, version="0.2.0"))
    assert "kept: metadata suggested_hardware" in output
    assert "edited on the Hub, replaced: settings.json" in output
    files = read_tree(hub, "v0.2.0", SPACE, "spaces")
    assert b"suggested_hardware: a10g" in files["README.md"] and files["thanks.md"] == b"To all."
    assert json.loads(files["settings.json"])["model"] == REPO


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_release_killed_between_model_and_space_is_resumed(
    hub, worker, start_worker, command, moment
):
    killed = start_worker()
    hub.block("commit", moment, skip=1)
    killed.start_run(*command("--space", SPACE))
    assert hub.blocked.wait(60)
    killed.kill()
    hub.unblock.set()
    worker.succeed(*command("--space", SPACE))
    assert model_versions(hub, REPO) == ["0.1.0"]
    assert model_versions(hub, SPACE, "spaces") == ["0.1.0"]
    assert "already released" in worker.succeed(*command("--space", SPACE))


@pytest.mark.slow  # trains and evaluates three times
@pytest.mark.parametrize("merged", ["true", "false"])
def test_an_adapter_is_released_alone_or_beside_merged_weights(
    hub, worker, command, trained, tmp_path, merged
):
    """With its base model on the Hub, it responds as the folder that was trained."""
    base = "alice/base"
    worker.succeed(*command(version="3.0.0", repo=base))
    rows = write_rows(trained.model_dir / "rows.json", 8)
    tuned, results = tmp_path / "tuned", tmp_path / "tuned-eval"
    worker.succeed(
        "sft", "--model_name_or_path", trained.model_dir, "--dataset_name", rows,
        "--output_dir", tuned, "--use_peft", "true", "--merge_adapter", merged,
        "--max_steps", "2", "--learning_rate", "0.1", "--use_cpu", "true", "--bf16", "false",
        "--max_length", "128",
    )  # fmt: skip
    worker.succeed("eval", "--benchmark", "mini", "--model", tuned,
                                "--max_new_tokens", "4", "--output_dir", results)  # fmt: skip
    worker.succeed(*release_command(
        TrainedModel(tuned, results), tmp_path / "tuned-release", "--hub_model_id", REPO,
        "--base_model", base, "--base_license", "mit",
    ))  # fmt: skip
    files = read_tree(hub, "v0.1.0", REPO)
    assert ("adapter/adapter_model.safetensors" in files) == (merged == "true")
    assert ("adapter_model.safetensors" in files) == (merged == "false")
    adapter = merged == "false"
    assert ("AutoPeftModelForCausalLM" in files["README.md"].decode()) == adapter
    released = worker.run_model(REPO, "v0.1.0", adapter=adapter)
    assert released == worker.run_model(str(tuned), adapter=adapter)
