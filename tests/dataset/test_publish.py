"""`code-alpaca publish` and `generate --push_to_hub` as a user runs them, against a Hub."""

from __future__ import annotations

import json

import pytest
from support.hub_client import DATASET
from support.hub_versions import dataset_versions, tagged_commit

from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.importing import import_dataset
from code_alpaca.dataset.load import load_rows
from code_alpaca.dataset.source import DatasetSource

TASKS = [
    {"instruction": f"Write the number {n}.", "input": "", "output": f"print({n})\r\n\té"}
    for n in range(6)
]
GENERATE = ["generate", "--run_dir", "r", "--teacher_base_url", "offline",
            "--teacher_model", "offline-teacher", "--push_to_hub", "true"]  # fmt: skip


@pytest.fixture
def command(worker, tmp_path):
    """Return a function that runs a command in the test's folder and returns what it prints."""

    def run(*words, user="alice", code=0):
        actual, output, errors = worker.as_user(user).run(*words, cwd=tmp_path)
        assert actual == code, errors
        assert "hf_alice" not in output + errors
        return output + errors

    return run


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(TASKS))
    return path


def test_an_alpaca_file_becomes_a_version_and_loads_back_byte_for_byte(
    hub, command, source, tmp_path
):
    words = ["publish", "--source", source, "--run_dir", "r", "--hub_dataset_id", DATASET,
             "--license", "cc-by-nc-4.0"]  # fmt: skip
    output = command(*words, "--dataset_version", "1.0.0", "--private", "true")
    assert f'load_dataset("{DATASET}", "default", revision="v1.0.0")' in output
    assert hub.repository(DATASET).private
    card = hub.read(DATASET, "v1.0.0", "README.md").decode()
    assert "license: cc-by-nc-4.0" in card and f'load_dataset("{DATASET}"' in card

    # The same rows again are no error; other ones are, and what differs is named.
    hub.log.clear()
    again = [*words, "--dataset_version", "1.0.0"]
    assert "v1.0.0 is already released with these very rows" in command(*again)
    assert "has v1.0.0 with these very rows" in command(*again, "--dry_run")
    assert not {"lfs-put", "commit", "tag"} & set(hub.log)
    source.write_text(json.dumps(TASKS[1:]))
    refused = command(*again, code=2)
    assert "already has v1.0.0" in refused and "0 rows added, 1 removed" in refused
    source.write_text(json.dumps(TASKS))
    refused = command(*again, "--license", "mit", code=2)
    assert "already has v1.0.0" in refused and "license cc-by-nc-4.0 instead of mit" in refused

    # A refusal comes before the folder or the Hub changes, and a dry run gives it as well.
    hub.repository(DATASET).private = False
    before = (tmp_path / "r/dataset/manifest.json").read_bytes()
    for more in (("--private", "true"), ("--license", "free-for-all", "--dry_run", "true")):
        output = command(*words, "--dataset_version", "1.1.0", *more, code=2)
        assert "is public" in output or '"license" must be one of' in output
    assert (tmp_path / "r/dataset/manifest.json").read_bytes() == before
    assert list(hub.repository(DATASET).tags) == ["v1.0.0"]

    # The release is a source like any other.
    words = ["publish", "--source", DATASET, "--revision", "v1.0.0", "--run_dir", "again"]
    command(*words, "--dataset_version", "1.0.0")
    rows, _ = load_rows(str(tmp_path / "again/dataset"))
    assert [{k: row[k] for k in ("instruction", "input", "output")} for row in rows] == TASKS
    manifest = json.loads((tmp_path / "again/dataset/manifest.json").read_text())
    assert manifest["source"] == DATASET
    assert manifest["source_revision"] == tagged_commit(hub, "v1.0.0").sha


def test_a_dry_run_prints_the_difference_and_changes_nothing(hub, command, source, tmp_path):
    words = ["publish", "--source", source, "--hub_dataset_id", DATASET]
    dry_run = [*words, "--run_dir", "new", "--dry_run", "true", "--dataset_version"]
    assert "does not exist yet; 6 rows added" in command(*dry_run, "1.0.0")
    assert hub.repositories == {} and not (tmp_path / "new").exists()
    command(*words, "--run_dir", "r", "--dataset_version", "1.0.0")
    changed = [*TASKS[1:], {**TASKS[0], "output": "other"}, {**TASKS[0], "input": "x"}]
    source.write_text(json.dumps(changed))
    hub.log.clear()
    output = command(*dry_run, "1.1.0")
    assert "since v1.0.0: 1 row added, 0 removed, 1 changed" in output
    assert "nothing was written or sent" in output
    assert not {"create", "lfs-put", "commit", "tag"} & set(hub.log)
    assert not (tmp_path / "new").exists()
    assert "already has v1.0.0" in command(*dry_run, "1.0.0", code=2)
    assert "'tasks' is not a name on the Hub" in command(
        *words[:3], "--run_dir", "new", "--hub_dataset_id", "tasks", code=2
    )
    assert set(hub.repositories) == {("datasets", DATASET)}


def test_a_generation_ends_in_a_release_and_the_next_one_extends_it(hub, command, tmp_path):
    words = [*GENERATE, "--verify", "false", "--hub_dataset_id", DATASET]
    command(*words, "--num_examples", "4", "--dataset_version", "0.1.0")
    assert dataset_versions(hub) == ["0.1.0"]
    output = command(*words, "--num_examples", "4", "--dataset_version", "0.1.0")
    assert "v0.1.0 is already released with these very rows" in output
    # A version that exists or is lower is refused before the teacher is paid.
    more = [*words, "--num_examples", "8"]
    assert "already has v0.1.0" in command(*more, "--dataset_version", "0.1.0", code=2)
    assert "0.0.9 is lower" in command(*more, "--dataset_version", "0.0.9", code=2)
    output = command(*more, "--dataset_version", "0.2.0")
    assert "since v0.1.0: 4 rows added, 0 removed, 0 changed" in output
    assert dataset_versions(hub) == ["0.1.0", "0.2.0"]
    for name in ("config.yaml", "dataset/manifest.json", "dataset/README.md"):
        assert "hf_alice" not in (tmp_path / "r" / name).read_text()


def test_a_push_needs_a_repository_and_a_token_before_the_teacher_is_paid(command, tmp_path):
    assert "push_to_hub needs hub_dataset_id" in command(*GENERATE, code=2)
    output = command(*GENERATE, "--hub_dataset_id", "alice/d", user="reader", code=2)
    assert "is read-only" in output
    assert not (tmp_path / "r").exists()
    assert "is not a name on the Hub" in command(*GENERATE, "--hub_dataset_id", "a/b/c", code=2)


def test_a_row_of_the_validation_split_stays_in_it_in_the_next_version(source, tmp_path):
    tasks = [{**TASKS[0], "input": str(n)} for n in range(400)]
    held_out = []
    for rows in (tasks[:300], tasks):
        source.write_text(json.dumps(rows))
        folder = import_dataset(
            DatasetSource(str(source)),
            tmp_path / "r",
            DatasetOptions(validation_fraction=0.1),
            draw_plots=False,
        )
        split, _ = load_rows(str(folder), split="validation")
        held_out.append(split["id"][:])
    assert 10 < len(held_out[0]) < 60 and held_out[1][: len(held_out[0])] == held_out[0]
    train, _ = load_rows(str(folder))
    assert len(train) + len(held_out[1]) == 400 and not set(train["id"]) & set(held_out[1])
