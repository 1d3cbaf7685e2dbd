"""Requirements of tests on the machine: a test without them is skipped, or fails if CI is set."""

from __future__ import annotations

import os
import shutil

import pytest


def need(found: object, message: str) -> None:
    """Skip the test unless `found` is true; `message` names what is missing and how to get it."""
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{message}; no test is skipped if CI is set", pytrace=False)
    pytest.skip(message)


def need_program(name: str, package: str) -> None:
    """Skip the test unless a program is installed; `package` is its Debian package."""
    need(shutil.which(name), f"{name} is not installed (apt install {package})")
