"""One HTML page that shows a run: its numbers, its pictures, and its rows to page through.

The page is one file that needs no network and opens from a disk. A model wrote the rows, so no
row is ever read as markup: they travel as packed JSON, the script puts them on the page as text
(colours of code are lengths beside the text), and a Content-Security-Policy lets run that one
script and load nothing.
"""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import io
import json
import re
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from code_alpaca.core import fs, languages
from code_alpaca.core import plots as drawings

if TYPE_CHECKING:
    from pygments.lexer import Lexer

LONGEST = 20_000  # characters of a field that the page shows
# Lexers are made for people's code, and the time of some grows with the square of what a model made
# up. So only well-worn ones run, on short texts, and all together not for long.
COLOURED = 4_000  # characters of a text that is coloured
PATIENCE = 30.0  # seconds for the colours of a page; usual code takes one for 2,000 rows
TEXTS = ("instruction", "input", "output", "tests")
FACTS = ("id", "language", "verification", "nearest_id", "nearest_score", "reason", "evidence")
FENCE = re.compile(
    r"^(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE
)
CODE = re.compile(r"[{}()\[\];=<>#]|^[ \t]+\S", re.MULTILINE)


def write(
    path: Path, manifest: dict[str, Any], rows: Iterable[dict[str, Any]], pictures: Path
) -> int:
    """Write the page and return how many rows are on it; a reader never sees half of it.

    Args:
        manifest: `counts`, `candidates`, and where known `name`, `version`, `teacher`,
            `strategy` and `cost_usd`.
        rows: as many as the page shall hold, columns as in `schema.Example`; a rejected row has
            its `reason` and `evidence` as well.
        pictures: the folder with the files of `pictures.draw`; those that it lacks are left out.
    """
    held: Counter[str] = Counter()
    packed = _pack(rows, held)
    style, script = _asset("page.css"), _asset("page.js")
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, autoescape=True
    )
    text = environment.from_string(_asset("page.html.jinja")).render(
        name=manifest.get("name") or manifest.get("repository") or "Code Alpaca",
        about=_about(manifest),
        headline=_headline(manifest),
        held=held,
        counts=manifest["counts"],
        pictures=[
            (drawings.caption(name), base64.b64encode((pictures / name).read_bytes()).decode())
            for name in drawings.PICTURES
            if (pictures / name).exists()
        ],
        style=style,
        script=script,
        policy="; ".join(
            (
                "default-src 'none'",
                "img-src data:",
                f"style-src {_allowed(style)}",
                f"script-src {_allowed(script)}",
                "base-uri 'none'",
                "form-action 'none'",
            )
        ),
        packed=packed,
    )
    fs.write_text(path, text)
    return held.total()


def _about(manifest: dict[str, Any]) -> list[str]:
    """What is known of how the rows came about, in a few words each."""
    found = [("version", "version"), ("teacher", "teacher"), ("strategy", "strategy")]
    return [
        f"{label} {manifest[key]}"
        for key, label in found
        if manifest.get(key) not in (None, "", "unknown")
    ]


def _headline(manifest: dict[str, Any]) -> list[tuple[str, str]]:
    """The numbers at the top: each with what it counts."""
    counts, candidates = manifest["counts"], manifest.get("candidates") or 0
    share = f" ({100 * counts['default'] / candidates:.0f}%)" if candidates else ""
    found = [
        (f"{candidates:,}", "candidates"),
        (f"{counts['default']:,}", f"accepted{share}"),
        (f"{counts.get('verified', 0):,}", "verified by tests"),
        (f"{counts.get('rejected', 0):,}", "rejected"),
    ]
    if manifest.get("cost_usd"):
        found.append((f"${manifest['cost_usd']:,.2f}", "spent"))
    return found


def _pack(rows: Iterable[dict[str, Any]], held: Counter[str]) -> str:
    """The rows as JSON, in gzip, in base64; counts "accepted" and "rejected" ones in `held`."""
    buffer, spent = io.BytesIO(), 0.0
    with gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as file:
        before = "["
        for row in rows:
            held["rejected" if row.get("reason") else "accepted"] += 1
            record, began = _record(row), time.monotonic()
            if spent < PATIENCE and (colours := _all_colours(record)):
                record["colours"] = colours
            spent += time.monotonic() - began
            # ASCII, so that half a surrogate pair, which a rejected row can hold, is an escape.
            file.write((before + json.dumps(record, separators=(",", ":"))).encode())
            before = ",\n"
        file.write(b"]" if before != "[" else b"[]")
    return base64.b64encode(buffer.getvalue()).decode()


def _record(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the script wants it: what is empty is left out, what is very long is cut."""
    record = {name: row[name] for name in FACTS if row.get(name)}
    for name in TEXTS:
        text = row.get(name) or ""
        if len(text) > LONGEST:
            text = f"{text[:LONGEST]}\n… and {len(text) - LONGEST:,} more characters"
        if text:
            record[name] = text
    return record


def _all_colours(record: dict[str, Any]) -> dict[str, str]:
    """The colours of those texts of a row that have any; tests are Python if nothing is said."""
    language = record.get("language", "").strip().lower()
    found = {
        name: _colours(record[name], language or ("python" if name == "tests" else ""))
        for name in ("input", "output", "tests")
        if len(record.get(name, "")) in range(1, COLOURED + 1)
    }
    return {name: runs for name, runs in found.items() if runs}


def _colours(text: str, language: str) -> str:
    """Runs of one colour, as "4k1-5f": four characters of a keyword, one plain, five of a name.

    Lengths are in UTF-16 units, as scripts count; "" for a text without colours.
    """
    runs: list[list[Any]] = []
    for piece, lexer in _pieces(text, language):
        tokens = lexer.get_tokens_unprocessed(piece) if lexer else [(0, None, piece)]
        for _, token, value in tokens:
            kind = _kind(token)
            length = len(value.encode("utf-16-le", "surrogatepass")) // 2
            if runs and (runs[-1][1] == kind or value.isspace()):
                runs[-1][0] += length
            else:
                runs.append([length, kind])
    if all(kind == "-" for _, kind in runs):
        return ""
    return "".join(f"{length}{kind}" for length, kind in runs)


def _pieces(text: str, language: str) -> Iterator[tuple[str, Lexer | None]]:
    """The text in pieces with their lexers: only fenced code if there is any, else all of it."""
    end = 0
    for fence in FENCE.finditer(text):
        yield text[end : fence.start(3)], None
        yield fence[3], _lexer_of(fence[2].lower() or language)
        end = fence.end(3)
    prose = text[:1].isupper() and text.rstrip().endswith((".", "?", "!", ":"))
    plain = end or prose or not CODE.search(text)
    yield text[end:], None if plain else _lexer_of(language)


@functools.cache
def _kinds() -> dict[Any, str]:
    from pygments.token import Comment, Keyword, Name, Number, Operator, String

    return {
        Comment: "c",
        Keyword: "k",
        Operator.Word: "k",
        Name.Tag: "k",
        Name.Function: "f",
        Name.Class: "f",
        Name.Attribute: "f",
        Name.Decorator: "f",
        Name.Builtin: "b",
        Name.Exception: "b",
        Name.Variable: "b",
        Number: "n",
        String: "s",
    }


@functools.cache
def _kind(token: Any) -> str:
    """The letter of a token type, its own or that of its nearest ancestor; "-" for none."""
    while token is not None:
        if token in _kinds():
            return _kinds()[token]
        token = token.parent
    return "-"


def _lexer_of(language: str) -> Lexer | None:
    known = languages.find(language)
    return _lexer(known.lexer) if known and known.lexer else None


@functools.cache
def _lexer(name: str) -> Lexer:
    from pygments.lexers import get_lexer_by_name

    return get_lexer_by_name(name)


def _allowed(text: str) -> str:
    """The name of an inline style or script in a Content-Security-Policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _asset(name: str) -> str:
    return resources.files("code_alpaca").joinpath("report", name).read_text("utf-8")
