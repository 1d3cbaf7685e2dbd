"""The difference between two versions of a dataset, and the changelog that records it."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from code_alpaca.core.records import Manifest
from code_alpaca.core.schema import SeedTask
from code_alpaca.dataset.difference import diff_versions, update_changelog
from code_alpaca.dataset.origin_files import compare_seed_tasks, make_origin_files

ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")), max_size=8)


def write(path, rows, **columns):
    table = {
        "instruction": [task for task, _ in rows],
        "input": ["" for _ in rows],
        "output": [answer for _, answer in rows],
    }
    pq.write_table(pa.table(table | columns), path)
    return [path]


def test_rows_added_removed_and_changed(tmp_path):
    old = write(tmp_path / "old", [("a", "1"), ("b", "1"), ("c", "1")])
    new = write(tmp_path / "new", [("b", "2"), ("c", "1"), ("d", "1"), ("e", "1")])
    diff = diff_versions(old, new)
    assert (diff.added, diff.removed, diff.changed) == (2, 1, 1)
    assert diff.bytes_before == old[0].stat().st_size


def test_a_new_date_is_no_change_and_columns_are_named(tmp_path):
    rows = [("a", "1")]
    old = write(tmp_path / "old", rows, created_at=["then"], dropped=[1])
    new = write(tmp_path / "new", rows, created_at=["now"], new=["x"])
    diff = diff_versions(old, new)
    assert diff[:3] == (0, 0, 0)  # only the date differs
    assert (diff.columns_added, diff.columns_removed) == (["new"], ["dropped"])
    assert "new columns new; dropped columns dropped" in str(diff)


def test_seed_tasks_are_compared_also_with_a_version_that_has_none(tmp_path):
    old, new = (
        make_origin_files([SeedTask(name, text, "", "x") for name, text in tasks.items()], {})
        for tasks in ({"a": "1", "b": "1"}, {"b": "2", "c": "1", "d": "1"})
    )
    assert compare_seed_tasks(old, new) == "2 seed tasks added, 1 removed, 1 changed"
    assert compare_seed_tasks({}, new) == "3 seed tasks now included"
    assert compare_seed_tasks(old, {}) == "2 seed tasks no longer included"
    assert compare_seed_tasks({}, {}) == compare_seed_tasks(new, new) == ""
    rows = write(tmp_path / "rows", [("a", "1")])
    diff = diff_versions(rows, rows)._replace(seed_tasks=compare_seed_tasks({}, new))
    assert "0 changed; 3 seed tasks now included; " in str(diff)


@settings(deadline=None, max_examples=50)
@given(old=ROWS, new=ROWS)
def test_the_counts_add_up(tmp_path_factory, old, new):
    folder = tmp_path_factory.mktemp("rows")
    diff = diff_versions(write(folder / "old", old), write(folder / "new", new))
    unchanged = (Counter(old) & Counter(new)).total()
    assert unchanged + diff.changed + diff.removed == len(old)
    assert unchanged + diff.changed + diff.added == len(new)
    assert min(diff.added, diff.removed, diff.changed) >= 0


def test_the_changelog_keeps_older_entries_and_edits():
    manifest = {
        "version": "1.1.0", "created_at": "2026-01-02T03:04:05", "strategy": "self_instruct",
        "teacher": "t", "prompt_version": "p", "counts": {"default": 7, "verified": 3},
        "license": "mit", "sha256": {},
    }  # fmt: skip
    old = (
        "# Our changes\n\nHello.\n\n"
        "## 1.1.0 (2026-01-01)\n\n- half\n\n## 1.0.0 (2025-01-01)\n\n- first\n"
    )
    text = update_changelog(Manifest(**manifest), "1.0.0", None, old)
    assert text.startswith("# Our changes\n\nHello.\n\n## 1.1.0 (2026-01-02)\n\n- First version")
    assert text.endswith("## 1.0.0 (2025-01-01)\n\n- first\n") and "half" not in text


def test_text_from_data_stays_on_one_line_of_the_changelog():
    manifest = {
        "version": "1.0.0", "created_at": "2026-01-02T03:04:05", "strategy": "imported",
        "source": "a\n## 9.9.9 (now)\n[b](https://evil.example)", "source_revision": "<b>c",
        "counts": {"default": 7, "verified": 3}, "license": "mit", "sha256": {},
    }  # fmt: skip
    text = update_changelog(Manifest(**manifest), None, None, None)
    assert text.count("\n## ") == 1
    assert "- Rows of `a ## 9.9.9 (now) [b](https://evil.example)` (&lt;b&gt;c).\n" in text
