"""Nothing fools the verdict and nothing gets out: every attack, every backend, root and nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from attacks import FALSE_PASSES, HARMS, attack

import code_alpaca
from code_alpaca.sandbox import backends

BACKENDS = [name for name in backends.SAFE if backends.available(name) is None]


def test_there_is_a_sandbox_here():
    assert BACKENDS, "install bubblewrap, or use a kernel with Landlock"
    assert len(FALSE_PASSES) + len(HARMS) >= 34


@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_gets_through(backend):
    got = attack(backend)
    assert {name: harm for name, harm in got.items() if harm} == {}


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become nobody")
@pytest.mark.parametrize("backend", BACKENDS)
def test_nothing_gets_through_as_nobody(backend, tmp_path_factory):
    python = _python_of_nobody()
    if python is None:
        pytest.skip("no Python 3.11 that the user nobody may run (apt install python3)")
    folder = Path("/var/tmp") / f"attacks-{os.getpid()}-{backend}"
    try:
        package = Path(code_alpaca.__file__).parent
        for name in ("__init__.py", "errors.py", "sandbox"):
            _copy(package / name, folder / "code_alpaca" / name)
        _copy(Path(__file__).with_name("attacks.py"), folder / "attacks.py")
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        done = subprocess.run(
            [python, folder / "attacks.py", backend],
            user="nobody", env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)},
            cwd="/", capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {name: harm for name, harm in json.loads(done.stdout).items() if harm} == {}


def _python_of_nobody() -> str | None:
    """An interpreter that nobody may run, new enough for us."""
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        try:
            done = subprocess.run([python, "-c", code], user="nobody", capture_output=True, cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return python
    return None


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
