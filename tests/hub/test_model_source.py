"""A model is a local folder, or else a commit of the Hub resolved with one request."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from code_alpaca.core.errors import InputError
from code_alpaca.hub.model_source import find_model, read_run_record


@pytest.fixture
def folder(tmp_path):
    """A model folder whose files are not valid, only different from each other."""
    configs = ("config", "generation_config", "tokenizer", "tokenizer_config")
    files = {f"{name}.json": "{}" for name in configs} | {
        "chat_template.jinja": "a",
        "model.safetensors": "weights",
        "merges.txt": "a b",
        "run.json": '{"dataset": {"name": "d"}}',
        "README.md": "A card.",
    }
    model = tmp_path / "model"
    model.mkdir()
    for name, text in files.items():
        (model / name).write_text(text)
    return model


OUTPUT_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "chat_template.jinja", "merges.txt", "model.safetensors", "special_tokens_map.json",
    "additional_chat_templates/tool.jinja",
)  # fmt: skip


@pytest.mark.parametrize("name", [*OUTPUT_FILES, "README.md", "run.json"])
def test_every_file_that_the_output_depends_on_is_in_the_fingerprint(folder, name):
    before = find_model(str(folder)).fingerprint()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("[]")
    assert (find_model(str(folder)).fingerprint() != before) is (name in OUTPUT_FILES)


def test_an_adapter_carries_the_fingerprint_of_its_base(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(folder)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    before = find_model(str(adapter)).fingerprint()
    (folder / "tokenizer.json").write_text("[]")
    assert find_model(str(adapter)).fingerprint() != before


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{ messages }}", True),
        ([{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}], True),
        ([{"name": "tool_use", "template": "b"}], False),
        (None, False),
    ],
)
def test_a_chat_template_is_found_in_the_tokenizer_config(folder, value, expected):
    (folder / "chat_template.jinja").unlink()
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": value}))
    assert find_model(str(folder)).has_chat_template() is expected


def test_an_adapter_without_a_tokenizer_has_the_chat_template_of_its_base(folder, tmp_path):
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    config = {"base_model_name_or_path": str(folder)}
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    assert find_model(str(adapter)).has_chat_template()
    (adapter / "tokenizer.json").write_text("{}")
    assert not find_model(str(adapter)).has_chat_template()


def test_run_json_is_read_and_a_damaged_one_is_named(folder):
    assert read_run_record(folder).dataset.name == "d"
    (folder / "run.json").write_text("{")
    with pytest.raises(InputError, match=r"run\.json"):
        read_run_record(folder)
    (folder / "run.json").unlink()
    assert read_run_record(folder) is None


@pytest.mark.parametrize("content", ["[]", '{"datasets": 3}', '{"config": "wandb"}'])
def test_the_run_json_of_another_tool_is_ignored_with_a_warning(folder, content, capsys):
    (folder / "run.json").write_text(content)
    assert read_run_record(folder) is None
    assert capsys.readouterr().out.startswith("warning   run.json of the model is ignored: ")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nope", "no such folder; set a model folder"),
        ("runs/deep/nope", "no such folder; set a model folder"),
        ("not a name!", "neither a folder nor a Hub id"),
    ],
)
def test_a_name_that_cannot_be_a_hub_id_causes_no_request(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        find_model(name)


def test_without_network_a_missing_model_is_one_line_without_retries(tmp_path):
    """Run in a separate process, because huggingface_hub reads its environment once."""
    words = ["eval", "--model", "runs/nope", "--output_dir", str(tmp_path / "eval")]
    done = subprocess.run(
        [sys.executable, "-m", "code_alpaca.cli", *words],
        capture_output=True, text=True, timeout=120, cwd=tmp_path,
        env={"PATH": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path / "hf")},
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "no such folder, and the Hub is unreachable" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1 and "Retrying" not in done.stderr
