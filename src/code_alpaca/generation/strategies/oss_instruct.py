"""OSS-Instruct: tasks inspired by real code, from a dataset or from a repository of your own.

After Magicoder (Wei et al. 2023, https://arxiv.org/abs/2312.02120). The snippets leave this
machine for the teacher: hidden files and files that hold what looks like a key are left out.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.generation.strategies.view import Asked, View, fields_of, render

TEMPLATES = ("oss_instruct", "rules")
SHORTEST, LONGEST = 5, 40  # lines of one snippet
LONGEST_LINE = 300  # characters; a longer one is minified code or data
MOST = 4000  # characters of one snippet: it is paid for by the token
BLANKS = re.compile(r"\n\s*\n")
LARGEST_FILE = 200_000  # bytes; larger ones are data or generated
CODE = {
    ".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".kt", ".go", ".rs", ".c", ".h", ".cc", ".cpp",
    ".hpp", ".cs", ".rb", ".php", ".swift", ".scala", ".hs", ".pl", ".r", ".jl", ".lua", ".sh",
    ".sql", ".css", ".html", ".ex", ".clj", ".ml", ".dart",
}  # fmt: skip
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(sk|hf|ghp|gho|xox[abp]|AKIA)[-_]?[A-Za-z0-9]{16,}|"
    r"(password|passwd|secret|api_?key|token)\s*[:=]+\s*['\"][^'\"\s]{8,}['\"]",
    re.IGNORECASE,
)


def ask(view: View) -> Asked:
    """A prompt around some neighbouring lines of one file."""
    rng = view.rng
    lines = rng.choice(view.snippets).split("\n")
    length = min(len(lines), rng.randint(2 * SHORTEST, LONGEST))
    start = rng.randrange(len(lines) - length + 1)
    while sum(map(len, lines[start : start + length])) > MOST:
        length -= 1
    snippet = "\n".join(lines[start : start + length]).strip("\n")
    shown = rng.sample(view.seed_tasks, min(2, len(view.seed_tasks)))
    prompt = render(
        TEMPLATES[0],
        count=view.count,
        snippet=snippet,
        examples=[fields_of(task) for task in shown],
        wish=view.wish,
    )
    return Asked(prompt, [task.id for task in shown])


def load_snippets(source: str, column: str) -> list[str]:
    """The texts to be inspired by, in a fixed order.

    Args:
        source: a folder (of a Git repository: its tracked files), a text file, a JSONL or
            Parquet file, or a dataset on the Hub.
        column: the column of a dataset that holds the code.

    Raises:
        InputError: there is no such source, or no code in it.
    """
    path = Path(source)
    if path.is_dir():
        texts = [_read(file) for file in _code_files(path)]
    elif path.suffix in CODE and path.is_file():
        texts = [_read(path)]
    else:
        texts = list(_rows(source, path, column))
    texts = [text for text in map(_readable, texts) if text]
    if not texts:
        raise InputError(
            f"snippets {source}: no code found there with at least {SHORTEST} lines, none of over "
            f"{LONGEST_LINE} characters, and nothing that looks like a key"
        )
    return texts


def _code_files(folder: Path) -> list[Path]:
    names = _tracked(folder) or [file.relative_to(folder) for file in folder.rglob("*")]
    return [
        folder / name
        for name in sorted(names)
        if name.suffix.lower() in CODE
        and not any(part.startswith(".") for part in name.parts)
        and (folder / name).is_file()
        and not (folder / name).is_symlink()
    ]


def _tracked(folder: Path) -> list[Path]:
    """The files that Git knows there; none where it is no repository or there is no git."""
    command = ["git", "-C", str(folder), "ls-files", "-z"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(name) for name in listed.decode("utf-8", "replace").split("\0") if name]


def _readable(text: str) -> str:
    """A text without runs of blank lines; "" where it is short, minified, or holds a key."""
    text = BLANKS.sub("\n\n", text.replace("\r\n", "\n")).strip("\n")
    lines = text.split("\n")
    if sum(map(bool, map(str.strip, lines))) < SHORTEST or max(map(len, lines)) > LONGEST_LINE:
        return ""
    return "" if SECRET.search(text) else text


def _read(path: Path) -> str:
    """The text of a file, or "" where it is too large or no text."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            return ""
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _rows(source: str, path: Path, column: str) -> Iterator[str]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    kinds = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
    try:
        if path.is_file():
            kind = kinds.get(path.suffix)
            if kind is None:
                raise InputError(f"snippets {source}: neither code nor JSON, Parquet or CSV")
            rows = load_dataset(kind, data_files=source, split="train")
        else:
            rows = load_dataset(source, split="train")
    except (DatasetsError, ValueError, OSError) as error:
        raise InputError(f"cannot load snippets {source}: {error_message(error)}") from None
    if column not in rows.column_names:
        raise InputError(
            f"snippets {source} has no column {column!r}; set snippets_column to one of "
            f"{', '.join(rows.column_names)}"
        )
    for row in rows:
        if isinstance(row[column], str):
            yield row[column]
