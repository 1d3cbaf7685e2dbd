"""Fixture of a headless Chromium; a test module imports it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from support.needs import need

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync",
    "--disable-component-update", "--no-first-run", "--disable-quic",
]  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    need(find_spec("playwright"), "playwright is not installed (pip install playwright)")
    need(CHROMIUM.exists(), f"no browser at {CHROMIUM} (Debian: apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield chromium
        chromium.close()
