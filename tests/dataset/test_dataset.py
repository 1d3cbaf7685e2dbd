"""The dataset folder loads as the contract says, never half-written, fields byte for byte."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import DatasetCard

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Decision, Ledger
from code_alpaca.core.schema import CONFIGS, Example, features
from code_alpaca.dataset import card
from code_alpaca.dataset.build import build_dataset
from code_alpaca.dataset.folder import DatasetOptions
from code_alpaca.dataset.load import load_rows

CONFIG = {
    "num_examples": 3, "teacher_model": "m", "teacher_base_url": "offline", "seed": 0,
    "strategy": "self_instruct",
    "dataset_version": "0.1.0", "novelty": "rouge_l", "novelty_threshold": 0.7,
    "decontaminate": ["mini"],
}  # fmt: skip
TEXTS = ["plain", "CRLF\r\nand tab\t", "日本語 \U0001f999", 'quotes " and \\ and ```fence```', ""]


def example(number, **more):
    return Example(
        instruction=f"Task {number}",
        input=TEXTS[number % 5],
        output=TEXTS[(number + 1) % 5] or "x",
        id=str(number),
        language="python",
        verification="passed" if number % 2 else "no_tests",
        seed_ids=["seed_001"],
        **more,
    )


@pytest.fixture
def run_dir(tmp_path):
    """Four accepted rows of which three are wanted, and two rejected."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_meta("config", json.dumps(CONFIG))
        ledger.set_meta("prompt_version", "abcd")
        ledger.set_meta("seed_tasks_sha256", "ef")
        for request in range(2):
            key = ledger.request(request, "/chat", {"n": request})
            ledger.save_reply(key, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}})
            ledger.decide(request, [
                Decision(example(2 * request), ""), Decision(example(2 * request + 1), ""),
                Decision(example(9, contamination=["mini/1"]), "contaminated"),
            ])  # fmt: skip
    return tmp_path


@pytest.mark.parametrize("config", CONFIGS)
def test_each_config_loads_offline_with_the_contracts_features(run_dir, config, tmp_path_factory):
    from datasets import load_dataset

    folder = build_dataset(run_dir)
    rows = load_dataset(
        str(folder), config, split="train", cache_dir=str(tmp_path_factory.mktemp("cache"))
    )
    assert rows.features == features(config)
    expected = {"default": 3, "derisk": 3, "verified": 1, "rejected": 2}[config]
    assert len(rows) == expected
    if config == "default":
        assert [dict(row) for row in rows] == [example(n).as_row() for n in range(3)]
    if config == "rejected":
        assert rows["reason"][:] == ["contaminated"] * 2
        assert rows["contamination"][:] == [["mini/1"]] * 2


def test_a_config_without_rows_is_left_out(tmp_path):
    from datasets import get_dataset_config_names

    source = tmp_path / "rows.json"
    source.write_text(json.dumps([{"instruction": "a b c d", "input": "", "output": "e"}]))
    assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path / "r")]) == 0
    folder = tmp_path / "r/dataset"
    assert get_dataset_config_names(str(folder)) == ["default", "derisk"]
    assert not (folder / "data/rejected").exists()


def test_same_rows_same_bytes(run_dir):
    shards = "data/*/*.parquet"
    first = {path: path.read_bytes() for path in build_dataset(run_dir).glob(shards)}
    assert len(first) == 4
    assert {path: path.read_bytes() for path in build_dataset(run_dir).glob(shards)} == first


def test_another_run_of_the_same_folder_name_is_not_served_from_the_cache(tmp_path):
    from datasets import load_dataset

    for name, count in {"a": 1, "b": 2}.items():
        source = tmp_path / f"{name}.json"
        source.write_text(json.dumps([{"instruction": name, "input": "", "output": "x"}] * count))
        assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path / name)]) == 0
        rows = load_dataset(
            str(tmp_path / name / "dataset"), split="train", cache_dir=str(tmp_path / "cache")
        )
        assert rows["instruction"][:] == [name] * count


def test_a_failed_build_leaves_the_old_folder(run_dir, monkeypatch):
    old = (build_dataset(run_dir) / "README.md").read_text()
    monkeypatch.setattr(card, "render_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_dataset(run_dir, DatasetOptions("0.2.0"))
    assert (run_dir / "dataset/README.md").read_text() == old
    monkeypatch.undo()
    built = build_dataset(run_dir, DatasetOptions("0.2.0"))
    assert "# Code Alpaca 0.2.0" in (built / "README.md").read_text()


def test_card_is_whole(run_dir):
    text = (build_dataset(run_dir) / "README.md").read_text()
    for gap in ("None", "More Information", "{{", "}}", "undefined"):
        assert gap not in text
    metadata = DatasetCard(text).data
    assert metadata.license == "other" and metadata.size_categories == ["n<1K"]
    assert [item["config_name"] for item in metadata.configs] == list(CONFIGS)
    assert "a grammar that composes tasks" in text
    assert "| `contaminated` | 2 |" in text
    assert "5 candidates, 3 accepted rows. The teacher returned 2 replies" in text


def test_import_keeps_every_byte(tmp_path, capsys):
    rows = [{"instruction": f"i{n} {text}", "input": text, "output": text or "x"}
            for n, text in enumerate(TEXTS)]  # fmt: skip
    source = tmp_path / "alpaca.json"
    source.write_text(json.dumps(rows))
    run = ["publish", "--source", str(source), "--run_dir", str(tmp_path / "r")]
    assert main([*run, "--dataset_version", "1.0.0", "--license", "cc-by-nc-4.0"]) == 0
    loaded, revision = load_rows(str(tmp_path / "r/dataset"))
    assert [{key: row[key] for key in ("instruction", "input", "output")} for row in loaded] == rows
    assert revision.startswith("v1.0.0 (sha256 ")
    text = (tmp_path / "r/dataset/README.md").read_text()
    assert "None" not in text and "imported unchanged from `alpaca.json`" in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--dataset_version", "1.0"], "not SemVer"),
        (["--hub_dataset_id", "me/data"], "no token for the Hub"),
        (["--run_dir", "nowhere"], "is nowhere a run folder?"),
        (["--source", "missing.json"], "contains a run of generate"),
        (["--source", "missing.json", "--run_dir", "nowhere"], "cannot read missing.json"),
        (["--source", "", "--run_dir", "nowhere"], "is empty; give an Alpaca JSON or JSONL file"),
    ],
)
def test_bad_input(run_dir, words, said, capsys):
    assert main(["publish", "--run_dir", str(run_dir), *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "contains no rows"),
        ('[{"instruction": "a", "output": 3}]', "row 1: 'output' is a number, not text"),
        ('{"instruction": "a", "input": "", "output": "b"}\n{"x": 1}', "line 2: 'instruction' is"),
        ("[{", "neither a JSON list nor JSONL"),
    ],
)
def test_bad_alpaca_files(tmp_path, text, said):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        load_rows(str(path))


def test_a_source_of_another_form_is_told_what_is_accepted(tmp_path):
    rows = json.dumps([{"instruction": "a", "input": "", "output": "b"}])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "rows.json").write_text(rows)
    for name, said in (
        (" ", "is empty"),
        (tmp_path / "folder", "is not a dataset folder"),
    ):
        with pytest.raises(InputError, match=f"{said}.* give an Alpaca JSON or JSONL file"):
            load_rows(str(name))


@pytest.mark.parametrize("name", ["./nowhere", "no/such/thing", "nobody/nothing"])
def test_a_dataset_that_is_not_there(name):
    with pytest.raises(InputError, match=r"no dataset at|cannot find dataset"):
        load_rows(name)


def test_the_templates_are_the_ones_at_the_top_of_the_tree():
    root = Path(__file__).parents[2]
    packed = root / "src/code_alpaca/dataset/templates"
    assert packed.resolve() == root / "dataset_card"


def test_rows_that_are_not_the_manifests_are_refused(run_dir):
    folder = build_dataset(run_dir)
    shard = next((folder / "data/default").iterdir())
    shard.write_bytes((folder / "data/rejected" / shard.name).read_bytes())
    with pytest.raises(InputError, match="differs from manifest"):
        load_rows(str(folder))


def test_a_folder_of_someone_else_is_not_replaced(tmp_path, capsys):
    source = tmp_path / "rows.json"
    source.write_text('[{"instruction": "a", "output": "b"}]')
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.txt").write_text("precious")
    assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path)]) == 2
    assert "code-alpaca did not create it" in capsys.readouterr().err
    assert (tmp_path / "dataset/mine.txt").read_text() == "precious"


def test_version_and_licence_stay_until_told_otherwise(run_dir):
    build_dataset(run_dir, DatasetOptions("2.0.0", "mit"))
    again = json.loads((build_dataset(run_dir) / "manifest.json").read_text())
    assert (again["version"], again["license"]) == ("2.0.0", "mit")


def test_a_kill_between_the_renames_forgets_nothing(run_dir):
    """What `mv dataset .dataset.old` leaves: the version, licence and split are still known."""
    build_dataset(run_dir, DatasetOptions("2.3.0", "cc-by-4.0", 0.3))
    before = (run_dir / "dataset/manifest.json").read_bytes()
    (run_dir / "dataset").rename(run_dir / ".dataset.old")
    assert main(["publish", "--run_dir", str(run_dir)]) == 0
    assert (run_dir / "dataset/manifest.json").read_bytes() == before
    assert not list(run_dir.glob(".dataset*"))


def test_several_writers_take_turns(run_dir):
    words = [sys.executable, "-m", "code_alpaca.cli", "publish", "--run_dir", str(run_dir)]
    started = [subprocess.Popen(words, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
