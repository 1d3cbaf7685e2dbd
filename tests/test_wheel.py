"""The built wheel holds everything: every command runs from it, in a folder outside the clone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from support.documents import ROOT

pytestmark = pytest.mark.wheel

TINY = ["--scratch_hidden_size", "32", "--scratch_layers", "1", "--scratch_heads", "2",
        "--scratch_vocab_size", "400", "--num_train_epochs", "1"]  # fmt: skip


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command as a user without a clone does, and return what it printed."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=variables, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist of a copy of this tree, and the wheel that is built from that sdist."""
    folder = tmp_path_factory.mktemp("built")
    left_out = shutil.ignore_patterns(
        ".git", ".venv*", "runs", "build", "dist", "*.egg-info", "__pycache__", ".*_cache"
    )
    shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=left_out)
    code = "from setuptools.build_meta import build_sdist; build_sdist('..')"
    run(sys.executable, "-c", code, cwd=folder / "tree")
    sdist = next(folder.glob("*.tar.gz"))
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    source = next((folder / "unpacked").iterdir())
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index",
        "--no-build-isolation", "--wheel-dir", folder, source, cwd=folder)  # fmt: skip
    return sdist, next(folder.glob("*.whl"))


def new_environment(folder: Path, wheel: Path) -> tuple[Path, Path]:
    """A new environment with the wheel alone: its commands, and its site-packages."""
    venv.create(folder, symlinks=True)
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet",
        "--no-deps", "--no-index", wheel, cwd=folder)  # fmt: skip
    return folder / "bin", Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))


@pytest.fixture(scope="module")
def command(built, tmp_path_factory):
    """`code-alpaca` of a new environment: the wheel, and the dependencies of this environment.

    Python reads no .pth file of a folder that another .pth file names, so the editable install
    beside these dependencies is not seen.
    """
    folder = tmp_path_factory.mktemp("environment")
    bin_folder, packages = new_environment(folder, built[1])
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    place = "import code_alpaca; print(code_alpaca.__file__)"
    found = Path(run(bin_folder / "python", "-c", place, cwd=folder).strip())
    assert found.is_relative_to(packages)
    return bin_folder / "code-alpaca"


@pytest.fixture(scope="module")
def base_command(built, tmp_path_factory):
    """`code-alpaca` of an environment with the wheel and what it requires without an extra."""
    bin_folder, packages = new_environment(tmp_path_factory.mktemp("base"), built[1])
    for name in requirements("code-alpaca"):
        for file in metadata.distribution(name).files or ():
            source = Path(metadata.distribution(name).locate_file(file.parts[0]))
            target = packages / file.parts[0]
            if file.parts[0] not in ("..", "__pycache__") and not target.exists():
                target.symlink_to(source)
    return bin_folder / "code-alpaca"


def requirements(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """The distributions that one requires with these extras, directly or not."""
    found: set[str] = set()
    waiting, seen = [(name, extras)], set()
    while waiting:
        name, extras = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            active = {"", *extras}
            if not needed.marker or any(needed.marker.evaluate({"extra": e}) for e in active):
                found.add(needed.name)
                waiting.append((needed.name, frozenset(needed.extras)))
    return found


def test_the_wheel_holds_every_file_of_the_package(built):
    package = ROOT / "src/code_alpaca"
    wanted = {
        str(Path(place, name).relative_to(package.parent))
        for place, _, names in os.walk(package, followlinks=True)
        for name in names
        if "__pycache__" not in place
    }
    with zipfile.ZipFile(built[1]) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("code_alpaca/")}
    assert packed == wanted


def test_the_sdist_holds_what_the_readme_names(built):
    with tarfile.open(built[0]) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    for folder in ("recipes", "accelerate_configs", "dataset_card", "docs", "scripts"):
        for path in (ROOT / folder).rglob("*.*"):
            assert "__pycache__" in str(path) or str(path.relative_to(ROOT)) in packed
    assert {"Makefile", "mkdocs.yml", "constraints.txt", "CITATION.cff", "DATA_LICENSE"} <= packed


def test_a_quickstart_outside_the_clone(command, tmp_path):
    shown = run(command, "quickstart", "--num_examples", "40", "--epochs", "0.2", cwd=tmp_path)
    assert "reference solutions 100% (20 of 20" in shown
    for made in ("dataset/README.md", "model/run.json", "release/README.md"):
        assert (tmp_path / "runs/quickstart" / made).is_file()


def test_every_stage_outside_the_clone(command, tmp_path):
    """The README's commands, with the recipes' names in place of their paths for some."""

    def stage(*words: str) -> str:
        return run(command, *words, cwd=tmp_path)

    stage("generate", "--config", "smoke/generate/config_offline", "--num_examples", "30")
    stage("publish", "--run_dir", "runs/smoke", "--dataset_version", "0.2.0", "--license", "mit")
    rows = [{"instruction": f"Write a program that prints {n} on the first line.", "input": "",
             "output": f"print({n})"} for n in range(5)]  # fmt: skip
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    stage("curate", "--source", "rows.json", "--run_dir", "runs/curated", "--decontaminate", "mini")
    stage("sft", "--accelerate_config", "cpu", "--config", "recipes/smoke/sft/config_cpu.yaml",
          "--dataset_name", "runs/smoke/dataset", *TINY)  # fmt: skip
    stage("eval", "--config", "smoke/eval/config_mini", "--max_new_tokens", "8")
    stage("release", "--config", "smoke/release/config_local")
    stage("report", "--run_dir", "runs/smoke")
    assert (tmp_path / "runs/smoke/release/README.md").is_file()
    assert (tmp_path / "runs/smoke/report.html").is_file()
    planned = stage("sft", "--accelerate_config", "zero3", "--config", "llama-7b/sft/config_full",
                    "--gpu_memory_gib", "80", "--dry_run")  # fmt: skip
    assert "6,738,415,616 parameters" in planned


def test_the_base_makes_data_and_names_the_extra_that_a_stage_lacks(base_command, tmp_path):
    """Generation, curation, publishing and grading need no torch."""

    def stage(*words: str) -> str:
        return run(base_command, *words, cwd=tmp_path)

    stage("generate", "--config", "smoke/generate/config_offline", "--num_examples", "20")
    stage("curate", "--source", "runs/smoke/dataset", "--run_dir", "runs/curated")
    stage("publish", "--run_dir", "runs/smoke", "--dataset_version", "0.2.0", "--license", "mit")
    stage("report", "--run_dir", "runs/smoke")
    graded = stage("eval", "--benchmark", "mini", "--samples", "reference", "--output_dir", "e")
    assert "pass@1 100.0%" in graded
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    for words, message in {
        "sft --config smoke/sft/config_cpu --dataset_name runs/smoke/dataset": "code-alpaca[train]",
        "sft --accelerate_config cpu --config smoke/sft/config_cpu": "code-alpaca[train]",
        "eval --benchmark mini --model model --output_dir m": "code-alpaca[eval]",
        "demo --model model": "code-alpaca[demo]",
        "quickstart": "code-alpaca[train]",
    }.items():
        done = subprocess.run(
            [base_command, *words.split()], cwd=tmp_path, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
        assert f"is not installed; pip install '{message} @ file://" in done.stderr
