"""A dataset contains the seed tasks and the prompts of its rows, also after it was curated."""

from __future__ import annotations

import hashlib
import json

import pytest
from datasets import load_dataset
from support.generation_runs import QUICK, generate_args
from support.hub_client import DATASET

from code_alpaca.cli import main
from code_alpaca.core.errors import InputError
from code_alpaca.core.ledger import Ledger
from code_alpaca.core.records import Manifest
from code_alpaca.core.schema import load_seed_tasks
from code_alpaca.dataset.contents import verify_folder

pytestmark = pytest.mark.usefixtures("without_plots")

SEED_TASKS = "assets/seed_tasks.jsonl"
MIX = ("--strategy", "self_instruct=2,evol_instruct=1,alpaca_2023=2")

STRATEGY = """
from code_alpaca.generation.strategies import Prompt


def ask(context):
    snippet = f"private_name_{context.rng.random()}"
    return Prompt(context.render("oss_instruct", snippet=snippet, examples=[]), [])
"""


@pytest.fixture
def generate(tmp_path):
    """Return a function that runs `generate` and returns the dataset folder."""

    def run(*words, name="run"):
        assert main(generate_args(tmp_path / name, *QUICK, *words, rows=10)) == 0
        return tmp_path / name / "dataset"

    return run


def read_lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_assets(folder):
    return {name: (folder / name).read_text() for name in Manifest.load(folder).assets}


@pytest.mark.parametrize("strategy", ["self_instruct", "evol_instruct", "alpaca_2023"])
def test_every_row_leads_to_its_seed_tasks_and_its_prompt(generate, tmp_path, strategy):
    folder = generate("--strategy", strategy, "--num_examples", "30")
    seed_tasks = {task["id"]: task for task in read_lines(folder / SEED_TASKS)}
    rows = load_dataset(str(folder), "default", split="train", cache_dir=str(tmp_path / "cache"))
    accepted = {row["id"] for row in rows}
    for row in rows:
        assert row["seed_ids"] and seed_tasks.keys() | accepted >= set(row["seed_ids"])
        prompt = (folder / f"assets/prompts/{row['prompt_version']}.md").read_text()
        assert f"`{strategy}`" in prompt


def test_the_seed_tasks_are_complete_and_have_the_hash_in_the_manifest(generate):
    folder = generate()
    tasks = read_lines(folder / SEED_TASKS)
    assert [task["id"] for task in tasks] == [task.id for task in load_seed_tasks()]
    texts = [[task["instruction"], task["input"], task["output"]] for task in tasks]
    manifest = Manifest.load(folder)
    assert manifest.seed_tasks_sha256 == hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    assert load_seed_tasks(folder / SEED_TASKS) == load_seed_tasks()


def test_the_manifest_names_the_files_and_a_changed_one_is_not_published(generate):
    folder = generate(*MIX)
    assets = Manifest.load(folder).assets
    assert set(assets) == {
        SEED_TASKS, *(f"assets/prompts/{path.name}" for path in folder.glob("assets/prompts/*"))
    }  # fmt: skip
    assert verify_folder(folder).assets == assets
    with (folder / SEED_TASKS).open("a") as file:
        file.write("{}\n")
    with pytest.raises(InputError, match=r"seed_tasks\.jsonl differs from manifest\.json"):
        verify_folder(folder)


def test_a_prompt_shows_its_templates_and_an_example(generate, tmp_path):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts/rules.jinja").write_text("Write about {{ count }} whales.")
    folder = generate("--prompts", str(tmp_path / "prompts"))
    (text,) = [path.read_text() for path in folder.glob("assets/prompts/*.md")]
    assert '{% include "rules" %}' in text and "Write about {{ count }} whales." in text
    assert "Write about 5 whales." in text.partition("## Example")[2]
    assert str(tmp_path) not in text


def test_the_code_of_the_user_is_not_published(generate, tmp_path):
    code = "\n".join(f"private_name_{number} = {number}" for number in range(20))
    (tmp_path / "code").mkdir()
    (tmp_path / "code/mine.py").write_text(code)
    (tmp_path / "mine.py").write_text(STRATEGY)
    snippets = ("--strategy", "oss_instruct", "--snippets", str(tmp_path / "code"))
    for name, words in {"a": snippets, "b": ("--strategy", f"{tmp_path}/mine.py:ask")}.items():
        assets = read_assets(generate(*words, name=name))
        assert len(assets) == 2
        assert not any("private_name" in text or str(tmp_path) in text for text in assets.values())
        assert any("The fragment:" in text for text in assets.values())


def test_a_resumed_run_gives_the_same_files(generate):
    first = read_assets(generate())
    assert read_assets(generate("--seeds_per_request", "3", "--num_examples", "40")) == first


def test_republishing_an_old_run_adds_seed_tasks_only_if_their_hash_is_known(generate, tmp_path):
    folder = generate()
    seed_tasks = (folder / SEED_TASKS).read_text()
    with Ledger(tmp_path / "run/ledger.sqlite") as ledger, ledger.transaction():
        ledger.set_meta("origin_files", "null")
    assert main(["publish", "--run_dir", str(tmp_path / "run")]) == 0
    assert read_assets(folder) == {SEED_TASKS: seed_tasks}
    with Ledger(tmp_path / "run/ledger.sqlite") as ledger, ledger.transaction():
        ledger.set_meta("seed_tasks_sha256", "of other tasks")
    assert main(["publish", "--run_dir", str(tmp_path / "run")]) == 0
    assert read_assets(folder) == {}
    card = (folder / "README.md").read_text()
    assert "which this dataset does not contain" in card and SEED_TASKS not in card


@pytest.mark.parametrize("stage", ["curate", "publish"])
def test_a_dataset_made_from_another_one_keeps_its_files(generate, tmp_path, stage):
    source, target = generate(), tmp_path / "other/dataset"
    words = ["--decontaminate", "none", "--verify", "false"] if stage == "curate" else []
    command = [stage, "--source", str(source), "--run_dir", str(target.parent), *words]
    assert main(command) == 0
    assert read_assets(target) == read_assets(source)
    assert f"]({SEED_TASKS})" in (target / "README.md").read_text()


def test_a_manifest_cannot_name_other_files_of_the_source(generate, tmp_path):
    source = generate()
    path = source / "manifest.json"
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    manifest = json.loads(path.read_text())
    manifest["assets"]["../../secret.txt"] = hashlib.sha256(b"secret").hexdigest()
    path.write_text(json.dumps(manifest))
    other = tmp_path / "other"
    assert main(["publish", "--source", str(source), "--run_dir", str(other)]) == 0
    assert "../../secret.txt" not in Manifest.load(other / "dataset").assets


def test_a_source_without_seed_tasks_is_named_as_such(tmp_path):
    source = tmp_path / "rows.json"
    source.write_text('[{"instruction": "Add a and b.", "output": "a + b"}]')
    assert main(["publish", "--source", str(source), "--run_dir", str(tmp_path / "r")]) == 0
    card = (tmp_path / "r/dataset/README.md").read_text()
    assert "The source contains no seed tasks and no prompts" in card


def test_the_changelog_names_a_difference_of_the_seed_tasks(hub, worker, generate, tmp_path):
    words = [("--dataset_version", f"1.{n}.0") for n in range(4)]
    tasks = [json.dumps({"id": f"t{n}", "instruction": f"Print {n}.", "output": f"print({n})"})
             for n in range(8)]  # fmt: skip
    seeds = tmp_path / "seeds.jsonl"
    for number, lines in enumerate([tasks[:6], tasks[:6], tasks[1:]]):
        seeds.write_text("\n".join(lines))
        folder = generate("--seed_tasks", str(seeds), *words[number], name=f"run-{number}")
        worker.push(folder, DATASET)
    for name in Manifest.load(folder).assets:
        assert hub.read(DATASET, "v1.2.0", name).decode() == (folder / name).read_text()
    first, same, changed = reversed(
        hub.read(DATASET, "v1.2.0", "CHANGELOG.md").decode().split("\n## ")[1:]
    )
    assert "seed task" not in first and "seed task" not in same
    assert "2 seed tasks added, 1 removed, 0 changed" in changed
