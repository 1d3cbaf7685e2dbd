"""Files and folders are there whole or not at all, and nothing of a failure stays beside them."""

from __future__ import annotations

import os

import pytest

from code_alpaca import whole


class Stop(Exception):
    """Whatever ends the writing."""


def test_a_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    whole.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        whole.write_json(path, {"a": object()})
    with pytest.raises(Stop), whole.writing(path) as file:
        file.write("half")
        raise Stop
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_takes_the_place_of_the_old_one_at_once(tmp_path):
    path = tmp_path / "new" / "release"
    for text in ("one", "two"):
        with whole.folder(path) as part:
            (part / text).write_text(text)
            assert not (path / text).exists()
        assert [each.name for each in path.iterdir()] == [text]
    with pytest.raises(Stop), whole.folder(path) as part:
        (part / "three").write_text("half")
        raise Stop
    assert [each.name for each in path.iterdir()] == ["two"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_at_any_rename_keeps_a_whole_folder(tmp_path, monkeypatch, renames):
    """The next writer finds the old folder or the new one, and nothing beside it."""
    path, count = tmp_path / "release", 0
    with whole.folder(path) as part:
        (part / "old").write_text("old")
    rename = os.rename

    def killed(*names):
        nonlocal count
        if count == renames:
            raise SystemExit  # nothing after it runs, as after a kill
        count += 1
        rename(*names)

    def write():
        with whole.folder(path) as part:
            (part / "new").write_text("new")

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", killed)
        patched.setattr("shutil.rmtree", lambda *_, **__: None)
        if renames < 2:
            with pytest.raises(SystemExit):
                write()
        else:
            write()
    with pytest.raises(Stop), whole.folder(path):
        raise Stop
    assert [each.name for each in path.iterdir()] == ["new" if renames == 2 else "old"]
    assert list(tmp_path.iterdir()) == [path]
