"""Build datasets without the plots of their cards, which are most of the time of a small run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def without_plots() -> Iterator[None]:
    from code_alpaca.dataset import plots

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "draw_plots", lambda summary, folder: [])
        yield
