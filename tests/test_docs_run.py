"""The documentation works: its commands and Python snippets run as they are, page by page."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml
from support.documents import PAGES, ROOT, blocks, write_file

# What pages about later stages start from, in order: the command, and what it makes.
SMOKE = {
    "generate --config recipes/smoke/generate/config_offline.yaml": "runs/smoke/dataset",
    "sft --accelerate_config cpu --config recipes/smoke/sft/config_cpu.yaml "
    "--dataset_name runs/smoke/dataset": "runs/smoke/model",
    "eval --config recipes/smoke/eval/config_mini.yaml": "runs/smoke/eval",
    "release --config recipes/smoke/release/config_local.yaml": "runs/smoke/release",
}
QUICK = {"CONTRIBUTING.md", "alpaca-2023.md", "curate.md", "offline.md", "python.md", "security.md"}
RUN = [page for page in PAGES if any(block.is_run for block in blocks(page))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def environment() -> dict[str, str]:
    """That of a user whose shell has the environment activated, without a network."""
    scripts = sysconfig.get_path("scripts")
    return {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}


def run(command: list[str], text: str, folder: Path) -> str:
    """Return what a snippet prints; whatever it started in the background ends with it."""
    log, snippet = folder / "output.log", folder / "snippet"
    snippet.write_text(text, encoding="utf-8")
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, snippet], cwd=folder, env=environment(), stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            process.wait(timeout=500)
        finally:
            if process.poll() is None or "&\n" in text:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    printed = log.read_text(encoding="utf-8")
    assert process.returncode == 0, f"{text}\n{printed[-4000:]}"
    return printed


def without_times(text: str) -> str:
    return re.sub(r"\d+ s\b", "N s", text)


def commands_for(page: Path) -> list[str]:
    """The commands that make what a page uses and does not make itself."""
    text = "\n".join(block.text for block in blocks(page) if block.is_run or block.is_file)
    if "runs/smoke" not in text and "smoke/release" not in text:
        return []
    own = [command.split(" --dataset_name")[0] in text for command in SMOKE]
    uses = [made in text or "smoke/release" in text for made in SMOKE.values()]
    count = (
        own.index(True) if any(own) else max([1, *(n for n, used in enumerate(uses, 1) if used)])
    )
    return list(SMOKE)[:count]


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A function that runs the first smoke recipes, each once, and returns their folder."""
    folder = tmp_path_factory.mktemp("smoke")
    done: list[str] = []

    def make(count: int) -> Path:
        for command in list(SMOKE)[len(done) : count]:
            run(["bash", "-e"], f"code-alpaca {command}\n", folder)
            done.append(command)
            shutil.copytree(folder / "runs", folder / f"runs-{len(done)}")
        return folder / f"runs-{count}"

    return make


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name(page), marks=[] if page.name in QUICK else pytest.mark.slow)
        for page in RUN
    ],
)
def test_the_snippets_of_a_page_run_in_order(page, smoke, tmp_path):
    if needed := commands_for(page):
        shutil.copytree(smoke(len(needed)), tmp_path / "runs")
    printed = None
    for block in blocks(page):
        if block.is_file:
            write_file(block, tmp_path)
        if block.is_run:
            command = ["bash", "-e"] if block.language == "sh" else [sys.executable]
            printed = run(command, block.text, tmp_path)
        elif block.is_output and printed is not None:
            first_line = block.text.splitlines()[0]
            assert without_times(first_line) in without_times(printed), first_line
        else:
            printed = None


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_block_parses_and_its_title_is_a_file_or_a_need(page):
    for block in blocks(page):
        assert not block.title or block.is_file or block.title.startswith("Needs "), block.title
        if block.language == "sh":
            checked = subprocess.run(["bash", "-n"], input=block.text, text=True, check=False)
            assert checked.returncode == 0, block.text
        elif block.language == "python":
            compile(block.text.lstrip(), name(page), "exec")
        elif block.language == "yaml":
            assert yaml.safe_load(block.text) is not None
        elif block.language == "json":
            lines = block.title.endswith(".jsonl")
            for text in block.text.splitlines() if lines else [block.text]:
                json.loads(text)


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
    assert len((ROOT / "AGENTS.md").read_text(encoding="utf-8").splitlines()) <= 60
