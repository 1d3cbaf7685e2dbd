"""setup.cfg and constraints.txt agree on the versions that are supported and tested."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from support.documents import ROOT

SETUP = ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def requirements() -> list[Requirement]:
    """What the base and the extras require, without the extras that contain others."""
    lists = [SETUP["options"]["install_requires"], *SETUP["options.extras_require"].values()]
    required = [Requirement(line) for text in lists for line in text.split("\n") if line]
    return [r for r in required if r.name != SETUP["metadata"]["name"]]


def test_the_oldest_classified_python_is_the_required_one():
    text = SETUP["metadata"]["classifiers"]
    minors = [int(minor) for minor in re.findall(r"Python :: 3\.(\d+)", text)]
    required = SpecifierSet(SETUP["options"]["python_requires"])
    assert minors == list(range(minors[0], minors[-1] + 1))
    assert [minor for minor in range(minors[-1] + 1) if f"3.{minor}" in required] == minors


def test_an_install_with_an_older_python_names_the_version_that_is_needed():
    code = "import runpy, sys; sys.version_info = (3, 10, 13); runpy.run_path('setup.py')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    required = SETUP["options"]["python_requires"].removeprefix(">=")
    assert done.stderr.startswith(f"code-alpaca needs Python {required} or newer, and this is ")
    assert len(done.stderr.splitlines()) == 1


def test_every_requirement_has_a_tested_oldest_release():
    """`make test-oldest` installs it; without one it would install the first release ever."""
    without = [str(r) for r in requirements() if [s.operator for s in r.specifier] != [">="]]
    assert not without


def test_a_package_has_one_oldest_release_in_all_extras():
    floors = {(requirement.name, str(requirement.specifier)) for requirement in requirements()}
    assert len(floors) == len({name for name, _ in floors})


def test_the_tested_versions_are_supported_ones():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins.items()}
    refused = [str(r) for r in requirements() if r.name in pins and pins[r.name] not in r.specifier]
    assert not refused
