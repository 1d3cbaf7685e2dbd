"""Run a part of the package as an unprivileged user."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import filelock

import code_alpaca
from support.needs import need

PACKAGE = Path(code_alpaca.__file__).parent
SUPPORT = Path(__file__).parent
# The sandbox and what it imports.
SANDBOX = ("__init__.py", "core/__init__.py", "core/errors.py", "core/fs.py", "sandbox")
GRADING = (
    *SANDBOX,
    *(f"core/{name}.py" for name in ("jsonl", "languages", "plugins")),
    *(f"hub/{name}.py" for name in ("__init__", "errors", "lookup")),
    "problems",
    "evaluation",
)


@contextlib.contextmanager
def as_nobody(parts: Sequence[str], support: Sequence[str] = ()) -> Iterator[partial]:
    """Copy parts of the package and modules of `support` into a world-readable folder.

    Yields a function that runs Python there with the given arguments: as the user nobody if the
    tests run as root, otherwise as the same user.
    """
    user = "nobody" if os.geteuid() == 0 else None
    python = _find_python(user)
    need(
        python,
        "the user nobody needs /usr/bin/python3, version 3.11 or newer (Debian 12 or newer: apt "
        "install python3); or do not run the tests as root",
    )
    folder = Path(tempfile.mkdtemp(prefix="nobody-", dir="/var/tmp"))
    try:
        for part in parts:
            _copy(PACKAGE / part, folder / "code_alpaca" / part)
        for path in (SUPPORT / name for name in support):
            _copy(path, folder / "support" / path.name)
        _copy(Path(filelock.__file__).parent, folder / "filelock")  # the only dependency of core.fs
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)

        def run(arguments: Sequence[str], **more) -> subprocess.CompletedProcess:
            return subprocess.run(
                [python, *arguments], user=user, cwd=folder, capture_output=True, text=True,
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(folder)}, timeout=300, **more,
            )  # fmt: skip

        yield run
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _find_python(user: str | None) -> str | None:
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            done = subprocess.run([python, "-c", code], user=user, capture_output=True, cwd="/")
            if done.returncode == 0:
                return python
    return None


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
