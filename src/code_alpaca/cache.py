"""Where this user's caches are. What is in there can be made again, and may be deleted."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """A folder that may not exist yet, and may not be writable."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "code_alpaca")
