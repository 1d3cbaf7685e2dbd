"""OSS-Instruct: tasks inspired by real code, from a dataset or from a repository of your own.

After Magicoder (Wei et al. 2023, https://arxiv.org/abs/2312.02120). The snippets leave this
machine for the teacher: hidden files and files that hold what looks like a key are left out.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from code_alpaca.errors import InputError
from code_alpaca.generation.strategies.view import Asked, View, fields_of, render

TEMPLATES = ("oss_instruct", "rules")
SHORTEST, LONGEST = 5, 40  # lines of one snippet
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
    length = min(len(lines), rng.randint(SHORTEST, LONGEST))
    start = rng.randrange(len(lines) - length + 1)
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
        texts = [text for file in _code_files(path) if (text := _read(file))]
    elif path.suffix in CODE and path.is_file():
        texts = [text for text in (_read(path),) if text]
    else:
        texts = [text for text in _rows(source, path, column) if not SECRET.search(text)]
    texts = [text for text in texts if len(text.split("\n")) >= SHORTEST]
    if not texts:
        raise InputError(f"snippets {source}: no code of at least {SHORTEST} lines found there")
    return texts


def _code_files(folder: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "-C", str(folder), "ls-files", "-z"], capture_output=True, check=False
    )
    if listed.returncode == 0 and listed.stdout:
        names = [
            Path(name) for name in listed.stdout.decode("utf-8", "replace").split("\0") if name
        ]
    else:
        names = [file.relative_to(folder) for file in folder.rglob("*")]
    return [
        folder / name
        for name in sorted(names)
        if name.suffix.lower() in CODE
        and not any(part.startswith(".") for part in name.parts)
        and (folder / name).is_file()
        and not (folder / name).is_symlink()
    ]


def _read(path: Path) -> str:
    """The text of a file, or "" where it is too large, no text, or holds what looks like a key."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            return ""
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    return "" if SECRET.search(text) else text.replace("\r\n", "\n")


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
        told = " ".join(str(error).split())[:200]
        raise InputError(f"cannot load snippets {source}: {told}") from None
    if column not in rows.column_names:
        raise InputError(
            f"snippets {source} has no column {column!r}; set snippets_column to one of "
            f"{', '.join(rows.column_names)}"
        )
    for row in rows:
        if isinstance(row[column], str):
            yield row[column]
