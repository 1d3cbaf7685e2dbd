"""Where the package is installed from: one repository, in setup.cfg, at the tag of this version.

The name alone may belong to anybody on the package index, and so may an invented account.
"""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from packaging.requirements import Requirement
from support.documents import PAGES, ROOT
from support.needs import need

from code_alpaca.cli import STAGES

SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
PLACES = [*(page for page in PAGES if page.name != "CONTRIBUTING.md"), *SCRIPTS]
# The package with an extra or a source, after `pip install`, in quotes or in a script's header.
REQUIREMENT = re.compile(
    r"(?:pip install |['\"])(code-alpaca(?:\[[\w,]+\]| @|==)[^'\"\n]*|code-alpaca\b)"
)


class Source(NamedTuple):
    """What a clone installs: a version, from a repository or an index."""

    version: str
    repository: str
    on_index: bool

    @classmethod
    def read(cls, clone: Path) -> Source:
        text = (clone / "src/code_alpaca/__init__.py").read_text(encoding="utf-8")
        version = re.search(r'__version__ = "(.+)"', text)
        lines = read_setup(clone)["metadata"]["project_urls"].strip().splitlines()
        urls = dict(line.split(" = ") for line in lines)
        return cls(version[1], urls["Repository"], "Index" in urls)

    def errors(self, text: str) -> list[str]:
        """Return the install lines and the addresses that name another source."""
        found = REQUIREMENT.findall(text)
        right = (
            f"=={self.version}" if self.on_index else f" @ git+{self.repository}@v{self.version}"
        )
        wrong = [
            line
            for line in found
            if not re.fullmatch(rf"code-alpaca(\[[\w,]+\])?{re.escape(right)}", line)
        ]
        tagged = rf"{re.escape(self.repository)}(?:@|/raw/|\.git#)v{re.escape(self.version)}\b"
        plain = re.findall(r"https://[\w./@#-]*code-alpaca[@/.#][\w./@#-]+", text)
        return wrong + [address for address in plain if not re.match(tagged, address)]


def read_setup(clone: Path) -> configparser.ConfigParser:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(clone / "setup.cfg", encoding="utf-8")
    return setup


def read_header(script: Path) -> dict:
    """Return the metadata of a script (PEP 723), with the reference implementation's pattern."""
    pattern = r"(?m)^# /// script$\s(?P<content>(^#(| .*)$\s)+)^# ///$"
    (match,) = re.finditer(pattern, script.read_text(encoding="utf-8"))
    return tomllib.loads(re.sub(r"(?m)^# ?", "", match["content"]))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", PLACES, ids=name_of)
def test_documents_and_scripts_install_this_version(path):
    assert Source.read(ROOT).errors(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "line",
    ["pip install code-alpaca", "pip install 'code-alpaca[train]'", '["code-alpaca[gpu]==0.1.0"]',
     "pip install 'code-alpaca @ git+https://git.example/OWNER/code-alpaca'",
     "pip install 'code-alpaca @ git+https://git.example/OWNER/code-alpaca@v9.0.0'",
     "hf jobs uv run https://git.example/OWNER/code-alpaca/raw/main/scripts/sft.py"],
)  # fmt: skip
def test_another_source_is_found(line):
    assert Source("0.1.0", "https://git.example/OWNER/code-alpaca", False).errors(line)


def test_the_citation_names_version_and_repository():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    version, repository, _ = Source.read(ROOT)
    assert (citation["version"], citation["repository-code"]) == (version, repository)


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_script_installs_the_extra_of_its_stage(script):
    """The table of extras in docs/get-started.md names the stages; any other needs the base."""
    setup, header = read_setup(ROOT), read_header(script)
    assert header["requires-python"] == setup["options"]["python_requires"]
    (requirement,) = map(Requirement, header["dependencies"])
    stage = script.stem.replace("_", "-")
    assert stage in STAGES
    page = (ROOT / "docs/get-started.md").read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| `(\w+)` \| (.+) \|$", page)
    needed = {extra for extra, adds in rows if f"`{stage}`" in adds}
    if "hf-jobs" in header.get("tool", {}):  # starts on a GPU
        included = setup["options.extras_require"]["gpu"]
        assert [f"code-alpaca[{extra}]" for extra in needed] == included.split()[:1]
        needed = {"gpu"}
    assert requirement.extras == needed


@pytest.fixture
def clone(tmp_path):
    """The tracked files, in a repository of their own."""
    need((ROOT / ".git").exists(), "this folder is no clone of the repository (git clone)")

    def git(*words: str, cwd: Path) -> str:
        return subprocess.run(
            ["git", *words], cwd=cwd, check=True, capture_output=True, text=True
        ).stdout

    for name in git("ls-files", cwd=ROOT).splitlines():
        if not (ROOT / name).is_dir():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tmp_path / name)
    git("init", "--quiet", cwd=tmp_path)
    git("add", "--all", cwd=tmp_path)
    return tmp_path


def test_a_release_switches_every_place_at_once(clone):
    def errors() -> dict[str, list[str]]:
        source = Source.read(clone)
        texts = {path.name: (clone / name_of(path)).read_text(encoding="utf-8") for path in PLACES}
        return {name: found for name, text in texts.items() if (found := source.errors(text))}

    def make(*words: str) -> Source:
        subprocess.run(["make", "--silent", *words], cwd=clone, check=True)
        assert errors() == {}
        return Source.read(clone)

    repository = "https://host.example/org/code-alpaca"
    assert make("repository", f"URL={repository}") == (Source.read(ROOT).version, repository, False)
    assert make("version", "VERSION=7.8.9") == ("7.8.9", repository, False)
    assert make("index") == ("7.8.9", repository, True)
    assert make("version", "VERSION=8.0.0") == ("8.0.0", repository, True)
    citation = yaml.safe_load((clone / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["repository-code"]) == ("8.0.0", repository)
