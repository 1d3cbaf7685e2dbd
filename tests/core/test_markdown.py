"""Untrusted text in a card creates no markup, whether it is Markdown or HTML."""

from __future__ import annotations

import json

import pytest
import yaml
from support.markup import HOSTILE, PARSER, body, front, shape

from code_alpaca.core.markdown import block, cell, code, inline, python, shell
from code_alpaca.core.records import Manifest
from code_alpaca.dataset import card
from code_alpaca.dataset.importing import import_dataset
from code_alpaca.dataset.source import DatasetSource
from code_alpaca.hub import cards


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    home = tmp_path_factory.mktemp("made")
    rows = [{"instruction": f"Return {n}.", "input": "", "output": str(n)} for n in range(3)]
    (home / "rows.json").write_text(json.dumps(rows))
    source = DatasetSource(str(home / "rows.json"))
    return Manifest.load(import_dataset(source, home / "run", draw_plots=False))


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("imported", [True, False])
def test_untrusted_text_creates_no_markup_in_a_dataset_card(manifest, text, imported):
    example = {"instruction": "benign", "input": "benign", "output": "benign"}
    names = ("teacher", "source", "source_revision", "source_form", "strategy", "license",
             "repository", "prompt_version", "title")  # fmt: skip

    def rendered(word):
        counted = {"languages": {word: 3, "python": 1}, "verification": {word: 4}}
        values = {**manifest.as_dict(), **dict.fromkeys(names, word), "usage": None}
        values |= {"strategy": "imported"} if imported else {}
        values |= {"statistics": {**manifest.as_dict()["statistics"], **counted}}
        values |= {"rejected_by_reason": {word: 2}}
        values |= {"config": {"novelty": word, "novelty_threshold": 0.7}}
        values |= {"contamination": {"benchmarks": [word, "mbpp"], "missing": [word],
                                     "problems": 3, "policy": "drop"}}  # fmt: skip
        record = Manifest.parse(values, "manifest.json")
        return card.render_card(record, dict.fromkeys(example, word))

    bad, good = rendered(text), rendered("benign")
    assert shape(body(bad)) == shape(body(good))
    assert yaml.safe_load(front(bad)).keys() == yaml.safe_load(front(good)).keys()
    assert cards.merge_cards(bad, bad, bad) == (bad, [], [])
    assert "https://pypi.org" not in good and "pip install code-alpaca" not in good


@pytest.mark.parametrize("text", HOSTILE)
def test_each_escaped_form_is_one_markdown_token(text):
    assert not shape(f"a {inline(text)} b") and not shape(f"| a |\n|---|\n| {cell(text)} |")[2:]
    (paragraph,) = [t for t in PARSER.parse(f"a {code(text)} b") if t.type == "inline"]
    assert [t.type for t in paragraph.children] == ["text", "code_inline", "text"]
    (fence,) = PARSER.parse(str(block(text)))
    assert fence.type == "fence"
    assert fence.content.strip() == text.replace("\r", "\n").strip()
    assert "\n" not in shell(text) + python(text)


def test_text_without_markup_is_unchanged():
    for text in (
        "humaneval_plus",
        "C++",
        "gpt-4.1-mini",
        "0.0% to 16.1%",
        "torch 2.13.0+cpu",
        ", ",
    ):
        assert inline(text) == text
    assert inline("<b>C#</b> | x") == "&lt;b&gt;C\\#&lt;/b&gt; &#124; x"
    assert code("`a`") == "`` `a` ``"
