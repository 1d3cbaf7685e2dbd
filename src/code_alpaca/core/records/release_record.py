"""release.json of a model release or of its Space."""

from __future__ import annotations

from pydantic import StrictStr

from code_alpaca.core.records.base import Record


class ReleaseRecord(Record):
    """release.json of a model release or of its Space."""

    FILE = "release.json"
    STAGE = "release"

    version: StrictStr
    sha256: dict[StrictStr, StrictStr]  # of every file but the card and this one
