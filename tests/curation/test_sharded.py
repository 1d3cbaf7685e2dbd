"""Many workers keep what one process keeps, row for row."""

from __future__ import annotations

import json

import pytest
from datatrove.executor import LocalPipelineExecutor
from support.novelty_rows import variants

from code_alpaca.curation.novelty.measures import MEASURES
from code_alpaca.curation.novelty.pool import NoveltyPool
from code_alpaca.curation.novelty.sharded import stages


def write(folder, rows, files: int) -> None:
    folder.mkdir()
    each = -(-len(rows) // files)
    for number in range(files):
        lines = [
            {
                "instruction": row.instruction,
                "input": row.input,
                "language": row.language,
                "n": row.id,
            }
            for row in rows[number * each : (number + 1) * each]
        ]
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{number:03}.jsonl").write_text(text)


def run(tmp_path, tasks: int, **options) -> list[str]:
    for number, (pipeline, count) in enumerate(
        stages(str(tmp_path / "in"), str(tmp_path / "work"), str(tmp_path / "out"),
               tasks=tasks, **options)
    ):  # fmt: skip
        logs = str(tmp_path / f"logs/{number}")
        LocalPipelineExecutor(pipeline, tasks=count, workers=2, logging_dir=logs).run()
    kept = [
        json.loads(line)
        for path in sorted((tmp_path / "out").iterdir())
        for line in path.read_text().splitlines()
    ]
    return sorted((row["n"] for row in kept), key=lambda name: int(name[1:]))


@pytest.mark.parametrize("measure", MEASURES)
def test_four_workers_keep_what_one_process_keeps(tmp_path, measure):
    rows = [row for row in variants(1_500, seed=21) if row.instruction.strip()]
    rows += rows[:200]  # copies, far from their originals
    rows = [type(row)(row.instruction, row.input, "", id=f"r{n}", language=row.language)
            for n, row in enumerate(rows)]  # fmt: skip
    write(tmp_path / "in", rows, files=7)
    verdicts = NoveltyPool(measure, 0.7, nearest=False).check(rows)
    expected = [row.id for row, verdict in zip(rows, verdicts, strict=True) if verdict.is_novel]
    assert run(tmp_path, tasks=4, measure=measure, threshold=0.7) == expected
    assert 200 < len(expected) < 1_400


def test_bad_settings():
    with pytest.raises(ValueError, match="no measure 'rouge'"):
        stages("in", "work", "out", tasks=2, measure="rouge")
    with pytest.raises(ValueError, match=r"outside 0\.\.1"):
        stages("in", "work", "out", tasks=2, threshold=7)
