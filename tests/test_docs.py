"""README, recipes and scripts are true: every path exists and every command parses."""

from __future__ import annotations

import importlib
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from support.documents import PAGES, ROOT, blocks, write_file

from code_alpaca.cli import STAGES
from code_alpaca.core.config import parse, read_yaml
from code_alpaca.core.conversations import MULTI_TURN
from code_alpaca.core.errors import InputError
from code_alpaca.curation.command import MALFORMED_ROW
from code_alpaca.curation.filters import FILTER_NAMES
from code_alpaca.curation.pipeline import INTERNAL_ERROR
from code_alpaca.curation.verification import ACCEPTED_VERDICTS, find_rejection_reason

RECIPES = sorted((ROOT / "recipes").glob("*/*/*.yaml"))
CONFIGS = sorted((ROOT / "accelerate_configs").glob("*.yaml"))
SLURM = sorted((ROOT / "recipes/slurm").iterdir())
DOCUMENTS = [*PAGES, *RECIPES, *CONFIGS, *SLURM]
CPU = {
    "cpu": 1,
    "cpu_zero2": 2,
    "cpu_zero3": 2,
    "cpu_zero3_offload": 2,
}  # processes of those that are for tests
TREE = r"(?:recipes|scripts|accelerate_configs|dataset_card|benchmarks|src|tests)/[\w./-]*\w"


def commands(text: str) -> list[list[str]]:
    value = r"(?:'[^'\n]*'|[^`\s|&]+)"
    lines = re.findall(rf"\bcode-alpaca (?!COMMAND)[a-z-]+(?: --?[\w-]+(?: {value})?)*", text)
    return [shlex.split(line)[1:] for line in lines]


def parse_as_the_stage_does(words: list[str]) -> None:
    stage, rest = words[0], words[1:]
    assert stage in STAGES, f"{stage} is no command"
    if not rest or rest == ["--help"]:
        return
    if stage == "sft":
        from code_alpaca.training.command import find_accelerate_config
        from code_alpaca.training.parsing import parse_sft_arguments

        if "--accelerate_config" in rest:
            at = rest.index("--accelerate_config")
            assert find_accelerate_config(rest[at + 1])
            del rest[at : at + 2]
        parse_sft_arguments([*rest, "--use_cpu", "true"])  # recipes for GPUs as well
    else:
        module = importlib.import_module(f"code_alpaca.{STAGES[stage].module}")
        parse(getattr(module, STAGES[stage].config), rest)


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def find_recipe_error(path: Path) -> str:
    """Return why the command of a recipe refuses it; "" if it does not."""
    stage = path.parent.name
    if stage == "grpo":  # of TRL, whose parser exits
        script = importlib.import_module(f"trl.scripts.{stage}")
        script.make_parser().parse_args_and_config(
            ["--config", str(path), "--use_cpu", "true", "--bf16", "false"],
            fail_with_unknown_args=True,
        )
        return ""
    words = [stage, "--config", str(path)]
    try:
        if stage == "sft" and "dataset_name" not in read_yaml(path):
            words += ["--dataset_name", "runs/smoke/dataset"]
        parse_as_the_stage_does(words)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_paths_and_commands_are_real(path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # recipes are found by name, and files are those of the page
    for block in blocks(path):
        if block.is_file:
            write_file(block, tmp_path)
    text = path.read_text(encoding="utf-8")
    for named in re.findall(TREE, text):
        assert (ROOT / named).exists(), f"{path.name} names {named}"
    by_url = re.sub(r"https://\S+/scripts/(\w+)\.py", r"code-alpaca \1", text)
    for words in commands(by_url):
        # A recipe with an error fails its own test only.
        if not any(find_recipe_error(recipe) for recipe in RECIPES if name_of(recipe) in words):
            parse_as_the_stage_does(words)


def settings(words: list[str]) -> dict[str, str]:
    """The keys of a command, with those of its recipe."""
    keys = dict(zip([word.lstrip("-") for word in words[::2]], words[1::2], strict=False))
    recipe = read_yaml(ROOT / keys.pop("config")) if "config" in keys else {}
    return {key: str(value) for key, value in {**recipe, **keys}.items()}


def test_no_two_commands_write_different_things_into_one_folder():
    """Whoever tries one after the other would be refused: the folder holds another run."""
    made: dict[tuple[str, str], set[str]] = {}
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        launched = re.findall(
            r"accelerate launch --config_file accelerate_configs/([\w-]+)\.yaml (?:.* )?"
            r"scripts/sft\.py (--config .*)", text
        )  # fmt: skip
        found = [["sft", "--accelerate_config", name, *rest.split()] for name, rest in launched]
        for stage, *words in [*commands(text), *found]:
            if stage not in ("sft", "eval", "release") or {"--dry_run", "--compare"} & set(words):
                continue
            keys = settings(words)
            folder = keys.pop("output_dir", None)
            if folder and keys:
                made.setdefault((stage, folder), set()).add(str(sorted(keys.items())))
    assert len(made) > 10
    assert [where for where, different in made.items() if len(different) > 1] == []


def test_the_page_about_curation_explains_every_reason_and_verdict():
    page = (ROOT / "docs/curate.md").read_text(encoding="utf-8")
    tables = page.split("\n## I want to know what a reason means\n")[1].split("\n## I want my own")[
        0
    ]
    cells = re.findall(r"^\| (.*?) \|", tables, re.MULTILINE)
    explained = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    verdicts = {*ACCEPTED_VERDICTS, "failed", "error", "timeout"}
    reasons = {find_rejection_reason(verdict, has_tests=True) for verdict in verdicts} - {""}
    of_rows = {MALFORMED_ROW, MULTI_TURN, INTERNAL_ERROR}
    assert explained >= {*FILTER_NAMES, *reasons, *of_rows, *verdicts}


@pytest.mark.parametrize("path", RECIPES, ids=name_of)
def test_every_recipe_parses_and_states_how_to_run_it(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if error := find_recipe_error(path):
        pytest.fail(error, pytrace=False)
    name, lines = name_of(path), path.read_text(encoding="utf-8").splitlines()
    headings = ["When", "Hardware", "Time", "Command"]
    if path.parent.name == "sft":
        headings.append("Memory")
    todo = [
        f"add a line `# {heading}:`"
        for heading in headings
        if not any(line.startswith(f"# {heading}:") for line in lines)
    ]
    if not any(line.startswith("# Command:") and name in line for line in lines):
        todo.append(f"name {name} in its `# Command:`")
    if f"`{name}`" not in (ROOT / "recipes/README.md").read_text(encoding="utf-8"):
        todo.append("list it in recipes/README.md")
    if todo:
        pytest.fail(f"{name}: {'; '.join(todo)}", pytrace=False)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_accelerate_configs_load(path):
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(path))
    assert config.num_processes == (16 if path.stem == "multi-node" else CPU.get(path.stem, 8))
    head = path.read_text(encoding="utf-8")
    for heading in ("# When:", "# Hardware:", "# Command:", f"accelerate_configs/{path.name}"):
        assert heading in head
    assert f"`{path.stem}`" in (ROOT / "recipes/README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SLURM, ids=lambda path: path.name)
def test_slurm_templates_are_shell_and_read_no_yaml(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0
    assert not re.search(r"grep|sed|awk|yq", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda p: p.name)
def test_scripts_take_the_words_of_their_command(path):
    done = subprocess.run(
        [sys.executable, str(path), "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"code-alpaca {path.stem.replace('_', '-')}" in done.stdout
