"""Plot in one style, so that the same numbers give the same PNG bytes on every machine.

The style replaces the user's matplotlib settings, the font ships with matplotlib, and a PNG
contains neither a date nor the version of matplotlib.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
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
DASHED = (0, (4, 3))
LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # behind text on grid lines


class Bar(NamedTuple):
    """A horizontal bar of a bar chart, from `start` to `start + length`."""

    label: str
    start: int
    length: int
    color: str


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


def bar_chart(figure: Figure, bars: list[Bar], total: int) -> Axes:
    """Draw horizontal bars, each labeled with its length and its percentage of `total`."""
    figure.set_figheight(1.3 + 0.34 * len(bars))
    axes = figure.add_subplot()
    labels, starts, lengths, colors = zip(*bars, strict=True)
    positions = range(len(bars))
    axes.barh(positions, lengths, left=starts, color=colors, height=0.68)
    axes.set_yticks(positions, [shorten(label, 28) for label in labels], parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    longest = max(bar.start + bar.length for bar in bars)
    for position, bar in enumerate(bars):
        x = bar.start + bar.length + 0.012 * longest
        label = f"{bar.length:,}  ({format_percentage(bar.length, total)})"
        axes.text(x, position, label, va="center", fontsize=9.5, color=MUTED)
    axes.set_xlim(0, 1.19 * longest)
    use_integer_ticks(axes.xaxis)
    return axes


def use_integer_ticks(axis: Any) -> None:
    """Put at most five ticks on an axis, at integers, with thousands separators."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def annotate_beside(
    axes: Axes,
    text: str,
    xy: tuple[float, float],
    xycoords: tuple[str, str],
    *,
    side: str,
    **text_properties: Any,
) -> None:
    """Write gray text to the left or right of a point in matplotlib's coordinates."""
    axes.annotate(
        text,
        xy,
        xycoords=xycoords,
        xytext=(6 if side == "right" else -6, 0),
        textcoords="offset points",
        ha="left" if side == "right" else "right",
        color=MUTED,
        **text_properties,
    )


def lighten(color: str) -> tuple[float, float, float]:
    """Return a color mixed with white."""
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - (1 - channel) * 0.55 for channel in to_rgb(color))
    return red, green, blue


def format_percentage(count: int, total: int) -> str:
    """Format `count / total` as a percentage with one decimal."""
    percentage = 100 * count / total
    return "<0.1%" if 0 < percentage < 0.1 else f"{percentage:.1f}%"


def shorten(label: str, max_length: int) -> str:
    """Put a label on one line of at most `max_length` characters; replace lone surrogates."""
    label = " ".join(label.encode("utf-8", "replace").decode().split())
    return label if len(label) <= max_length else label[: max_length - 1] + "…"
