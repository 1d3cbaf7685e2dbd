"""Write and read the Parquet shards of a dataset, and assign rows to splits."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from code_alpaca.core.schema import features

if TYPE_CHECKING:
    import pyarrow.parquet as pq

ROWS_PER_GROUP = 1_000  # rows in memory at once
ROWS_PER_SHARD = 50_000
SPLITS = ("train", "validation")
VOLATILE_COLUMNS = frozenset({"created_at"})  # differ between runs that are otherwise the same
BATCH_ROWS = 10_000


class ShardWriter:
    """Writes the shards of one split of a config, which get their final names on exit."""

    def __init__(
        self, folder: Path, config: str, split: str, *, optional: Collection[str] = ()
    ) -> None:
        self.num_rows = 0
        self.paths: list[Path] = []
        self._folder, self._split = folder, split
        self._schema = features(config, optional=optional).arrow_schema
        self._group: list[dict[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._flush()
        self._close()
        if error_type is None:
            total = len(self.paths)
            for index, path in enumerate(self.paths):
                name = f"{self._split}-{index:05}-of-{total:05}.parquet"
                self.paths[index] = path.rename(path.with_name(name))

    def add(self, row: dict[str, Any]) -> None:
        """Append a row."""
        self._group.append({"reasoning": "", **row})
        self.num_rows += 1
        if len(self._group) == ROWS_PER_GROUP:
            self._flush()
        if self.num_rows % ROWS_PER_SHARD == 0:
            self._close()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._group:
            return
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self.paths.append(self._folder / f".{self._split}-{len(self.paths)}.part")
            self._writer = pq.ParquetWriter(self.paths[-1], self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._group, schema=self._schema))
        self._group.clear()

    def _close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def assign_split(row_id: str, validation_fraction: float) -> str:
    """Return "train" or "validation", decided by a hash of the id: the same in every version."""
    if not validation_fraction:
        return "train"
    position = int.from_bytes(hashlib.sha256(row_id.encode()).digest()[:8]) / 2**64
    return "validation" if position < validation_fraction else "train"


def column_types(optional: Collection[str] = ()) -> dict[str, str]:
    """Return the Arrow type of every column of the config `default`, by its name."""
    schema = features(optional=optional).arrow_schema
    return {field.name: str(field.type) for field in schema}


def read_columns(path: Path) -> list[str]:
    """Return the column names of a shard."""
    import pyarrow.parquet as pq

    return list(pq.read_schema(path).names)


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a shard with the given columns, one batch in memory at a time."""
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches(BATCH_ROWS, columns=list(columns)):
        yield from batch.to_pylist()
