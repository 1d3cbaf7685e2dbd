"""Dataset folders: built from a ledger or imported, atomically, with every field unchanged."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
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
SHARDS = "data/*/*.parquet"


def make_example(number, **columns):
    return Example(
        instruction=f"Task {number}",
        input=TEXTS[number % 5],
        output=TEXTS[(number + 1) % 5] or "x",
        id=str(number),
        language="python",
        verification="passed" if number % 2 else "no_tests",
        tests="assert f(1) == 2" if number % 2 else "",
        seed_ids=["seed_001"],
        **columns,
    )


@pytest.fixture
def run_dir(tmp_path):
    """A run with two rejected rows and four accepted ones, one more than num_examples."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.set_meta("config", json.dumps(CONFIG))
        ledger.set_meta("prompt_version", "abcd")
        ledger.set_meta("seed_tasks_sha256", "ef")
        for request in range(2):
            key = ledger.request(request, "/chat", {"n": request})
            ledger.save_reply(key, {"usage": {"prompt_tokens": 1, "completion_tokens": 2}})
            ledger.decide(request, [
                Decision(make_example(2 * request), ""),
                Decision(make_example(2 * request + 1), ""),
                Decision(make_example(9, contamination=["mini/1"]), "contaminated"),
            ])  # fmt: skip
    return tmp_path


@pytest.fixture
def build(run_dir):
    """Return a function that builds the dataset of the run, without plots."""

    def build(*options):
        return build_dataset(run_dir, DatasetOptions(*options), draw_plots=False)

    return build


def test_each_config_loads_offline_with_its_features(build, tmp_path_factory):
    from datasets import load_dataset

    folder, cache = build(), tmp_path_factory.mktemp("cache")
    rows = {
        config: load_dataset(str(folder), config, split="train", cache_dir=str(cache))
        for config in CONFIGS
    }
    assert {config: table.features for config, table in rows.items()} == {
        config: features(config) for config in CONFIGS
    }
    assert {config: len(table) for config, table in rows.items()} == {
        "default": 3, "derisk": 3, "verified": 1, "messages": 3, "rl": 1, "rejected": 2,
    }  # fmt: skip
    assert [dict(row) for row in rows["default"]] == [make_example(n).as_row() for n in range(3)]
    assert rows["rejected"]["reason"][:] == ["contaminated"] * 2
    assert rows["rejected"]["contamination"][:] == [["mini/1"]] * 2


def test_messages_and_rl_contain_the_rows_of_default_and_verified_as_conversations(build):
    from datasets import load_dataset

    default, verified, messages, rl = (
        load_dataset(str(build()), config, split="train")
        for config in ("default", "verified", "messages", "rl")
    )
    for row, conversation in zip(default, messages, strict=True):
        user, assistant = conversation["messages"]
        assert conversation["id"] == row["id"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert user["content"] == "\n\n".join(filter(None, (row["instruction"], row["input"])))
        assert assistant["content"] == row["output"]
    for row, task in zip(verified, rl, strict=True):
        kept = ("id", "language", "tests")
        assert [task[key] for key in kept] == [row[key] for key in kept]
        assert task["solution"] == row["output"]
        assert task["prompt"] == messages[list(default["id"]).index(row["id"])]["messages"][:1]


def test_a_config_without_rows_is_named(tmp_path):
    run = ["generate", "--run_dir", str(tmp_path), "--teacher_base_url", "offline"]
    assert main([*run, "--num_examples", "4", "--verify", "false"]) == 0
    with pytest.raises(
        InputError, match=r"config 'verified' of .* has no rows, since no row passed"
    ):
        load_rows(str(tmp_path / "dataset"), "verified")
    with pytest.raises(InputError, match=r"has no config 'verifed'; .* one of default, derisk"):
        load_rows(str(tmp_path / "dataset"), "verifed")


def test_the_same_rows_give_the_same_bytes(build, run_dir):
    first = {path: path.read_bytes() for path in build().rglob("*") if path.is_file()}
    assert len([path for path in first if path.suffix == ".parquet"]) == 6
    assert {path: path.read_bytes() for path in build().rglob("*") if path.is_file()} == first
    # What an interrupted replacement leaves: version, licence and split are recovered.
    build("2.3.0", "cc-by-4.0", 0.3)
    manifest = (run_dir / "dataset/manifest.json").read_bytes()
    (run_dir / "dataset").rename(run_dir / ".dataset.old")
    build()
    assert (run_dir / "dataset/manifest.json").read_bytes() == manifest
    assert list(run_dir.glob(".dataset*")) == [run_dir / ".dataset.lock"]


def test_version_and_licence_stay_until_they_are_changed(build):
    build("2.0.0", "mit")
    manifest = json.loads((build() / "manifest.json").read_text())
    assert (manifest["version"], manifest["license"]) == ("2.0.0", "mit")


def test_a_failed_build_leaves_the_old_folder(build, run_dir, monkeypatch):
    old = (build() / "README.md").read_text()
    monkeypatch.setattr(card, "render_card", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build("0.2.0")
    assert (run_dir / "dataset/README.md").read_text() == old
    monkeypatch.undo()
    assert "# Code Alpaca 0.2.0" in (build("0.2.0") / "README.md").read_text()


def test_concurrent_builds_wait_for_each_other(build, run_dir):
    with ThreadPoolExecutor(3) as threads:
        folders = list(threads.map(lambda _: build(), range(3)))
    assert folders == [run_dir / "dataset"] * 3
    assert len(load_rows(str(folders[0]))[0]) == 3


def test_the_card_is_complete_and_shows_the_plots(run_dir):
    folder = build_dataset(run_dir)
    text = (folder / "README.md").read_text()
    for gap in ("None", "More Information", "{{", "}}", "undefined"):
        assert gap not in text
    metadata = DatasetCard(text).data
    assert metadata.license == "other" and metadata.size_categories == ["n<1K"]
    assert [item["config_name"] for item in metadata.configs] == list(CONFIGS)
    assert "a grammar that composes tasks" in text
    assert "| `contaminated` | 2 |" in text
    assert "5 candidates, 3 accepted rows. The teacher returned 2 replies" in text
    for plot in (folder / "assets").glob("*.png"):
        assert f"(assets/{plot.name})" in text


def test_the_shipped_templates_are_those_at_the_top_of_the_repository():
    root = Path(__file__).parents[2]
    templates = root / "src/code_alpaca/dataset/templates"
    assert templates.resolve() == root / "dataset_card"


def test_an_import_keeps_every_byte_and_leaves_out_empty_configs(tmp_path, without_plots):
    from datasets import get_dataset_config_names

    rows = [{"instruction": f"i{n} {text}", "input": text, "output": text or "x"}
            for n, text in enumerate(TEXTS)]  # fmt: skip
    source, folder = tmp_path / "alpaca.json", tmp_path / "r/dataset"
    source.write_text(json.dumps(rows))
    command = ["publish", "--source", str(source), "--run_dir", str(tmp_path / "r")]
    assert main([*command, "--dataset_version", "1.0.0", "--license", "cc-by-nc-4.0"]) == 0
    loaded, revision = load_rows(str(folder))
    assert [{key: row[key] for key in ("instruction", "input", "output")} for row in loaded] == rows
    assert revision.startswith("v1.0.0 (sha256 ")
    text = (folder / "README.md").read_text()
    assert "None" not in text and "The rows come from `alpaca.json`" in text
    assert get_dataset_config_names(str(folder)) == ["default", "derisk", "messages"]
    assert not (folder / "data/rejected").exists()


def test_two_runs_with_one_folder_name_do_not_share_a_cache_entry(tmp_path, make_folder):
    from datasets import load_dataset

    for name, count in {"a": 1, "b": 2}.items():
        folder = make_folder("1.0.0", rows=count, name=name)
        rows = load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(rows) == count


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--dataset_version", "1.0"], "not SemVer"),
        (["--hub_dataset_id", "me/data"], "no token for the Hub"),
        (["--run_dir", "nowhere"], "is nowhere a run folder?"),
        (["--source", "missing.json"], "contains a run of generate"),
        (["--source", "missing.json", "--run_dir", "nowhere"], "cannot read missing.json"),
        (["--source", "", "--run_dir", "nowhere"], "is empty; give a JSON, JSONL, CSV or"),
    ],
)
def test_bad_input_is_refused(run_dir, words, message, capsys):
    assert main(["publish", "--run_dir", str(run_dir), *words]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_that_publish_did_not_create_is_not_replaced(tmp_path, capsys):
    source = tmp_path / "rows.json"
    source.write_text('[{"instruction": "a", "output": "b"}]')
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset/mine.txt").write_text("precious")
    assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path)]) == 2
    assert "code-alpaca did not create it" in capsys.readouterr().err
    assert (tmp_path / "dataset/mine.txt").read_text() == "precious"


def test_rows_that_differ_from_the_manifest_are_not_loaded(build):
    folder = build()
    shard = next((folder / "data/default").iterdir())
    shard.write_bytes((folder / "data/rejected" / shard.name).read_bytes())
    with pytest.raises(InputError, match=r"differs from manifest\.json"):
        load_rows(str(folder))
