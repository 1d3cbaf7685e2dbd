"""A dataset release is one commit and one tag or nothing, despite faults and other writers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from hashlib import sha256

import pytest
from huggingface_hub import DatasetCard
from support.hub_client import DATASET, create_repo
from support.hub_versions import dataset_versions, tagged_commit

from code_alpaca.core.schema import CONVERSATIONAL_CONFIGS
from code_alpaca.dataset import shards
from code_alpaca.dataset.manifest import CARD

# Requests that write, and the moment at which the client is killed.
KILLS = [
    ("commit", "after"),
    *(
        pytest.param(route, moment, marks=pytest.mark.slow)
        for route, moment in [
            ("commit", "before"), ("tag", "before"), ("tag", "after"), ("lfs-put", "after"),
            ("create", "before"), ("create", "after"), ("lfs-batch", "before"),
            ("lfs-batch", "after"), ("lfs-verify", "before"), ("lfs-verify", "after"),
        ]
    ),
]  # fmt: skip
FAULTS = ["500", "429", "drop", "lost"]


def test_one_commit_contains_everything_and_the_tag_points_to_it(hub, worker, make_folder):
    folder = make_folder("1.0.0", draw_plots=True)
    pushed = worker.push(folder)
    assert dataset_versions(hub) == ["1.0.0"]
    commit = tagged_commit(hub, "v1.0.0")
    assert commit.sha == pushed["sha"] and commit.title == "Release v1.0.0"
    local = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    released = {p: hub.blobs[oid] for p, oid in commit.tree.items() if p != ".gitattributes"}
    assert released == local  # the folder is byte for byte what is on the Hub


@pytest.mark.parametrize(
    ("faults", "every"),
    [(FAULTS, 3), *(pytest.param([kind], 1, marks=pytest.mark.slow) for kind in FAULTS)],
)
def test_a_request_that_fails_once_changes_nothing(hub, worker, make_folder, faults, every):
    """Every third request of a release fails, with the faults in turn; in slow runs each does."""
    worker.push(make_folder("1.0.0"))
    hub.log.clear()
    worker.push(make_folder("1.1.0", rows=5))
    for number, failing in enumerate(range(1, len(hub.log) + 1, every)):
        kind = faults[number % len(faults)]
        hub.log.clear()
        hub.fault = lambda _, index, kind=kind, failing=failing: kind if index == failing else None
        pushed = worker.push(make_folder(f"1.{number + 2}.0", rows=6 + number))
        assert pushed["kind"] == "", f"{hub.log[failing - 1]} {kind}: {pushed['error']}"
    versions = dataset_versions(hub)
    assert versions == [f"1.{minor}.0" for minor in range(len(versions))]  # each exactly once
    assert set(hub.repository(DATASET).tags) == {f"v{version}" for version in versions}
    for version in versions:
        manifest = json.loads(hub.read(DATASET, f"v{version}", "manifest.json"))
        assert manifest["version"] == version


@pytest.mark.parametrize(("route", "moment"), KILLS)
def test_a_push_that_was_killed_is_resumed(hub, worker, start_worker, make_folder, route, moment):
    if route != "create":
        worker.push(make_folder("1.0.0"))
    folder, killed = make_folder("1.1.0", rows=6), start_worker()
    hub.block(route, moment)
    killed.start_push(folder)
    assert hub.blocked.wait(30)
    killed.kill()
    hub.unblock.set()
    if route != "create" and (route, moment) not in (("commit", "after"), ("tag", "before")):
        latest = dataset_versions(hub)[-1]
        assert latest == ("1.1.0" if route == "tag" else "1.0.0")
    pushed = worker.push(folder)
    assert pushed["kind"] == ""
    assert dataset_versions(hub).count("1.1.0") == 1
    assert tagged_commit(hub, "v1.1.0").sha == pushed["sha"]
    assert not (folder.parent / ".publish.json").exists()


def test_a_hub_that_stays_unavailable_stops_the_push_and_the_same_push_resumes(
    hub, worker, make_folder
):
    folder = make_folder("1.0.0")
    hub.fail("commit", "500")
    pushed = worker.push(folder, attempts=2)
    assert pushed["kind"] == "Stopped" and "the same command resumes" in pushed["error"]
    assert hub.repository(DATASET).tags == {}
    hub.recover()
    assert worker.push(folder)["kind"] == ""
    assert dataset_versions(hub) == ["1.0.0"]


def test_a_version_never_changes(hub, worker, make_folder):
    worker.push(make_folder("1.0.0"))
    before = tagged_commit(hub, "v1.0.0")
    assert worker.push(make_folder("1.0.0"))["kind"] == ""  # nothing differs
    pushed = worker.push(make_folder("1.0.0", rows=9, name="other"))
    assert pushed["kind"] == "VersionExistsError" and "already has v1.0.0" in pushed["error"]
    assert tagged_commit(hub, "v1.0.0") == before and dataset_versions(hub) == ["1.0.0"]


def test_a_lower_version_needs_allow_older(hub, worker, make_folder):
    worker.push(make_folder("1.10.0"))
    folder = make_folder("1.9.0", rows=3)
    assert "is at v1.10.0 and 1.9.0 is lower" in worker.push(folder)["error"]
    assert worker.push(folder, allow_older=True)["kind"] == ""
    assert set(hub.repository(DATASET).tags) == {"v1.10.0", "v1.9.0"}


def test_of_two_concurrent_releases_one_wins_and_the_other_names_it(
    hub, worker, start_worker, make_folder
):
    alice, bob = worker, start_worker().as_user("bob")
    alice.push(make_folder("1.0.0"))
    first, second = make_folder("1.1.0", rows=5), make_folder("1.1.0", rows=7, name="of-bob")
    hub.block("commit")
    alice.start_push(first)
    assert hub.blocked.wait(30)
    assert bob.push(second)["kind"] == ""
    hub.unblock.set()
    pushed = alice.result()
    assert pushed["kind"] == "InputError"
    assert "bob committed 'Release v1.1.0'" in pushed["error"]
    assert dataset_versions(hub) == ["1.0.0", "1.1.0"]
    manifest = json.loads(hub.read(DATASET, "v1.1.0", "manifest.json"))
    assert manifest["counts"]["default"] == 7


def test_a_concurrent_change_to_other_files_does_no_harm(hub, worker, make_folder):
    worker.push(make_folder("1.0.0"))
    hub.block("commit")
    worker.start_push(make_folder("1.1.0", rows=6))
    assert hub.blocked.wait(30)
    hub.edit(DATASET, {"LICENSE": b"terms"}, author="bob")
    hub.unblock.set()
    pushed = worker.result()
    assert pushed["kind"] == "" and any("bob committed" in line for line in pushed["lines"])
    assert "LICENSE" in tagged_commit(hub, "v1.1.0").tree
    assert dataset_versions(hub)[-1] == "1.1.0"


def test_prose_edited_on_the_hub_is_kept_and_numbers_are_replaced(hub, worker, make_folder):
    worker.push(make_folder("1.0.0", rows=4))
    card = hub.read(DATASET, "main", "README.md").decode()
    edited = (
        card.replace("Outputs can be wrong", "One of us has read the outputs")
        .replace("4 candidates, 4 accepted rows", "lots of rows")
        .replace("pretty_name:", "annotations_creators: [machine-generated]\npretty_name:")
    ) + "\n## Thanks\n\nTo the readers.\n"
    hub.edit(DATASET, {"README.md": edited.encode()}, author="bob")
    folder = make_folder("1.1.0", rows=6)
    output = " ".join(worker.push(folder)["lines"])
    card = hub.read(DATASET, "v1.1.0", "README.md").decode()
    assert "One of us has read the outputs" in card and "To the readers." in card
    assert "6 candidates, 6 accepted rows" in card and "lots of rows" not in card
    assert "annotations_creators:" in card and "# tasks 1.1.0" in card
    assert "kept: Limitations, Datasheet, Thanks, metadata annotations_creators" in output
    assert "replaced: How it was made" in output
    assert (folder / "README.md").read_text() == card
    worker.push(make_folder("1.2.0", rows=7))  # the next version keeps it as well
    card = hub.read(DATASET, "v1.2.0", "README.md").decode()
    assert "One of us has read the outputs" in card and "To the readers." in card
    assert "7 candidates, 7 accepted rows" in card and "annotations_creators:" in card


@pytest.mark.parametrize("broken", [b"\xff\xfeA\0\n", b"", b"---\n: [\n---\n", b"# Mine\n"])
def test_a_broken_card_on_the_hub_is_replaced(hub, worker, make_folder, broken):
    worker.push(make_folder("1.0.0"))
    hub.edit(DATASET, {"README.md": broken, "CHANGELOG.md": broken}, author="bob")
    assert worker.push(make_folder("1.1.0"))["kind"] == ""
    card = hub.read(DATASET, "v1.1.0", "README.md").decode()
    assert "# tasks 1.1.0" in card and card.startswith("---\nlanguage:")


@pytest.mark.parametrize("manifest", [b"[1]", b"{trunc", b'{"columns": 5}'])
def test_a_manifest_edited_on_the_hub_is_ignored(hub, worker, make_folder, manifest):
    worker.push(make_folder("1.0.0"))
    hub.edit(DATASET, {"manifest.json": manifest}, author="bob")
    hub.repository(DATASET).tags["v1.0.0"] = hub.repository(DATASET).branches["main"]
    assert worker.push(make_folder("1.1.0"))["kind"] == ""
    assert json.loads(hub.read(DATASET, "v1.1.0", "manifest.json"))["version"] == "1.1.0"


def test_a_repository_with_other_columns_or_foreign_files_is_refused(hub, worker, make_folder):
    folder = make_folder("1.0.0")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["columns"]["prompt"] = manifest["columns"].pop("input")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    worker.push(folder)
    pushed = worker.push(make_folder("1.1.0"))
    assert "has other columns (input, prompt)" in pushed["error"]
    assert worker.push(make_folder("1.1.0"), replace=True)["kind"] == ""

    create_repo(hub, "alice/foreign")
    hub.edit("alice/foreign", {"data/train.parquet": b"?"}, author="alice")
    pushed = worker.push(folder, "alice/foreign")
    assert "files that no release of code-alpaca made (data/train.parquet)" in pushed["error"]
    assert list(hub.repository("alice/foreign").tags) == []


@pytest.mark.parametrize(
    ("user", "message"),
    [("reader", "is read-only"), ("stranger", "rejects the token"), ("", "no token")],
)
def test_a_token_without_write_access_is_refused(hub, worker, make_folder, user, message):
    pushed = worker.as_user(user).push(make_folder("1.0.0"))
    assert pushed["kind"] == "InputError" and message in pushed["error"]
    assert hub.repositories == {}


def test_a_shard_that_differs_from_the_manifest_is_not_pushed(hub, worker, make_folder):
    folder = make_folder("1.0.0")
    shard = folder / "data/default/train-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    pushed = worker.push(folder)
    assert pushed["kind"] == "InputError" and "differs from manifest.json" in pushed["error"]
    assert hub.log == []


@pytest.mark.parametrize("first", [True, False], ids=["first version", "later version"])
def test_a_commit_without_its_tag_is_replaced_when_the_run_has_grown(
    hub, worker, start_worker, make_folder, first
):
    """A push is killed between commit and tag, then the run grows: its new rows are released."""
    if not first:
        worker.push(make_folder("1.0.0"))
    killed = start_worker()
    hub.block("tag")
    killed.start_push(make_folder("1.1.0", rows=5))
    assert hub.blocked.wait(30)
    killed.kill()
    assert worker.push(make_folder("1.1.0", rows=8))["kind"] == ""
    hub.unblock.set()
    manifest = json.loads(hub.read(DATASET, "v1.1.0", "manifest.json"))
    assert manifest["counts"]["default"] == 8
    changelog = hub.read(DATASET, "v1.1.0", "CHANGELOG.md").decode()
    assert changelog.count("## 1.1.0 (") == 1
    assert ("First version" if first else "Since 1.0.0: 4 rows added") in changelog


def test_full_shards_are_uploaded_before_the_release_and_readers_do_not_see_them(
    hub, worker, make_folder, monkeypatch
):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 1_000)
    folder = make_folder("1.0.0", rows=2_500)
    create_repo(hub, DATASET)
    assert worker.push(folder, mode="preupload")["kind"] == ""
    paths = sorted((folder / "data/default").iterdir())
    assert [sha256(p.read_bytes()).hexdigest() in hub.blobs for p in paths] == [True, True, False]
    assert len(hub.repository(DATASET).commits) == 1  # that of the creation
    worker.push(folder)
    assert dataset_versions(hub) == ["1.0.0"]


# One process per read: `datasets` caches what `main` was.
READER = """
import os, sys
from datasets import load_dataset
while os.fork():
    os.wait()
else:
    rows = load_dataset(sys.argv[1], "default", split="train", revision="main", streaming=True)
    print(sorted(set(row["output"] for row in rows)), flush=True)
"""


def test_a_concurrent_reader_sees_complete_versions_only(hub, worker, make_folder, tmp_path):
    worker.push(make_folder("1.0.0", output="one"))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, DATASET], stdout=subprocess.PIPE, text=True,
        env=hub.environment(tmp_path / "reader") | {"USE_TORCH": "0"},  # its import takes 2 s
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        outputs = [reader.stdout.readline()]
        for minor, output in enumerate(["two", "three"], 1):
            worker.push(make_folder(f"1.{minor}.0", rows=4 + minor, output=output))
            outputs += [reader.stdout.readline() for _ in range(2)]
    finally:
        reader.kill()
        reader.wait()
        reader.stdout.close()
    assert set(outputs) <= {"['one']\n", "['two']\n", "['three']\n"}
    assert outputs[0] == "['one']\n" and outputs[-1] == "['three']\n"


def test_an_old_version_still_loads_its_rows(hub, worker, make_folder):
    worker.push(make_folder("1.0.0", output="one"))
    worker.push(make_folder("1.1.0", rows=6, output="two"))
    for tag, count, output in (("v1.0.0", 4, "one"), ("v1.1.0", 6, "two")):
        loaded = worker.load_dataset(DATASET, tag)
        assert loaded["sha"] == tagged_commit(hub, tag).sha
        assert loaded["rows"] == [[f"Set x to {n}.", "", output] for n in range(count)]
    assert worker.load_dataset(DATASET, "main") == loaded


def test_a_version_from_before_there_were_conversations_stays_and_the_next_one_has_them(
    hub, worker, make_folder
):
    old = remove_conversations(make_folder("1.0.0", output="one"))
    released = worker.push(old)["sha"]
    assert worker.push(make_folder("1.0.0", output="one"))["sha"] == released, "the same rows"
    assert not any("messages" in path for path in tagged_commit(hub, "v1.0.0").tree)
    worker.push(make_folder("1.1.0", rows=6, output="two"))
    assert any("data/messages/" in path for path in tagged_commit(hub, "v1.1.0").tree)
    rows = worker.load_dataset(DATASET, "v1.0.0")["rows"]
    assert rows == [[f"Set x to {n}.", "", "one"] for n in range(4)]


def remove_conversations(folder):
    """Return a dataset folder as it was before it had the configs of conversations."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in CONVERSATIONAL_CONFIGS:
        shutil.rmtree(folder / "data" / name, ignore_errors=True)
        del manifest["counts"][name], manifest["splits"][name]
    manifest["sha256"] = {k: v for k, v in manifest["sha256"].items() if (folder / k).exists()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    for path in (folder / "README.md", folder / CARD):
        card = DatasetCard.load(path)
        configs = [c for c in card.data.configs if c["config_name"] not in CONVERSATIONAL_CONFIGS]
        card.data.configs = configs
        card.save(path)
    return folder
