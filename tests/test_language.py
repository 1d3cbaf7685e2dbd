"""Source, docs and help are written in the field's terms: the words below have standard ones."""

from __future__ import annotations

import contextlib
import re
import subprocess
from pathlib import Path

import pytest
from support.documents import ROOT

from code_alpaca.cli import STAGES, main

# What not to write: what to write instead.
BANNED = {
    r"reckon\w*": "estimate",
    r"foretold|beforehand": "estimated, in advance",
    r"told|tells?|telling": "report, print, log, summarize",
    r"said|says?|saying": "report, print, state, read",
    r"alike": "similar, near-duplicate",
    r"anew": "again",
    r"mend(s|ed|ing)?": "recover, repair",
    r"parted": "split, sharded",
    r"so many": "at most N, top-N",
    r"of ours": "custom, not created by code-alpaca",
    r"go(es|ing)? on|went on": "resume, continue",
    r"ke(ep|eps|pt) apart": "held out, separate",
    r"shar(e|es|ed) out": "sharded across ranks",
    r"no number": "NaN, infinite",
    r"whole or not|appears? whole": "atomic, atomically",
    r"giv(e|es|en|ing) (\w+ )?(\w+ )?away": "contaminated, leaks",
    r"found again": "cache hit",
    r"computed (twice|again)": "activation checkpointing, recomputed",
    r"seed mode|seed compat\w*|legacy 2023": "alpaca_2023",
}
PATTERN = re.compile("|".join(rf"(?P<w{n}>\b(?:{word})\b)" for n, word in enumerate(BANNED)))
# Texts whose bytes are a contract: prompts (their hash is a row's `prompt_version`) and what the
# embedded teacher composes; tables of English words.
DATA = {
    "src/code_alpaca/dataset/phrases.py",
    "src/code_alpaca/generation/prompts/rules.jinja",
    "src/code_alpaca/generation/strategies/evol_instruct.py",
    "src/code_alpaca/teacher/offline/phrases.py",
    "tests/core/test_old_spellings.py",
    "tests/test_language.py",
}
SUFFIXES = {
    ".py",
    ".md",
    ".yaml",
    ".jinja",
    ".slurm",
    ".js",
    ".css",
    ".cfg",
    ".toml",
    ".sh",
    ".cff",
}
# A line with one of these words is about a name that files of earlier versions contain.
KEPT = re.compile(r"\bold (name|spelling)s?\b")


def words_of(line: str) -> str:
    """Return a line with identifiers split into lower-case words."""
    line = line.replace(".tell()", "")  # the method of a file
    line = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", line)
    return re.sub(r"\s+", " ", re.sub(r"[_\-*`]+", " ", line)).lower()


def offenses(name: str, text: str) -> list[str]:
    """List the banned words of a text, also those split between two lines."""
    lines = [words_of(line) for line in text.splitlines()]
    found = []
    for number, line in enumerate(lines, 1):
        if KEPT.search(line):
            continue
        comment = re.sub(r"^\s*# ?", " ", lines[number]) if number < len(lines) else ""
        for match in PATTERN.finditer(f"{line.rstrip()} {comment.lstrip()}"):
            if match.start() < len(line.rstrip()):
                better = list(BANNED.values())[int((match.lastgroup or "w0")[1:])]
                found.append(f"{name}:{number}: {match[0]!r}; write {better}")
    return found


def tracked_files() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    return [
        ROOT / name
        for name in listed
        if name not in DATA
        and Path(name).suffix in SUFFIXES
        and not (ROOT / name).is_symlink()
        and (ROOT / name).is_file()
    ]


def test_files_use_the_terms_of_the_field():
    found = []
    for path in tracked_files():
        found += offenses(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    assert found == []


@pytest.mark.parametrize("stage", STAGES)
def test_help_uses_the_terms_of_the_field(stage, capsys):
    with contextlib.suppress(SystemExit):
        main([stage, "--help"])
    assert offenses(stage, capsys.readouterr().out) == []


def test_the_check_sees_identifiers_and_line_breaks():
    assert offenses("a.py", "def tell_all(): pass")
    assert offenses("a.py", "class TellAll: ...")
    assert offenses("a.py", "# rows that are kept\n# apart from the others")
    assert not offenses("a.py", "intelligent = 'storytelling'")
