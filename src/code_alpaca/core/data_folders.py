"""Read a folder of data files as the records of one dataset, by split.

A file belongs to the split that its name, or else a folder above it, contains as a word: `train`,
`validation` or `test`, or one of their synonyms, as in
https://huggingface.co/docs/datasets/repository_structure. A file without such a word is of `train`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate, chain
from pathlib import Path

from code_alpaca.core.data_files import DATA_NAME, read_records
from code_alpaca.core.json_records import RecordList

SPLITS_BY_WORD = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
WORD = re.compile(r"[^\W\d_]+")
METADATA = {"dataset_info.json", "dataset_infos.json", "manifest.json"}
FilesBySplit = dict[str, list[Path]]


class FolderRecords(RecordList):
    """The records of several files, in the order of the files."""

    def __init__(self, files: dict[str, RecordList]) -> None:
        super().__init__(chain.from_iterable(files.values()))
        self._files = list(files.items())
        self._ends = list(accumulate(len(records) for records in files.values()))

    def where(self, index: int) -> str:
        """Return the place of a record for messages: its file, and its line or row in it."""
        at = bisect_right(self._ends, index)
        name, records = self._files[at]
        return f"{name}, {records.where(index - (self._ends[at] - len(records)))}"


def find_data_files(folder: Path) -> FilesBySplit:
    """Return the data files in a folder and below it by split, in the order of their paths.

    Hidden files, and those that `datasets` writes beside the data, are left out.
    """
    files: FilesBySplit = {}
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        is_hidden = any(part.startswith((".", "__")) for part in parts)
        if is_hidden or path.name in METADATA or not DATA_NAME.fullmatch(path.name):
            continue
        if path.is_file():
            files.setdefault(_find_split(parts), []).append(path)
    return files


def read_files(folder: Path, paths: Iterable[Path]) -> FolderRecords:
    """Return the records of files in a folder, in their order."""
    return FolderRecords(
        {path.relative_to(folder).as_posix(): read_records(path) for path in paths}
    )


def _find_split(parts: tuple[str, ...]) -> str:
    for part in reversed(parts):
        for word in WORD.findall(part.lower()):
            if word in SPLITS_BY_WORD:
                return SPLITS_BY_WORD[word]
    return "train"
