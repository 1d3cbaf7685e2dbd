"""Files and folders are there whole or not at all, and nothing of a failure stays beside them."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError


class Stop(Exception):
    """Whatever ends the writing."""


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    fs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        fs.write_json(path, {"a": object()})
    with pytest.raises(Stop), fs.atomic_writer(path) as file:
        file.write("half")
        raise Stop
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_old_one_at_once(tmp_path):
    path = tmp_path / "new" / "release"
    for text in ("one", "two"):
        with fs.atomic_folder(path, replace=True) as part:
            (part / text).write_text(text)
            assert not (path / text).exists()
        assert [each.name for each in path.iterdir()] == [text]
    with pytest.raises(Stop), fs.atomic_folder(path, replace=True) as part:
        (part / "three").write_text("half")
        raise Stop
    assert [each.name for each in path.iterdir()] == ["two"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_at_any_rename_keeps_a_whole_folder(tmp_path, monkeypatch, renames):
    """The next writer finds the old folder or the new one, and nothing beside it."""
    path, count = tmp_path / "release", 0
    with fs.atomic_folder(path) as part:
        (part / "old").write_text("old")
    rename = os.rename

    def killed(*names):
        nonlocal count
        if count == renames:
            raise SystemExit  # nothing after it runs, as after a kill
        count += 1
        rename(*names)

    def write():
        with fs.atomic_folder(path, replace=True) as part:
            (part / "new").write_text("new")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        if renames < 2:
            with pytest.raises(SystemExit):
                write()
        else:
            write()
    fs.recover_for_reading(path)
    assert path.exists()
    with pytest.raises(Stop), fs.lock(path), fs.atomic_folder(path):
        raise Stop
    assert [each.name for each in path.iterdir()] == ["new" if renames == 2 else "old"]
    assert list(tmp_path.iterdir()) == [path]


def test_what_came_there_meanwhile_is_not_deleted(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    with fs.atomic_folder(path) as part:  # an empty folder was made for it
        (part / "a").touch()
    assert [each.name for each in path.iterdir()] == ["a"]
    with pytest.raises(InputError, match="another process filled"), fs.atomic_folder(path):
        pass
    assert [each.name for each in path.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_leftovers_of_any_kind_go(tmp_path):
    real, link = tmp_path / "disk" / "data", tmp_path / "data"
    real.mkdir(parents=True)
    link.symlink_to(real)
    (real.parent / ".data.part").symlink_to(tmp_path)
    (real.parent / ".data.old").write_text("a file")
    for text in ("one", "two"):
        with fs.atomic_folder(link, replace=True) as part:
            (part / text).touch()
        assert link.is_symlink() and [each.name for each in real.iterdir()] == [text]
    assert list(real.parent.iterdir()) == [real]


def test_a_mount_point_is_refused_before_any_work():
    with pytest.raises(InputError, match="is a mount point"), fs.atomic_folder(Path("/proc")):
        raise Stop


def test_one_writer_at_a_time(tmp_path):
    path = tmp_path / "out"
    with fs.lock(path), pytest.raises(InputError, match="another process"), fs.lock(path):
        pass
    order = []

    def work(number):
        with fs.lock(path, wait=True):
            order.append(number)
            time.sleep(0.01)
            order.append(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(8)))
    assert order[::2] == order[1::2] and sorted(order[::2]) == list(range(8))
    assert list(tmp_path.iterdir()) == []


def test_files_written_at_a_time_are_each_whole(tmp_path):
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: fs.write_text(path, str(n) * 1000), range(8)))
    assert len(set(path.read_text())) == 1 and len(path.read_text()) == 1000
    assert list(tmp_path.iterdir()) == [path]
