"""A dataset release owns the files of the last release; those of other users stay or are named."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.hub_client import DATASET, create_repo
from support.hub_double import WRITES
from support.hub_versions import dataset_versions, tagged_commit

SHARD = "data/default/train-00000-of-00001.parquet"


@pytest.fixture
def refusal(hub, worker):
    """Return a function that returns why a push is refused: as its preview, with no write."""

    def refuse(folder, user="alice", **terms):
        hub.log.clear()
        pusher = worker.as_user(user)
        results = [pusher.push(folder, mode=mode, **terms) for mode in ("preview", "push")]
        assert [result["kind"] for result in results] == ["InputError"] * 2
        assert results[0]["error"] == results[1]["error"]
        assert not WRITES & set(hub.log)
        return results[0]["error"]

    return refuse


# -- files of other users ------------------------------------------------------------------------


def test_files_of_other_users_stay_and_the_preview_lists_deleted_shards(hub, worker, make_folder):
    worker.push(make_folder("1.0.0", rows=40, validation_fraction=0.3))
    foreign = {"data/plan.md": b"p", "assets/logo.png": b"l", "data/default/extra.parquet": b"e"}
    hub.edit(DATASET, foreign, author="bob")
    folder = make_folder("1.1.0", rows=40)
    shard = "data/default/validation-00000-of-00001.parquet"
    preview = worker.push(folder, mode="preview")["lines"]
    deleted = [shard.replace("default", name) for name in ("default", "derisk", "messages")]
    assert [line for line in preview if "delete" in line] == [
        f"files to delete on the Hub: {', '.join(deleted)}"
    ]
    assert worker.push(folder)["kind"] == ""
    tree = tagged_commit(hub, "v1.1.0").tree
    assert {name: hub.blobs[tree[name]] for name in foreign} == foreign
    assert shard not in tree


def test_a_shard_edited_on_the_hub_is_named_before_it_is_replaced(hub, worker, make_folder):
    worker.push(make_folder("1.0.0"))
    hub.edit(DATASET, {SHARD: b"edited"}, author="bob")
    for mode in ("preview", "push"):
        lines = " ".join(worker.push(make_folder("1.1.0", rows=5), mode=mode)["lines"])
        assert f"edited on the Hub, replaced: {SHARD}" in lines


def test_files_that_would_be_run_or_loaded_with_a_release_are_refused(
    hub, worker, make_folder, refusal
):
    worker.push(make_folder("1.0.0"))
    harmful = ["data/default/train-00001-of-00002.parquet", "data/model.PKL", "tasks.py"]
    hub.edit(DATASET, dict.fromkeys(harmful, b"?"), author="bob")
    folder = make_folder("1.1.0", rows=5)
    assert f"no release of code-alpaca made ({', '.join(harmful)})" in refusal(folder)
    preview = worker.push(folder, mode="preview", replace=True)["lines"]
    assert f"files to delete on the Hub: {', '.join(harmful)}" in preview
    assert worker.push(folder, replace=True)["kind"] == ""
    assert not set(harmful) & tagged_commit(hub, "v1.1.0").tree.keys()


def test_a_harmful_file_that_is_added_during_the_push_is_refused(hub, worker, make_folder):
    worker.push(make_folder("1.0.0"))
    hub.block("commit")
    worker.start_push(make_folder("1.1.0", rows=5))
    assert hub.blocked.wait(30)
    hub.edit(DATASET, {"loader.py": b"import os"}, author="bob")
    hub.unblock.set()
    pushed = worker.result()
    assert pushed["kind"] == "InputError" and "(loader.py)" in pushed["error"]
    assert list(hub.repository(DATASET).tags) == ["v1.0.0"]


def test_the_first_release_keeps_metadata_and_refuses_a_custom_card(
    hub, worker, make_folder, refusal
):
    create_repo(hub, DATASET)
    hub.edit(DATASET, {"README.md": b"# Ours\n\nWords.\n"}, author="bob")
    folder = make_folder("1.0.0")
    assert "(README.md)" in refusal(folder)
    hub.edit(DATASET, {"README.md": b"---\nlicense: mit\n---\n"}, author="bob")
    assert worker.push(folder)["kind"] == ""
    assert "license: mit\n" in hub.read(DATASET, "v1.0.0", "README.md").decode()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_links_and_foreign_files_in_the_folder_are_not_sent(make_folder, refusal, tmp_path, kind):
    folder, private = make_folder("1.0.0"), tmp_path / "private.txt"
    private.write_text("secret")
    path = folder / "data/default/notes.txt"
    path.symlink_to(private) if kind == "link" else path.write_text("mine")
    error = refusal(folder)
    assert "data/default/notes.txt" in error and ("contains links" in error) == (kind == "link")


# -- permissions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, "read"])
def test_a_user_cannot_create_a_repository_in_the_namespace_of_another(
    hub, worker, make_folder, refusal, role
):
    hub.orgs["guest"] = [{"name": "alice", "roleInOrg": role}] if role else []
    folder = make_folder("1.0.0")
    error = refusal(folder, user="guest")
    assert "guest" in error and "alice" in error and error.count("\n") == 0
    assert worker.as_user("guest").push(folder, repo="guest/tasks")["kind"] == ""


def test_a_user_without_write_access_cannot_release(worker, make_folder, refusal):
    worker.push(make_folder("1.0.0"))
    error = refusal(make_folder("1.1.0"), user="guest")
    assert "403: You don't have the rights to push" in error


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("Private repository storage limit reached, please upgrade your plan", "free storage"),
        ("pass `create_pr=1` as a query parameter to create a Pull Request", "direct commits"),
        ("This token is not for you", "create one with write access"),
    ],
)
def test_a_refusal_of_the_hub_is_reported_with_advice(hub, worker, make_folder, reason, advice):
    hub.fail("commit", f"403: {reason}")
    pushed = worker.push(make_folder("1.0.0"))
    assert pushed["kind"] == "InputError"
    assert reason in pushed["error"] and advice in pushed["error"]


# -- one commit per version ----------------------------------------------------------------------


def change_dates(folder):
    """Change a folder as if a later run had made the same rows."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for shard in manifest["sha256"]:
        table = pq.read_table(folder / shard)
        if "created_at" not in table.column_names:  # of conversations
            continue
        index = table.column_names.index("created_at")
        dates = pa.array(["2031-01-01T00:00:00Z"] * len(table), pa.string())
        pq.write_table(table.set_column(index, "created_at", dates), folder / shard)
        manifest["sha256"][shard] = sha256((folder / shard).read_bytes()).hexdigest()
    manifest["created_at"] = "2031-01-01T00:00:00Z"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_a_commit_without_its_tag_is_found_after_its_folder_was_lost(hub, worker, make_folder):
    hub.fail("tag", "403: tags are protected")
    first = make_folder("1.0.0")
    assert "tags are protected" in worker.push(first)["error"]
    hub.recover()
    shutil.rmtree(first.parent)
    folder = change_dates(make_folder("1.0.0", name="elsewhere"))
    assert "its tag is missing" in " ".join(worker.push(folder, mode="preview")["lines"])
    assert worker.push(folder)["kind"] == ""
    assert dataset_versions(hub) == ["1.0.0"]
    tree = tagged_commit(hub, "v1.0.0").tree
    assert tree.pop(".gitattributes")
    local = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    assert {name: path.read_bytes() for name, path in local.items()} == {
        name: hub.blobs[oid] for name, oid in tree.items()
    }


def test_a_version_whose_tag_was_deleted_is_not_released_with_other_rows(
    hub, worker, make_folder, refusal
):
    worker.push(make_folder("1.0.0"))
    before = tagged_commit(hub, "v1.0.0")
    del hub.repository(DATASET).tags["v1.0.0"]
    other = make_folder("1.0.0", rows=9, name="other")
    assert "released v1.0.0 with other content as commit" in refusal(other)
    assert "0.9.0 is lower" in refusal(make_folder("0.9.0"))
    assert worker.push(make_folder("1.0.0"))["kind"] == ""  # the same rows get their tag back
    assert tagged_commit(hub, "v1.0.0") == before and dataset_versions(hub) == ["1.0.0"]


def test_a_release_is_compared_with_the_last_release_even_if_its_tag_was_moved(
    hub, worker, make_folder
):
    worker.push(make_folder("1.0.0"))
    moved = hub.edit(DATASET, {SHARD: None, "manifest.json": b"{}"}, author="bob")
    hub.repository(DATASET).tags["v1.0.0"] = moved.sha
    for mode in ("preview", "push"):
        lines = " ".join(worker.push(make_folder("1.1.0", rows=5), mode=mode)["lines"])
        assert "since v1.0.0: 1 row added, 0 removed, 0 changed" in lines
        assert "moved by hand off the commit of their release: v1.0.0" in lines
    assert "Since 1.0.0: 1 row added" in hub.read(DATASET, "v1.1.0", "CHANGELOG.md").decode()


def test_a_preview_refuses_what_a_push_refuses(worker, make_folder, refusal):
    worker.push(make_folder("1.1.0"))
    assert "1.0.0 is lower" in refusal(make_folder("1.0.0"))
    folder = make_folder("1.2.0")
    assert "is public" in refusal(folder, private=True)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["columns"]["prompt"] = "string"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "other columns (prompt)" in refusal(folder)


# -- a repository that is deleted or renamed -----------------------------------------------------


@pytest.mark.parametrize("change", ["deleted", "renamed"])
@pytest.mark.parametrize("route", ["lfs-batch", "commit", "tag"])
def test_a_repository_that_vanishes_during_a_push_stops_it_in_one_line(
    hub, worker, make_folder, change, route
):
    worker.push(make_folder("1.0.0"))
    hub.block(route)
    worker.start_push(make_folder("1.1.0", rows=5))
    assert hub.blocked.wait(30)
    hub.delete(DATASET) if change == "deleted" else hub.rename(DATASET, "alice/other")
    hub.unblock.set()
    pushed = worker.result()
    assert pushed["kind"] == "Stopped" and pushed["error"].count("\n") == 0
    assert "no longer exists" in pushed["error"] or "was renamed to alice/other" in pushed["error"]
    assert ("datasets", DATASET) not in hub.repositories


def test_a_renamed_repository_is_named(hub, worker, make_folder, refusal):
    worker.push(make_folder("1.0.0"))
    hub.rename(DATASET, "alice/other")
    assert "was renamed to alice/other" in refusal(make_folder("1.1.0"))


def test_a_deleted_private_repository_is_not_created_again_in_public(
    hub, worker, make_folder, refusal
):
    first = make_folder("1.0.0", name="run")
    assert worker.push(first, private=True)["kind"] == ""
    hub.delete(DATASET)
    folder = make_folder("1.1.0", rows=5, name="run")
    assert "was private and no longer exists" in refusal(folder)
    assert hub.repositories == {}
    assert worker.push(folder, private=True)["kind"] == ""
    assert hub.repository(DATASET).private
