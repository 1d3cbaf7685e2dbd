"""Sharded deduplication keeps exactly the rows that one process keeps."""

from __future__ import annotations

import json

import dill
import pytest
from datatrove.executor import LocalPipelineExecutor
from support.novelty_rows import make_similar_tasks

from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.novelty.sharded import Folders, make_stages


def write_files(folder, rows, num_files: int) -> None:
    folder.mkdir()
    per_file = -(-len(rows) // num_files)
    for number in range(num_files):
        lines = [
            {
                "instruction": row.instruction,
                "input": row.input,
                "language": row.language,
                "n": row.id,
            }
            for row in rows[number * per_file : (number + 1) * per_file]
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{number:03}.jsonl").write_text(text)


def run_stages(tmp_path, *, tasks: int, workers: int, **options) -> list[str]:
    folders = Folders(*(str(tmp_path / name) for name in ("in", "work", "out")))
    for number, (pipeline, count) in enumerate(make_stages(folders, tasks=tasks, **options)):
        logs = str(tmp_path / f"logs/{number}")
        executor = LocalPipelineExecutor(
            pipeline, tasks=count, workers=workers, logging_dir=logs, skip_completed=False
        )
        dill.loads(dill.dumps(executor)).run()  # as it reaches a worker on another machine
    kept = [
        json.loads(line)
        for path in sorted((tmp_path / "out").iterdir())
        for line in path.read_text().splitlines()
    ]
    return sorted((row["n"] for row in kept), key=lambda name: int(name[1:]))


@pytest.mark.parametrize(
    ("measure", "workers"),
    [("rouge_l", 1), ("code_aware", 1), pytest.param("rouge_l", 2, marks=pytest.mark.slow)],
)
def test_four_shards_keep_what_one_process_keeps(tmp_path, measure, workers):
    rows = [row for row in make_similar_tasks(1_000, seed=21) if row.instruction.strip()]
    rows += rows[:200]  # copies, far from their originals
    rows = [type(row)(row.instruction, row.input, "", id=f"r{n}", language=row.language)
            for n, row in enumerate(rows)]  # fmt: skip
    write_files(tmp_path / "in", rows, num_files=7)
    verdicts = NoveltyPool(measure, 0.7, nearest=False).check(rows)
    expected = [row.id for row, verdict in zip(rows, verdicts, strict=True) if verdict.is_novel]
    options = {"measure": measure, "threshold": 0.7}
    assert run_stages(tmp_path, tasks=4, workers=workers, **options) == expected
    assert 200 < len(expected) < 900


def test_bad_settings_are_refused():
    with pytest.raises(ValueError, match="unknown measure 'rouge'"):
        make_stages(Folders("in", "work", "out"), tasks=2, measure="rouge")
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        make_stages(Folders("in", "work", "out"), tasks=2, threshold=7)
