"""OSS-Instruct: tasks inspired by fragments of real code, from a dataset or your repository.

After Magicoder (Wei et al. 2023, https://arxiv.org/abs/2312.02120). The fragments are sent to the
teacher: hidden files, and texts that seem to contain a key, are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Self

from code_alpaca.core.errors import InputError, error_message
from code_alpaca.core.run_folder import RunInput
from code_alpaca.generation.strategies.base import Prompt, PromptContext, Strategy, prompt_fields

if TYPE_CHECKING:
    from code_alpaca.generation.config import GenerateConfig

MIN_LINES = 5  # that are not blank
MAX_LINE_LENGTH = 300  # characters; a longer line is minified code or data
MAX_FILE_BYTES = 200_000  # larger files are data or generated
BLANK_LINES = re.compile(r"\n\s*\n")
CODE_SUFFIXES = {
    ".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".kt", ".go", ".rs", ".c", ".h", ".cc", ".cpp",
    ".hpp", ".cs", ".rb", ".php", ".swift", ".scala", ".hs", ".pl", ".r", ".jl", ".lua", ".sh",
    ".sql", ".css", ".html", ".ex", ".clj", ".ml", ".dart",
}  # fmt: skip
DATASET_FORMATS = {".jsonl": "json", ".json": "json", ".parquet": "parquet", ".csv": "csv"}
SECRET = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(sk|hf|ghp|gho|xox[abp]|AKIA)[-_]?[A-Za-z0-9]{16,}|"
    r"(password|passwd|secret|api_?key|token)\s*[:=]+\s*['\"][^'\"\s]{8,}['\"]",
    re.IGNORECASE,
)
MAX_LINES = 40  # of one fragment
MAX_CHARACTERS = 4000  # of one fragment: it is paid for by the token
NUM_EXAMPLES = 2  # seed tasks that show the form of a task


class OssInstruct(Strategy):
    """Consecutive lines of one file, and two seed tasks that show the form of a task."""

    name = "oss_instruct"
    templates = ("oss_instruct", "rules")

    def __init__(self, snippets: Sequence[str] = ()) -> None:
        self.snippets = snippets

    @classmethod
    def from_config(cls, config: GenerateConfig) -> Self:
        source, column = config.snippets, config.snippets_column
        return cls(load_snippets(source, column) if source else ())

    def validate(self, config: GenerateConfig) -> None:
        super().validate(config)
        if not self.snippets:
            raise InputError("strategy oss_instruct needs snippets: a folder, file or dataset")

    def inputs(self) -> list[RunInput]:
        text = json.dumps(self.snippets).encode()
        return [
            RunInput("snippets_sha256", hashlib.sha256(text).hexdigest(), "the code in snippets")
        ]

    def ask(self, context: PromptContext) -> Prompt:
        rng = context.rng
        lines = rng.choice(self.snippets).split("\n")
        length = min(len(lines), rng.randint(2 * MIN_LINES, MAX_LINES))
        start = rng.randrange(len(lines) - length + 1)
        while sum(map(len, lines[start : start + length])) > MAX_CHARACTERS:
            length -= 1
        snippet = "\n".join(lines[start : start + length]).strip("\n")
        examples = rng.sample(context.seed_tasks, min(NUM_EXAMPLES, len(context.seed_tasks)))
        fields = list(map(prompt_fields, examples))
        text = context.render("oss_instruct", snippet=snippet, examples=fields)
        return Prompt(text, [task.id for task in examples])


def load_snippets(source: str, column: str) -> list[str]:
    """Return the usable texts of a source, in a fixed order.

    Args:
        source: a folder (of a Git repository: its tracked files), a file of code, a file of rows,
            or a dataset on the Hub.
        column: the column of rows that contains the code.
    """
    path = Path(source)
    if path.is_dir():
        texts = [_read_text(file) for file in _list_code_files(path)]
    elif path.suffix in CODE_SUFFIXES and path.is_file():
        texts = [_read_text(path)]
    else:
        texts = list(_read_column(source, path, column))
    snippets = [snippet for snippet in map(_clean, texts) if snippet]
    if not snippets:
        raise InputError(
            f"snippets {source} contains no usable code; a text needs at least {MIN_LINES} lines, "
            f"none of over {MAX_LINE_LENGTH} characters, and nothing that looks like a key"
        )
    return snippets


def _list_code_files(folder: Path) -> list[Path]:
    names = _list_tracked(folder) or [file.relative_to(folder) for file in folder.rglob("*")]
    return [
        folder / name
        for name in sorted(names)
        if name.suffix.lower() in CODE_SUFFIXES
        and not any(part.startswith(".") for part in name.parts)
        and (folder / name).is_file()
        and not (folder / name).is_symlink()
    ]


def _list_tracked(folder: Path) -> list[Path]:
    """Return the files that Git tracks; none outside a repository or without git."""
    command = ["git", "-C", str(folder), "ls-files", "-z"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    return [Path(name) for name in listing.decode("utf-8", "replace").split("\0") if name]


def _clean(text: str) -> str:
    """Return a text without runs of blank lines; "" if it is short, minified, or has a key."""
    text = BLANK_LINES.sub("\n\n", text.replace("\r\n", "\n")).strip("\n")
    lines = text.split("\n")
    num_lines = sum(bool(line.strip()) for line in lines)
    if num_lines < MIN_LINES or max(map(len, lines)) > MAX_LINE_LENGTH or SECRET.search(text):
        return ""
    return text


def _read_text(path: Path) -> str:
    """Return the text of a file, or "" if it is too large or not text."""
    try:
        return "" if path.stat().st_size > MAX_FILE_BYTES else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _read_column(source: str, path: Path, column: str) -> Iterator[str]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    kind = DATASET_FORMATS.get(path.suffix)
    if path.is_file() and kind is None:
        raise InputError(
            f"snippets {source} is neither code nor JSON, Parquet or CSV; give such a file, a "
            "folder of code, or a dataset of the Hub"
        )
    arguments = {"path": kind, "data_files": source} if path.is_file() else {"path": source}
    try:
        rows = load_dataset(**arguments, split="train")
    except (DatasetsError, ValueError, OSError) as error:
        reason = error_message(error).removesuffix(".")
        raise InputError(
            f"cannot load snippets {source}: {reason}; give a file or folder of code, or a dataset "
            "of the Hub"
        ) from None
    if column not in rows.column_names:
        raise InputError(
            f"snippets {source} has no column {column!r}; set snippets_column to one of "
            f"{', '.join(rows.column_names)}"
        )
    yield from (row[column] for row in rows if isinstance(row[column], str))
