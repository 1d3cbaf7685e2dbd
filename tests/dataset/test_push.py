"""A release is one commit and one tag, or nothing; whatever fails, whoever else is there."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from hashlib import sha256

import pytest
from support.dataset_releases import REPO, Publisher, commit_of, whole_versions
from support.hub_client import Request

from code_alpaca.dataset import shards as shard_writing

# Steps that write, and the moments of each; those of which the quick run has enough are slow.
STEPS = [
    *((route, moment) for route in ("commit", "tag") for moment in ("before", "after")),
    ("lfs-put", "after"),
    *(
        pytest.param(route, moment, marks=pytest.mark.slow)
        for route in ("create", "lfs-batch", "lfs-verify")
        for moment in ("before", "after")
    ),
]


@pytest.fixture
def start(hub, tmp_path):
    started = []

    def more(user="alice"):
        started.append(Publisher(hub, tmp_path / f"home-{user}", user))
        return started[-1]

    yield more
    for publisher in started:
        publisher.kill()


def test_one_commit_holds_everything_and_the_tag_stands_for_it(hub, start, folder):
    made = folder("1.0.0", draw=True)
    ended = start().push(made)
    assert whole_versions(hub) == ["1.0.0"]
    commit = commit_of(hub, "v1.0.0")
    assert commit.sha == ended["sha"] and commit.title == "Release v1.0.0"
    local = {str(p.relative_to(made)): p.read_bytes() for p in made.rglob("*") if p.is_file()}
    there = {p: hub.blobs[oid] for p, oid in commit.tree.items() if p != ".gitattributes"}
    assert there == local  # the folder is what is on the Hub, byte for byte


FAULTS = ["500", "429", "drop", "lost"]


@pytest.mark.parametrize(
    ("kind", "first", "every"),
    [(kind, first, 5) for first, kind in enumerate(FAULTS)]
    + [pytest.param(kind, 0, 1, marks=pytest.mark.slow) for kind in FAULTS],
)
def test_every_request_failing_once_changes_nothing(hub, start, folder, kind, first, every):
    """In turn for the requests of a release; in the quick run, for every fifth of them."""
    publisher = start()
    publisher.push(folder("1.0.0"))
    hub.log.clear()
    publisher.push(folder("1.1.0", rows=5))
    count = len(hub.log)
    for minor, nth in enumerate(range(1 + first, count + 1, every), 2):
        hub.log.clear()
        hub.fault = lambda route, now, nth=nth: kind if now == nth else None
        ended = publisher.push(folder(f"1.{minor}.0", rows=4 + minor))
        assert ended["kind"] == "", f"{hub.log[nth - 1]} {kind}: {ended.get('error')}"
        hub.fault = lambda route, now: None
    versions = whole_versions(hub)
    assert versions == [f"1.{minor}.0" for minor in range(len(versions))]  # each exactly once
    assert set(hub.repository(REPO).tags) == {f"v{version}" for version in versions}
    for version in versions:
        assert json.loads(hub.read(REPO, f"v{version}", "manifest.json"))["version"] == version


@pytest.mark.parametrize(("route", "moment"), STEPS)
def test_killed_at_any_step_it_goes_on(hub, start, folder, route, moment):
    first = start()
    if route != "create":
        first.push(folder("1.0.0"))
    made = folder("1.1.0", rows=6)
    hub.fault = lambda name, nth: moment if name == route else None
    first.begin(made)
    assert hub.held.wait(30)
    first.kill()
    hub.fault = lambda name, nth: None
    hub.resume.set()
    if route != "create" and (route, moment) not in (("commit", "after"), ("tag", "before")):
        seen = whole_versions(hub)[-1]
        assert seen == ("1.1.0" if route == "tag" else "1.0.0")
    ended = start().push(made)
    assert ended["kind"] == ""
    assert whole_versions(hub).count("1.1.0") == 1
    assert commit_of(hub, "v1.1.0").sha == ended["sha"]
    assert not (made.parent / ".publish.json").exists()


def test_a_hub_that_stays_away_is_said_and_the_same_push_goes_on(hub, start, folder):
    made, publisher = folder("1.0.0"), start()
    hub.fault = lambda route, nth: "500" if route == "commit" else None
    ended = publisher.push(made, tries=2)
    assert ended["kind"] == "Stopped" and "the same command resumes" in ended["error"]
    assert hub.repository(REPO).tags == {}
    hub.fault = lambda route, nth: None
    assert publisher.push(made)["kind"] == ""
    assert whole_versions(hub) == ["1.0.0"]


def test_a_version_never_changes(hub, start, folder):
    publisher = start()
    publisher.push(folder("1.0.0"))
    before = commit_of(hub, "v1.0.0")
    for made in (folder("1.0.0"), folder("1.0.0", rows=9, name="other")):
        ended = publisher.push(made)
        assert ended["kind"] == "InputError" and "already has v1.0.0" in ended["error"]
    assert commit_of(hub, "v1.0.0") == before and whole_versions(hub) == ["1.0.0"]


def test_a_lower_version_only_when_told(hub, start, folder):
    publisher = start()
    publisher.push(folder("1.10.0"))
    older = folder("1.9.0", rows=3)
    ended = publisher.push(older)
    assert "is at v1.10.0 and 1.9.0 is lower" in ended["error"]
    assert publisher.push(older, allow_older=True)["kind"] == ""
    assert set(hub.repository(REPO).tags) == {"v1.10.0", "v1.9.0"}


def test_of_two_publishers_one_wins_and_the_other_says_why(hub, start, folder):
    alice, bob = start(), start("bob")
    alice.push(folder("1.0.0"))
    mine, other = folder("1.1.0", rows=5), folder("1.1.0", rows=7, name="of-bob")
    waiting = threading.Event()

    def fault(route, nth):  # the first commit to come waits until the other one has landed
        if route == "commit" and not waiting.is_set():
            waiting.set()
            return "before"
        return None

    hub.fault = fault
    alice.begin(mine)
    assert hub.held.wait(30)
    assert bob.push(other)["kind"] == ""
    hub.resume.set()
    ended = alice.end()
    assert ended["kind"] == "InputError"
    assert "bob committed 'Release v1.1.0'" in ended["error"]
    assert whole_versions(hub) == ["1.0.0", "1.1.0"]
    assert json.loads(hub.read(REPO, "v1.1.0", "manifest.json"))["counts"]["default"] == 7


def test_a_change_to_other_files_meanwhile_does_no_harm(hub, start, folder):
    publisher = start()
    publisher.push(folder("1.0.0"))

    def fault(route, nth):
        if route == "commit":
            hub.fault = lambda name, number: None
            return "before"
        return None

    hub.fault = fault
    publisher.begin(folder("1.1.0", rows=6))
    assert hub.held.wait(30)
    hub.edit(REPO, {"LICENSE": b"terms"}, author="bob")
    hub.resume.set()
    ended = publisher.end()
    assert ended["kind"] == "" and any("bob committed" in line for line in ended["said"])
    assert "LICENSE" in commit_of(hub, "v1.1.0").tree
    assert whole_versions(hub)[-1] == "1.1.0"


def test_prose_edited_on_the_hub_is_kept_and_numbers_are_made_anew(hub, start, folder):
    publisher = start()
    publisher.push(folder("1.0.0", rows=4))
    card = hub.read(REPO, "main", "README.md").decode()
    edited = (
        card.replace("no person has reviewed every row", "one of us has reviewed every row")
        .replace("4 candidates, 4 accepted rows", "lots of rows")
        .replace("pretty_name:", "annotations_creators: [machine-generated]\npretty_name:")
    ) + "\n## Thanks\n\nTo the readers.\n"
    hub.edit(REPO, {"README.md": edited.encode()}, author="bob")
    made = folder("1.1.0", rows=6)
    ended = publisher.push(made)
    card = hub.read(REPO, "v1.1.0", "README.md").decode()
    assert "one of us has reviewed every row" in card and "To the readers." in card
    assert "6 candidates, 6 accepted rows" in card and "lots of rows" not in card
    assert "annotations_creators:" in card and "# Code Alpaca 1.1.0" in card
    told = " ".join(ended["said"])
    assert "kept: Limitations, Datasheet, Thanks, metadata annotations_creators" in told
    assert "replaced: How it was made" in told
    assert (made / "README.md").read_text() == card
    publisher.push(folder("1.2.0", rows=7))  # and the one after it keeps it, too
    card = hub.read(REPO, "v1.2.0", "README.md").decode()
    assert "one of us has reviewed every row" in card and "To the readers." in card
    assert "7 candidates, 7 accepted rows" in card and "annotations_creators:" in card


@pytest.mark.parametrize("rubbish", [b"\xff\xfeA\0\n", b"", b"---\n: [\n---\n", b"# Mine\n"])
def test_rubbish_on_the_hub_is_made_anew(hub, start, folder, rubbish):
    publisher = start()
    publisher.push(folder("1.0.0"))
    hub.edit(REPO, {"README.md": rubbish, "CHANGELOG.md": rubbish}, author="bob")
    assert publisher.push(folder("1.1.0"))["kind"] == ""
    card = hub.read(REPO, "v1.1.0", "README.md").decode()
    assert "# Code Alpaca 1.1.0" in card and card.startswith("---\nlanguage:")


@pytest.mark.parametrize("manifest", [b"[1]", b"{trunc", b'{"columns": 5}'])
def test_a_manifest_edited_on_the_hub_is_no_obstacle(hub, start, folder, manifest):
    publisher = start()
    publisher.push(folder("1.0.0"))
    hub.edit(REPO, {"manifest.json": manifest}, author="bob")
    hub.repository(REPO).tags["v1.0.0"] = hub.repository(REPO).branches["main"]
    assert publisher.push(folder("1.1.0"))["kind"] == ""
    assert json.loads(hub.read(REPO, "v1.1.0", "manifest.json"))["version"] == "1.1.0"


def test_a_repository_of_other_columns_or_other_files_is_refused(hub, start, folder):
    publisher = start()
    made = folder("1.0.0")
    manifest = json.loads((made / "manifest.json").read_text())
    manifest["columns"]["prompt"] = manifest["columns"].pop("input")
    (made / "manifest.json").write_text(json.dumps(manifest))
    publisher.push(made)
    ended = publisher.push(folder("1.1.0"))
    assert "has other columns (input, prompt)" in ended["error"]
    assert publisher.push(folder("1.1.0"), replace=True)["kind"] == ""

    hub.do_create(Request("alice", {"name": "foreign", "type": "dataset"}))
    hub.edit("alice/foreign", {"data/train.parquet": b"?"}, author="alice")
    ended = publisher.push(made, "alice/foreign")
    assert "files that no release of code-alpaca made (data/train.parquet)" in ended["error"]
    assert list(hub.repository("alice/foreign").tags) == []


@pytest.mark.parametrize(
    ("user", "said"),
    [("reader", "is read-only"), ("stranger", "rejects the token"), ("", "no token")],
)
def test_tokens_that_will_not_do(hub, tmp_path, folder, user, said):
    publisher = Publisher(hub, tmp_path / "home", user)
    ended = publisher.push(folder("1.0.0"))
    publisher.kill()
    assert ended["kind"] == "InputError" and said in ended["error"]
    assert hub.repositories == {}


def test_a_shard_changed_since_the_manifest_is_not_pushed(hub, start, folder):
    made = folder("1.0.0")
    shard = made / "data/default/train-00000-of-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")
    ended = start().push(made)
    assert ended["kind"] == "InputError" and "differs from manifest.json" in ended["error"]
    assert hub.log == []


def test_a_first_push_that_got_no_tag_is_taken_over(hub, start, folder):
    first = start()
    hub.fault = lambda route, nth: "before" if route == "tag" else None
    first.begin(folder("1.0.0", rows=5))
    assert hub.held.wait(30)
    first.kill()
    hub.fault = lambda route, nth: None
    assert start().push(folder("1.0.0", rows=8))["kind"] == ""
    assert json.loads(hub.read(REPO, "v1.0.0", "manifest.json"))["counts"]["default"] == 8


def test_a_half_finished_push_of_other_rows_is_taken_over(hub, start, folder):
    """Killed between commit and tag, then the run grew: the new rows become the version."""
    first = start()
    first.push(folder("1.0.0"))
    hub.fault = lambda route, nth: "before" if route == "tag" else None
    first.begin(folder("1.1.0", rows=5))
    assert hub.held.wait(30)
    first.kill()
    hub.fault = lambda route, nth: None
    ended = start().push(folder("1.1.0", rows=8))
    assert ended["kind"] == ""
    assert json.loads(hub.read(REPO, "v1.1.0", "manifest.json"))["counts"]["default"] == 8
    changelog = hub.read(REPO, "v1.1.0", "CHANGELOG.md").decode()
    assert changelog.count("## 1.1.0 (") == 1 and "Since 1.0.0: 4 rows added" in changelog
    hub.resume.set()


def test_full_shards_go_ahead_of_the_release_and_nobody_sees_them(hub, start, folder, monkeypatch):
    monkeypatch.setattr(shard_writing, "ROWS_PER_SHARD", 1_000)
    publisher, made = start(), folder("1.0.0", rows=2_500)
    hub.do_create(Request("alice", {"name": "tasks", "type": "dataset"}))
    assert publisher.push(made, ahead=True)["kind"] == ""
    shards = sorted((made / "data/default").iterdir())
    assert [sha256(p.read_bytes()).hexdigest() in hub.blobs for p in shards] == [True, True, False]
    assert len(hub.repository(REPO).commits) == 1  # the one that made the repository
    hub.log.clear()
    publisher.push(made)
    assert whole_versions(hub) == ["1.0.0"]


# Each look from a process of its own: `datasets` remembers within one what `main` was.
READER = """
import os, sys
from datasets import load_dataset
while os.fork():
    os.wait()
else:
    rows = load_dataset(sys.argv[1], "default", split="train", revision="main", streaming=True)
    print(sorted(set(row["output"] for row in rows)), flush=True)
"""


def test_a_reader_meanwhile_sees_whole_versions_alone(hub, start, folder, tmp_path):
    publisher = start()
    publisher.push(folder("1.0.0", answer="one"))
    reader = subprocess.Popen(
        [sys.executable, "-c", READER, REPO], stdout=subprocess.PIPE, text=True,
        env=hub.environment(tmp_path / "reader"), stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        seen = [reader.stdout.readline()]
        for minor, answer in enumerate(["two", "three"], 1):
            publisher.push(folder(f"1.{minor}.0", rows=4 + minor, answer=answer))
            seen += [reader.stdout.readline() for _ in range(2)]
    finally:
        reader.kill()
    assert set(seen) <= {"['one']\n", "['two']\n", "['three']\n"}
    assert seen[0] == "['one']\n" and seen[-1] == "['three']\n"


LOADER = """
import json, sys
from code_alpaca.dataset.load import load_rows, stream_rows
rows, sha = load_rows(sys.argv[1], "default", sys.argv[2])
streamed, same = stream_rows(sys.argv[1], "default", sys.argv[2])
assert sha == same and [r["id"] for r in streamed] == rows["id"][:]
print(json.dumps([sha, rows["output"][:]]))
"""


def test_an_old_version_loads_the_same_for_ever_from_a_fresh_cache(hub, start, folder, tmp_path):
    publisher = start()
    publisher.push(folder("1.0.0", answer="one"))
    publisher.push(folder("1.1.0", rows=6, answer="two"))
    told = {}
    for tag in ("v1.0.0", "main"):
        told[tag] = json.loads(
            subprocess.run(
                [sys.executable, "-c", LOADER, REPO, tag], capture_output=True, text=True,
                check=True, env=hub.environment(tmp_path / f"cache-{tag}"),
            ).stdout
        )  # fmt: skip
    assert told["v1.0.0"] == [commit_of(hub, "v1.0.0").sha, ["one"] * 4]
    assert told["main"] == [commit_of(hub, "v1.1.0").sha, ["two"] * 6]
