"""The config keys that name a dataset to read."""

from __future__ import annotations

from pydantic import Field

from code_alpaca.core.config import StageConfig
from code_alpaca.core.row_formats import ColumnMap
from code_alpaca.dataset.source import DEFAULT_CONFIG, DEFAULT_SPLIT, DatasetSource


class SourceKeys(StageConfig):
    """The keys that name a dataset to read, shared by `curate` and `publish`."""

    source: str | None = Field(
        None,
        description="a dataset folder, a JSON, JSONL, CSV or Parquet file (also compressed) or a "
        "folder of them, or a dataset on the Hub",
    )
    source_config: str = Field(DEFAULT_CONFIG, description="config of a folder or Hub dataset")
    source_split: str = Field(DEFAULT_SPLIT, description="split of a folder or Hub dataset")
    revision: str | None = Field(None, description="tag, branch or commit of a Hub dataset")
    column_map: ColumnMap = Field(
        None,
        description="columns of the source with the Alpaca fields, e.g. {instruction: "
        "problem, output: solution}, or with conversations, e.g. {messages: dialog}",
    )
    first_turn: bool = Field(
        False,
        description="read the first question and answer of conversations with several turns; "
        "otherwise curate rejects them, and publish refuses the source",
    )

    @property
    def dataset_source(self) -> DatasetSource:
        """The dataset to read, and how."""
        return DatasetSource(
            self.source or "",
            self.source_config,
            self.revision,
            self.source_split,
            self.column_map,
            self.first_turn,
        )
