"""The quickstart at a reduced size; a repeated command reuses what exists."""

from __future__ import annotations

import json

from huggingface_hub import DatasetCard, ModelCard

from code_alpaca.cli import main


def test_the_quickstart_runs_every_stage_and_resumes(tmp_path, capsys):
    run_dir = tmp_path / "first run"
    words = ["quickstart", "--run_dir", str(run_dir), "--num_examples", "60", "--epochs", "1"]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for stage in ("generate", "publish", "sft", "eval", "release"):
        assert f"] {stage}: " in shown
    assert "reference solutions 100% (20 of 20" in shown
    assert "(sanity check of the grader)" in shown
    assert f"code-alpaca report --run_dir '{run_dir}'  writes a page" in shown  # can be pasted
    results = json.loads((run_dir / "eval/results.json").read_text())
    assert f"({results['statuses'].get('passed', 0)} of 20;" in shown

    from datasets import load_dataset

    rows = load_dataset(str(run_dir / "dataset"), "default", split="train")
    assert len(rows) == 60
    for card in (DatasetCard, ModelCard):
        folder = "dataset" if card is DatasetCard else "release"
        text = card.load(run_dir / folder / "README.md").content
        assert "None" not in text and "More Information" not in text
    assert (run_dir / "release/DATASET_CARD.md").exists()

    made = [run_dir / "model/run.json", run_dir / "model/model.safetensors"]
    before = [path.stat().st_mtime_ns for path in made]
    assert main(words) == 0
    assert [path.stat().st_mtime_ns for path in made] == before, "a second run must not train again"

    words[words.index("60")] = "70"
    assert main(words) == 0
    assert len(load_dataset(str(run_dir / "dataset"), "default", split="train")) == 70
    assert json.loads(made[0].read_text())["rows"] == 70


def test_fresh_does_not_delete_a_folder_without_a_run(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("words")
    assert main(["quickstart", "--run_dir", str(tmp_path), "--fresh"]) == 2
    assert "contains no run" in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").exists()
