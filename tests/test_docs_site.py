"""The site builds without a network and a warning, and its references are those of the code."""

from __future__ import annotations

import html
import os
import re
import subprocess
import sys
from importlib.util import find_spec

import pytest
from support.browser import browser  # noqa: F401
from support.documents import ROOT
from support.needs import need

import code_alpaca
from code_alpaca.cli import STAGES
from code_alpaca.generation.config import GenerateConfig

# Of each option in commands and inline code: whether its characters are on more than one line.
FIND_BROKEN_OPTIONS = """() => {
  const found = {options: 0, broken: []};
  for (const code of document.querySelectorAll(".language-sh code, :not(pre) > code")) {
    const texts = document.createTreeWalker(code, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
      for (const option of texts.currentNode.data.matchAll(/--[\\w-]+/g)) {
        const range = document.createRange();
        range.setStart(texts.currentNode, option.index);
        range.setEnd(texts.currentNode, option.index + option[0].length);
        const lines = new Set(Array.from(range.getClientRects(), (rect) => rect.top));
        found.options += 1;
        if (lines.size > 1) found.broken.push(option[0]);
      }
    }
  }
  return found;
}"""
LOADED = re.compile(r"<(?:script|img|iframe)[^>]*\bsrc=\"?(https?:)?//|url\((https?:)?//", re.I)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    need(find_spec("material"), "mkdocs-material is not installed (pip install -e '.[docs]')")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", folder],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def test_pages_load_nothing_from_other_hosts(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not LOADED.search(text), page.name
        for link in re.findall(r"<link[^>]*>", text):
            assert "canonical" in link or "://" not in link, f"{page.name}: {link}"
    assert (site / "site.css").is_file()
    assert not list(site.rglob("*.py"))


def test_the_command_reference_lists_every_command_and_key(site):
    text = (site / "reference/commands.html").read_text(encoding="utf-8")
    for stage in STAGES:
        assert f'id="{stage}"' in text
    for key in (*GenerateConfig.model_fields, "--accelerate_config", "convert-llama"):
        assert key in text
    assert "{instruction: problem, output: solution}" in html.unescape(text)


def test_the_python_reference_lists_every_public_name(site):
    text = (site / "reference/python.html").read_text(encoding="utf-8")
    for name in code_alpaca.__all__:
        assert f'id="code_alpaca.{name}"' in text


def test_documents_outside_the_folder_are_pages(site):
    for page in ("contributing", "recipes", "changelog"):
        assert (site / f"{page}.html").is_file()
    contributing = (site / "contributing.html").read_text(encoding="utf-8")
    assert 'href="generate.html#your-own-files"' in contributing


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_load_only_files(site, browser, width):  # noqa: F811
    page = browser.new_page(viewport={"width": width, "height": 844})
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name in ("index", "generate", "other-trainers", "reference/commands", "reference/python"):
        page.goto((site / f"{name}.html").as_uri())
        root = "document.documentElement"
        assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth"), name
    assert not [url for url in requests if not url.startswith(("file:", "data:", "blob:"))]
    assert errors == []
    page.close()


@pytest.mark.browser
def test_options_of_commands_are_not_broken_at_their_hyphens(site, browser):  # noqa: F811
    page = browser.new_page(viewport={"width": 390, "height": 844})
    for name in ("curate", "get-started", "train", "contributing"):
        page.goto((site / f"{name}.html").as_uri())
        found = page.evaluate(FIND_BROKEN_OPTIONS)
        assert found["options"] > 0
        assert found["broken"] == [], name
    page.close()


@pytest.mark.browser
def test_search_works_in_a_site_that_is_opened_as_a_file(site, browser):  # noqa: F811
    page = browser.new_page(viewport={"width": 1280, "height": 844})
    page.goto((site / "reference/commands.html").as_uri())
    page.click(".md-search__input")
    page.keyboard.type("max_cost_usd")
    page.wait_for_function(
        "document.querySelector('.md-search-result__meta').innerText.includes('matching')"
    )
    assert "Command" in page.inner_text(".md-search-result__list")
    page.close()
