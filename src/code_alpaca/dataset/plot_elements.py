"""Elements of the plots of a dataset: bar charts, ticks, labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from code_alpaca.core.plots import MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DASHED = (0, (4, 3))
LABEL_BOX = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # behind text on grid lines


class Bar(NamedTuple):
    """A horizontal bar of a bar chart, from `start` to `start + length`."""

    label: str
    start: int
    length: int
    color: str


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
        percentage = 100 * bar.length / total
        rounded = "<0.1" if 0 < percentage < 0.1 else f"{percentage:.1f}"
        label = f"{bar.length:,}  ({rounded}%)"
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


def shorten(label: str, max_length: int) -> str:
    """Put a label on one line of at most `max_length` characters; replace lone surrogates."""
    label = " ".join(label.encode("utf-8", "replace").decode().split())
    return label if len(label) <= max_length else label[: max_length - 1] + "…"
