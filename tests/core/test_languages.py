"""The table of programming languages is consistent, and each name has one meaning."""

from __future__ import annotations

from collections import Counter

import pytest
from pygments.lexers import get_lexer_by_name

from code_alpaca.core import languages


def test_every_name_belongs_to_one_language():
    names = Counter(
        name
        for language in languages.TABLE
        for name in {language.name, *language.words, *language.aliases, *language.tags}
    )
    assert [name for name, count in names.items() if count > 1] == []
    assert all(name == name.lower() for name in names)


def test_lexers_exist():
    for language in languages.TABLE:
        assert not language.lexer or get_lexer_by_name(language.lexer)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bash", "bash"),
        ("shell", "bash"),
        ("sh", "bash"),
        (" Shell ", "bash"),
        ("js", "javascript"),
        ("node", "javascript"),
        ("py", "python"),
        ("python3", "python"),
        ("cpp", "c++"),
        ("csharp", "c#"),
        ("golang", "go"),
        ("brainfuck", "brainfuck"),
        ("", ""),
    ],
)
def test_each_language_has_one_canonical_name(name, expected):
    assert languages.canonical(name) == expected


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ("go", "go"),
        ("r", "r"),
        ("vb.net", "vb.net"),
        ("ruby", "ruby"),
        ("kt", "kotlin"),
        # Data formats are highlighted, but an answer in them is not a program.
        ("json", ""),
        ("yaml", ""),
        ("text", ""),
        ("", ""),
    ],
)
def test_a_fence_names_a_programming_language(tag, expected):
    assert languages.fence_language(tag) == expected


def test_words_that_are_also_english_do_not_name_a_language_in_an_instruction():
    assert "go" not in languages.PROSE_NAMES and languages.PROSE_NAMES["golang"] == "go"
    assert "r" not in languages.PROSE_NAMES and "py" not in languages.PROSE_NAMES
    assert languages.PROSE_NAMES["shell"] == languages.PROSE_NAMES["bash"] == "bash"


def test_fence_tags_are_words_that_renderers_know():
    fences = {language.name: language.fence for language in languages.TABLE}
    assert (fences["c++"], fences["c#"], fences["bash"]) == ("cpp", "csharp", "bash")
    assert all(languages.canonical(fence) == name for name, fence in fences.items())


def test_python_is_the_last_language_to_be_highlighted():
    assert list(languages.highlighting())[-1] == "python"
    assert "react" in languages.highlighting()["javascript"]
