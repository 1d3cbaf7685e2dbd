"""Plot in one style, so that the same numbers give the same PNG bytes on every machine.

The style replaces the user's matplotlib settings, the font ships with matplotlib, and a PNG
contains neither a date nor the version of matplotlib.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#24292f", "#656d76", "#d8dee4"
# After Okabe and Ito: these hues differ for color-blind readers too.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d98c3f", "#2b8c6d", "#b7bec6"
STYLE = {
    "font.family": ["DejaVu Sans"], "font.size": 10.5, "text.color": INK,
    "axes.titlesize": 13, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlepad": 14, "axes.labelcolor": MUTED, "axes.edgecolor": GREY,
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "xtick.color": MUTED, "ytick.color": MUTED, "xtick.labelcolor": INK, "ytick.labelcolor": INK,
    "grid.color": RULE, "grid.linewidth": 0.8, "legend.frameon": False,
    "figure.constrained_layout.use": True, "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.facecolor": "white", "savefig.facecolor": "white",
}  # fmt: skip
WIDTH = 8.0  # inches; at 200 DPI twice the 800 pixels at which a page shows it
DPI = 200

# Without a writable home, matplotlib warns that it uses a temporary folder; that is enough for us.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


@contextmanager
def plot_style() -> Iterator[None]:
    """Replace the user's matplotlib settings by `STYLE` within the context."""
    from matplotlib import style

    with style.context(["default", STYLE]):
        yield


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    with warnings.catch_warnings():  # a character missing from the font is drawn as a box
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        figure.savefig(path, dpi=DPI, metadata={"Software": None})
