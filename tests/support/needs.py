"""What a test needs of the machine: without it the test is left out, but fails where CI is set."""

from __future__ import annotations

import os
import shutil

import pytest


def need(found: object, told: str) -> None:
    """Go on where `found` is true.

    Args:
        told: what is missing, and what to do about it.
    """
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{told}; with CI set nothing is left out", pytrace=False)
    pytest.skip(told)


def need_program(name: str, package: str) -> None:
    """Go on where a program is installed; `package` is what Debian and Ubuntu call it."""
    need(shutil.which(name), f"{name} is not installed (apt install {package})")
