"""A release owns the files that the last one listed; those of other people stay or are named."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.dataset_releases import REPO, Publisher, commit_of, whole_versions
from support.hub_client import Request
from support.hub_double import HubDouble

SHARD = "data/default/train-00000-of-00001.parquet"
WRITES = {"create", "lfs-batch", "lfs-put", "commit", "tag", "branch"}


@pytest.fixture(scope="module")
def double():
    with HubDouble() as double:
        yield double


@pytest.fixture(scope="module")
def processes(double, tmp_path_factory):
    """One process for each user, which all tests share: starting one takes longer than they do."""
    started = {}

    def of(user):
        if user not in started:
            started[user] = Publisher(double, tmp_path_factory.mktemp(user), user)
        return started[user]

    yield of
    for process in started.values():
        process.kill()


@pytest.fixture
def hub(double):
    double.forget()
    return double


@pytest.fixture
def push(hub, processes):
    """Pushes a folder as a user, and returns how it ended; `dry=True` only looks."""

    def run(made, user="alice", repo=REPO, **options):
        return processes(user).push(made, repo, **options)

    return run


def refused(hub, push, made, **options):
    """The reason why a push is refused, which must be that of its dry run, and change nothing."""
    hub.log.clear()
    reasons = [push(made, **options, **dry) for dry in ({"dry": True}, {})]
    assert reasons[0]["kind"] == reasons[1]["kind"] == "InputError"
    assert reasons[0]["error"] == reasons[1]["error"]
    assert not WRITES & set(hub.log)
    return reasons[0]["error"]


# -- whose files -------------------------------------------------------------------------------


def test_files_of_colleagues_stay_and_the_dry_run_lists_what_goes(hub, push, folder):
    push(folder("1.0.0", rows=40, validation_fraction=0.3))
    theirs = {"data/plan.md": b"p", "assets/logo.png": b"l", "data/default/extra.parquet": b"e"}
    hub.edit(REPO, theirs, author="bob")
    made = folder("1.1.0", rows=40)
    shard = "data/default/validation-00000-of-00001.parquet"
    dry = push(made, dry=True)["said"]
    derisk = shard.replace("default", "derisk")
    assert [text for text in dry if "delete" in text] == [
        f"files to delete on the Hub: {shard}, {derisk}"
    ]
    assert push(made)["kind"] == ""
    tree = commit_of(hub, "v1.1.0").tree
    assert {name: hub.blobs[tree[name]] for name in theirs} == theirs
    assert shard not in tree


def test_a_shard_edited_by_hand_is_named_before_it_is_replaced(hub, push, folder):
    push(folder("1.0.0"))
    hub.edit(REPO, {SHARD: b"their rows"}, author="bob")
    for options in ({"dry": True}, {}):
        said = " ".join(push(folder("1.1.0", rows=5), **options)["said"])
        assert f"edited on the Hub, replaced: {SHARD}" in said


@pytest.mark.parametrize(
    "name", ["tasks.py", "data/model.PKL", "data/default/train-00001-of-00002.parquet"]
)
def test_what_would_run_or_be_loaded_with_a_release_is_refused_by_name(hub, push, folder, name):
    push(folder("1.0.0"))
    hub.edit(REPO, {name: b"?"}, author="bob")
    made = folder("1.1.0", rows=5)
    assert f"no release of code-alpaca made ({name})" in refused(hub, push, made)
    assert f"files to delete on the Hub: {name}" in push(made, dry=True, replace=True)["said"]
    assert push(made, replace=True)["kind"] == ""
    assert name not in commit_of(hub, "v1.1.0").tree


def test_what_comes_meanwhile_is_refused_as_well(hub, push, folder, processes):
    push(folder("1.0.0"))

    def fault(route, nth):
        if route == "commit":
            hub.fault = lambda route, nth: None
            return "before"
        return None

    hub.fault = fault
    processes("alice").begin(folder("1.1.0", rows=5))
    assert hub.held.wait(30)
    hub.edit(REPO, {"loader.py": b"import os"}, author="bob")
    hub.resume.set()
    ended = processes("alice").end()
    assert ended["kind"] == "InputError" and "(loader.py)" in ended["error"]
    assert list(hub.repository(REPO).tags) == ["v1.0.0"]


def test_the_first_release_keeps_hand_made_metadata_and_refuses_a_hand_made_card(hub, push, folder):
    hub.do_create(Request("alice", {"name": "tasks", "type": "dataset"}))
    hub.edit(REPO, {"README.md": b"# Ours\n\nWords.\n"}, author="bob")
    made = folder("1.0.0")
    assert "(README.md)" in refused(hub, push, made)
    hub.edit(REPO, {"README.md": b"---\nlicense: mit\n---\n"}, author="bob")
    assert push(made)["kind"] == ""
    assert "license: mit\n" in hub.read(REPO, "v1.0.0", "README.md").decode()


@pytest.mark.parametrize("kind", ["link", "file"])
def test_links_and_other_files_of_the_folder_are_not_sent(hub, push, folder, tmp_path, kind):
    made, private = folder("1.0.0"), tmp_path / "private.txt"
    private.write_text("secret")
    place = made / "data/default/notes.txt"
    place.symlink_to(private) if kind == "link" else place.write_text("mine")
    error = refused(hub, push, made)
    assert "data/default/notes.txt" in error and ("contains links" in error) == (kind == "link")


# -- who may, and what for ---------------------------------------------------------------------


@pytest.mark.parametrize("role", [None, "read"])
def test_nobody_starts_a_repository_in_a_namespace_of_others(hub, push, folder, role):
    hub.orgs["guest"] = [{"name": "alice", "roleInOrg": role}] if role else []
    error = refused(hub, push, folder("1.0.0"), user="guest")
    assert "guest" in error and "alice" in error and error.count("\n") == 0
    assert push(folder("1.0.0"), user="guest", repo="guest/tasks")["kind"] == ""


def test_nobody_releases_in_a_repository_that_is_only_to_be_read(hub, push, folder):
    push(folder("1.0.0"))
    error = refused(hub, push, folder("1.1.0"), user="guest")
    assert "403: You don't have the rights to push" in error


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        ("Private repository storage limit reached, please upgrade your plan", "free storage"),
        ("pass `create_pr=1` as a query parameter to create a Pull Request", "direct commits"),
        ("This token is not for you", "create one with write access"),
    ],
)
def test_a_refusal_of_the_hub_says_why_and_what_to_do(hub, push, folder, reason, advice):
    hub.fault = lambda route, nth: f"403: {reason}" if route == "commit" else None
    ended = push(folder("1.0.0"))
    assert ended["kind"] == "InputError" and reason in ended["error"] and advice in ended["error"]


# -- one commit for a version ------------------------------------------------------------------


def made_again(made):
    """The folder as another run of the same command makes it: later, row by row."""
    manifest = json.loads((made / "manifest.json").read_text())
    for shard in manifest["sha256"]:
        table = pq.read_table(made / shard)
        at = table.column_names.index("created_at")
        later = pa.array(["2031-01-01T00:00:00Z"] * len(table), pa.string())
        pq.write_table(table.set_column(at, "created_at", later), made / shard)
        manifest["sha256"][shard] = sha256((made / shard).read_bytes()).hexdigest()
    manifest["created_at"] = "2031-01-01T00:00:00Z"
    (made / "manifest.json").write_text(json.dumps(manifest))
    return made


def test_a_commit_without_its_tag_is_found_by_a_run_that_lost_its_folder(hub, push, folder):
    hub.fault = lambda route, nth: "403: tags are protected" if route == "tag" else None
    first = folder("1.0.0")
    assert "tags are protected" in push(first)["error"]
    hub.fault = lambda route, nth: None
    shutil.rmtree(first.parent)
    made = made_again(folder("1.0.0", name="elsewhere"))
    assert "its tag is missing" in " ".join(push(made, dry=True)["said"])
    assert push(made)["kind"] == ""
    assert whole_versions(hub) == ["1.0.0"]
    there = commit_of(hub, "v1.0.0").tree
    assert there.pop(".gitattributes")
    assert {
        p.relative_to(made).as_posix(): p.read_bytes() for p in made.rglob("*") if p.is_file()
    } == {name: hub.blobs[oid] for name, oid in there.items()}


def test_a_version_whose_tag_was_deleted_is_not_made_again_with_other_rows(hub, push, folder):
    push(folder("1.0.0"))
    before = commit_of(hub, "v1.0.0")
    del hub.repository(REPO).tags["v1.0.0"]
    other = folder("1.0.0", rows=9, name="other")
    assert "released v1.0.0 with other content as commit" in refused(hub, push, other)
    assert "0.9.0 is lower" in refused(hub, push, folder("0.9.0"))
    assert push(folder("1.0.0"))["kind"] == ""  # the same rows get their tag back
    assert commit_of(hub, "v1.0.0") == before and whole_versions(hub) == ["1.0.0"]


def test_a_release_is_compared_with_the_one_before_wherever_its_tag_points(hub, push, folder):
    push(folder("1.0.0"))
    moved = hub.edit(REPO, {SHARD: None, "manifest.json": b"{}"}, author="bob")
    hub.repository(REPO).tags["v1.0.0"] = moved.sha
    for options in ({"dry": True}, {}):
        said = " ".join(push(folder("1.1.0", rows=5), **options)["said"])
        assert "since v1.0.0: 1 rows added, 0 removed, 0 changed" in said
        assert "moved by hand off the commit of their release: v1.0.0" in said
    assert "Since 1.0.0: 1 rows added" in hub.read(REPO, "v1.1.0", "CHANGELOG.md").decode()


@pytest.mark.parametrize("change", ["lower", "columns", "public"])
def test_a_dry_run_refuses_what_a_push_refuses(hub, push, folder, change):
    push(folder("1.1.0"))
    made = folder("1.0.0" if change == "lower" else "1.2.0")
    if change == "columns":
        manifest = json.loads((made / "manifest.json").read_text())
        manifest["columns"]["prompt"] = "string"
        (made / "manifest.json").write_text(json.dumps(manifest))
    error = refused(hub, push, made, **({"private": True} if change == "public" else {}))
    assert {"lower": "1.0.0 is lower", "columns": "other columns (prompt)",
            "public": "is public"}[change] in error  # fmt: skip


# -- a repository that vanishes ----------------------------------------------------------------


@pytest.mark.parametrize("change", ["deleted", "renamed"])
@pytest.mark.parametrize("route", ["lfs-batch", "commit", "tag"])
def test_a_repository_that_vanishes_meanwhile_is_one_line(
    hub, push, folder, processes, change, route
):
    push(folder("1.0.0"))
    hub.fault = lambda name, nth: "before" if name == route and not hub.held.is_set() else None
    processes("alice").begin(folder("1.1.0", rows=5))
    assert hub.held.wait(30)
    hub.delete(REPO) if change == "deleted" else hub.rename(REPO, "alice/other")
    hub.resume.set()
    ended = processes("alice").end()
    assert ended["kind"] == "Stopped" and ended["error"].count("\n") == 0
    assert "no longer exists" in ended["error"] or "was renamed to alice/other" in ended["error"]
    assert ("datasets", REPO) not in hub.repositories


def test_a_renamed_repository_is_named(hub, push, folder):
    push(folder("1.0.0"))
    hub.rename(REPO, "alice/other")
    assert "was renamed to alice/other" in refused(hub, push, folder("1.1.0"))


def test_a_private_repository_that_was_deleted_does_not_come_back_in_public(hub, push, folder):
    first = folder("1.0.0", name="run")
    assert push(first, private=True)["kind"] == ""
    hub.delete(REPO)
    made = folder("1.1.0", rows=5, name="run")
    assert "was private and no longer exists" in refused(hub, push, made)
    assert hub.repositories == {}
    assert push(made, private=True)["kind"] == ""
    assert hub.repository(REPO).private
