"""Files and folders are written atomically, and a failure leaves no temporary files."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from code_alpaca.core import fs
from code_alpaca.core.errors import InputError


class Stop(Exception):
    """An error while a file or folder is written."""


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    fs.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        fs.write_json(path, {"a": object()})
    with pytest.raises(Stop), fs.atomic_writer(path) as file:
        file.write("half")
        raise Stop
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_replaced_on_success_and_kept_on_failure(tmp_path):
    path = tmp_path / "new" / "release"
    for text in ("one", "two"):
        with fs.atomic_folder(path, replace=True) as part:
            (part / text).write_text(text)
            assert not (path / text).exists()
        assert [item.name for item in path.iterdir()] == [text]
    with pytest.raises(Stop), fs.atomic_folder(path, replace=True) as part:
        (part / "three").write_text("half")
        raise Stop
    assert [item.name for item in path.iterdir()] == ["two"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_between_renames_loses_no_folder(tmp_path, monkeypatch, renames):
    """The next writer finds the old folder or the new one, and no temporary files."""
    path, count = tmp_path / "release", 0
    with fs.atomic_folder(path) as part:
        (part / "old").write_text("old")
    rename = os.rename

    def killed(*names):
        nonlocal count
        if count == renames:
            raise SystemExit  # nothing else runs, as after a kill
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
    assert [item.name for item in path.iterdir()] == ["new" if renames == 2 else "old"]
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".release.lock", path]


def test_a_folder_that_another_process_filled_is_not_deleted(tmp_path):
    path = tmp_path / "out"
    path.mkdir()
    with fs.atomic_folder(path) as part:  # the empty folder is replaced
        (part / "a").touch()
    assert [item.name for item in path.iterdir()] == ["a"]
    with pytest.raises(InputError, match="another process filled"), fs.atomic_folder(path):
        pass
    assert [item.name for item in path.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_symlink_is_followed_and_leftovers_are_deleted(tmp_path):
    real, link = tmp_path / "disk" / "data", tmp_path / "data"
    real.mkdir(parents=True)
    link.symlink_to(real)
    (real.parent / ".data.part").symlink_to(tmp_path)
    (real.parent / ".data.old").write_text("a file")
    for text in ("one", "two"):
        with fs.atomic_folder(link, replace=True) as part:
            (part / text).touch()
        assert link.is_symlink() and [item.name for item in real.iterdir()] == [text]
    assert list(real.parent.iterdir()) == [real]


def test_a_mount_point_is_refused():
    with pytest.raises(InputError, match="is a mount point"), fs.atomic_folder(Path("/proc")):
        raise Stop


def test_one_process_at_a_time_has_the_lock(tmp_path):
    path = tmp_path / "out"
    with fs.lock(path), pytest.raises(InputError, match="another process"), fs.lock(path):
        pass
    order = []

    def work(number):
        with fs.lock(path, wait=True):
            order.append(number)
            os.sched_yield()
            order.append(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(50)))
    assert order[::2] == order[1::2] and sorted(order[::2]) == list(range(50))


def test_concurrent_writes_do_not_mix(tmp_path):
    path = tmp_path / "file"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: fs.write_text(path, str(n) * 1000), range(8)))
    assert len(set(path.read_text())) == 1 and len(path.read_text()) == 1000
    assert list(tmp_path.iterdir()) == [path]
