"""`code-alpaca publish` and `generate --push_to_hub`, as a user gives them, against a Hub."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from support.dataset_releases import commit_of, whole_versions

TASKS = [
    {"instruction": f"Write the number {n}.", "input": "", "output": f"print({n})\r\n\té"}
    for n in range(6)
]
GENERATE = ["generate", "--run_dir", "r", "--teacher_base_url", "offline",
            "--teacher_model", "offline-teacher", "--push_to_hub", "true"]  # fmt: skip


@pytest.fixture
def command(hub, tmp_path):
    def run(*words, user="alice", code=0):
        ended = subprocess.run(
            [sys.executable, "-m", "code_alpaca.cli", *map(str, words)],
            env=hub.environment(tmp_path / "home", user), capture_output=True, text=True,
            cwd=tmp_path, timeout=120,
        )  # fmt: skip
        assert ended.returncode == code, ended.stderr
        assert "Traceback" not in ended.stderr and "hf_alice" not in ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    return run


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(TASKS))
    return path


def test_an_alpaca_file_becomes_a_version_and_loads_back_byte_for_byte(
    hub, command, source, tmp_path
):
    words = ["publish", "--source", source, "--run_dir", "r", "--hub_dataset_id", "alice/tasks",
             "--license", "cc-by-nc-4.0"]  # fmt: skip
    said = command(*words, "--dataset_version", "1.0.0", "--private", "true")
    assert 'load_dataset("alice/tasks", "default", revision="v1.0.0")' in said
    assert hub.repository("alice/tasks").private
    card = hub.read("alice/tasks", "v1.0.0", "README.md").decode()
    assert "license: cc-by-nc-4.0" in card and 'load_dataset("alice/tasks"' in card
    assert "already has v1.0.0" in command(*words, "--dataset_version", "1.0.0", code=2)

    # What is refused, is refused by a dry run as well, and before the folder or the Hub changes.
    hub.repository("alice/tasks").private = False
    before = (tmp_path / "r/dataset/manifest.json").read_bytes()
    for more in (("--private", "true"), ("--license", "free-for-all", "--dry_run", "true")):
        said = command(*words, "--dataset_version", "1.1.0", *more, code=2)
        assert "is public" in said or '"license" must be one of' in said
    assert (tmp_path / "r/dataset/manifest.json").read_bytes() == before
    assert list(hub.repository("alice/tasks").tags) == ["v1.0.0"]

    # The release, from the Hub, is a source like any other.
    words = ["publish", "--source", "alice/tasks", "--revision", "v1.0.0", "--run_dir", "again"]
    command(*words, "--dataset_version", "1.0.0")
    from code_alpaca.dataset.load import load_rows

    rows, _ = load_rows(str(tmp_path / "again/dataset"))
    assert [{k: row[k] for k in ("instruction", "input", "output")} for row in rows] == TASKS
    manifest = json.loads((tmp_path / "again/dataset/manifest.json").read_text())
    assert manifest["source"] == "alice/tasks"
    assert manifest["source_revision"] == commit_of(hub, "v1.0.0", "alice/tasks").sha


def test_a_dry_run_tells_the_difference_and_changes_nothing(hub, command, source, tmp_path):
    words = ["publish", "--source", source, "--hub_dataset_id", "alice/tasks"]
    dry = [*words, "--run_dir", "new", "--dry_run", "true", "--dataset_version"]
    assert "does not exist yet; 6 rows added" in command(*dry, "1.0.0")
    assert hub.repositories == {} and not (tmp_path / "new").exists()
    command(*words, "--run_dir", "r", "--dataset_version", "1.0.0")
    changed = [*TASKS[1:], {**TASKS[0], "output": "other"}, {**TASKS[0], "input": "x"}]
    source.write_text(json.dumps(changed))
    hub.log.clear()
    said = command(*dry, "1.1.0")
    assert "since v1.0.0: 1 rows added, 0 removed, 1 changed" in said
    assert "nothing was written or sent" in said
    assert not {"create", "lfs-put", "commit", "tag"} & set(hub.log)
    assert not (tmp_path / "new").exists()
    assert "already has v1.0.0" in command(*dry, "1.0.0", code=2)
    assert "'tasks' is not a name on the Hub" in command(
        *words[:3], "--run_dir", "new", "--hub_dataset_id", "tasks", code=2
    )
    assert set(hub.repositories) == {("datasets", "alice/tasks")}


def test_generation_ends_in_a_release_and_the_next_one_extends_it(hub, command, tmp_path):
    words = [*GENERATE, "--verify", "false", "--hub_dataset_id", "alice/made"]
    command(*words, "--num_examples", "10", "--dataset_version", "0.1.0")
    assert whole_versions(hub, "alice/made") == ["0.1.0"]
    # Refused before anything is asked or paid.
    said = command(*words, "--num_examples", "20", "--dataset_version", "0.1.0", code=2)
    assert "already has v0.1.0" in said
    said = command(*words, "--num_examples", "20", "--dataset_version", "0.0.9", code=2)
    assert "0.0.9 is lower" in said
    said = command(*words, "--num_examples", "20", "--dataset_version", "0.2.0")
    assert "since v0.1.0: 10 rows added, 0 removed, 0 changed" in said
    assert whole_versions(hub, "alice/made") == ["0.1.0", "0.2.0"]
    for name in ("config.yaml", "dataset/manifest.json", "dataset/README.md"):
        assert "hf_alice" not in (tmp_path / "r" / name).read_text()


def test_a_push_needs_a_repository_and_a_token_before_the_teacher_is_asked(command, tmp_path):
    assert "push_to_hub needs hub_dataset_id" in command(*GENERATE, code=2)
    said = command(*GENERATE, "--hub_dataset_id", "alice/d", user="reader", code=2)
    assert "is read-only" in said
    assert not (tmp_path / "r").exists()
    assert "no name on the Hub" in command(*GENERATE, "--hub_dataset_id", "a/b/c", code=2)


def test_a_validation_split_keeps_its_rows_from_version_to_version(command, source, tmp_path):
    from code_alpaca.dataset.load import load_rows

    many = [{**TASKS[0], "input": str(n)} for n in range(400)]
    held = []
    for rows in (many[:300], many):
        source.write_text(json.dumps(rows))
        command("publish", "--source", source, "--run_dir", "r", "--validation_fraction", "0.1")
        split, _ = load_rows(str(tmp_path / "r/dataset"), split="validation")
        held.append(split["id"][:])
    assert 10 < len(held[0]) < 60 and held[1][: len(held[0])] == held[0]
    train, _ = load_rows(str(tmp_path / "r/dataset"))
    assert len(train) + len(held[1]) == 400 and not set(train["id"]) & set(held[1])
