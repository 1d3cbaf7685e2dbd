"""Plot a dataset from the numbers in its manifest.

The dataset card and the run report show these plots; `PLOTS` lists them in order. A plot is left
out if its numbers are missing or all zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from code_alpaca.core.console import plural
from code_alpaca.core.plots import (
    BLUE,
    GREEN,
    GREY,
    INK,
    MUTED,
    ORANGE,
    WIDTH,
    plot_style,
    save_figure,
)
from code_alpaca.core.records import RootVerb, RunSummary
from code_alpaca.core.row_formats import ALPACA
from code_alpaca.dataset.plot_elements import (
    DASHED,
    LABEL_BOX,
    Bar,
    annotate_beside,
    bar_chart,
    lighten,
    shorten,
    use_integer_ticks,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_BARS = 12  # of a bar chart; smaller counts are summed into the last bar
MAX_WEDGE_LABEL = 13  # characters
WHEEL = ("#7fb2d9", "#f0b77a", "#86c5ac", "#d6a3c4", "#c9c58a", "#a9b4c2")
OTHERS_COLOR = "#eff2f5"


def draw_plots(summary: RunSummary, folder: Path) -> list[str]:
    """Write the plots as PNG files and return their names, in display order.

    An older file of a plot that is left out is deleted.
    """
    from matplotlib.figure import Figure

    drawn = []
    folder.mkdir(parents=True, exist_ok=True)
    with plot_style():
        for name, (_, draw) in PLOTS.items():
            figure = Figure(figsize=(WIDTH, 4.2))
            if draw(figure, summary):
                save_figure(figure, folder / name)
                drawn.append(name)
            else:
                (folder / name).unlink(missing_ok=True)
    return drawn


def caption(name: str) -> str:
    """Return a short description of a plot."""
    return PLOTS[name][0]


def _draw_funnel(figure: Figure, summary: RunSummary) -> bool:
    candidates = summary.candidates
    if not candidates:
        return False
    rejected = _largest(summary.rejected_by_reason, "other reasons")
    accepted, verified = (summary.counts.get(name, 0) for name in ("default", "verified"))
    surplus = candidates - sum(rejected.values()) - accepted
    if surplus > 0:
        rejected["beyond num_examples"] = surplus
    remaining, bars = candidates, [Bar("candidates", 0, candidates, GREY)]
    for reason, count in rejected.items():
        remaining -= count
        bars.append(Bar(reason.replace("_", " "), remaining, count, ORANGE))
    bars.append(Bar("accepted", 0, accepted, BLUE))
    if verified:
        bars.append(Bar("verified by tests", 0, verified, GREEN))
    title = f"{accepted:,} of {plural(candidates, 'candidate')} accepted"
    bar_chart(figure, bars, candidates).set(title=title, xlabel="candidates")
    return True


def _draw_languages(figure: Figure, summary: RunSummary) -> bool:
    languages = summary.statistics.languages
    total = sum(languages.values())
    if not total:
        return False
    bars = [
        Bar(label, 0, count, GREY if label in ("unknown", "other", "other languages") else BLUE)
        for label, count in _largest(languages, "other languages").items()
    ]
    named = plural(len(languages.keys() - {"unknown", "other"}), "language")
    title = f"Rows by programming language ({named} named)"
    bar_chart(figure, bars, total).set(title=title, xlabel="rows")
    return True


def _draw_verbs(figure: Figure, summary: RunSummary) -> bool:
    verbs = summary.statistics.verbs
    if not (verbs and verbs.common):
        return False
    figure.set_size_inches(WIDTH, WIDTH + 0.4)
    axes = figure.add_subplot(aspect="equal")
    axes.axis("off")
    total = sum(verb.rows for verb in verbs.common)
    _draw_verb_wheel(axes, verbs.common, total)
    title = "The most common verbs of the instructions (inner ring)\nand their objects"
    axes.set(xlim=(-1.01, 1.01), ylim=(-1.01, 1.01), title=title)
    rows = sum(summary.statistics.languages.values())
    centered = {"ha": "center", "va": "center"}
    axes.text(0, 0.06, plural(total, "row"), fontsize=15, fontweight="bold", **centered)
    listed = plural(len(verbs.common), "verb")
    subtitle = f"of {rows:,} have one of\nthese {listed} and an object"
    axes.text(0, -0.08, subtitle, color=MUTED, linespacing=1.4, **centered)
    return True


class Ring(NamedTuple):
    """A ring of the verb wheel."""

    inner: float
    outer: float
    font_size: float
    font_weight: str


VERB_RING = Ring(0.40, 0.67, 9.5, "bold")
OBJECT_RING = Ring(0.68, 1.0, 8.5, "normal")


def _draw_verb_wheel(axes: Axes, common: list[RootVerb], total: int) -> None:
    end = 0
    for index, verb in enumerate(common):
        color = WHEEL[index % len(WHEEL)]
        if index and index == len(common) - 1 and color == WHEEL[0]:
            color = WHEEL[2]  # the last wedge is a neighbor of the first
        start, end = end, end + verb.rows
        _draw_wedge(axes, (start / total, end / total), VERB_RING, color, verb.verb)
        for noun, count in verb.objects.items():
            turns = (start / total, (start + count) / total)
            _draw_wedge(axes, turns, OBJECT_RING, lighten(color), noun)
            start += count
        if start < end:
            turns = (start / total, end / total)
            _draw_wedge(axes, turns, OBJECT_RING, OTHERS_COLOR, "others")


def _draw_wedge(axes: Axes, turns: tuple[float, float], ring: Ring, color: Any, label: str) -> None:
    """Draw a sector of a ring, with its label along the radius if it fits.

    `turns` are its start and end, clockwise from the top, as fractions of a full turn.
    """
    from matplotlib.patches import Wedge

    last, first = (90 - 360 * turn for turn in turns)
    width = ring.outer - ring.inner
    axes.add_patch(
        Wedge((0, 0), ring.outer, first, last, width=width, fc=color, ec="white", lw=0.8)
    )
    # One unit is half the width of the plot. The label fits if the arc is as long as a line of
    # text is high.
    arc = math.radians(last - first) * (0.7 * ring.inner + 0.3 * ring.outer)
    if arc < 1.2 * ring.font_size / 72 / (WIDTH / 2):
        return
    angle, radius = math.radians((first + last) / 2), (ring.inner + ring.outer) / 2
    degrees = math.degrees(angle)
    axes.text(
        radius * math.cos(angle),
        radius * math.sin(angle),
        shorten(label, MAX_WEDGE_LABEL),
        rotation=degrees if -90 <= degrees <= 90 else degrees + 180,
        rotation_mode="anchor",
        ha="center",
        va="center",
        fontsize=ring.font_size,
        fontweight=ring.font_weight,
        parse_math=False,
    )


def _draw_lengths(figure: Figure, summary: RunSummary) -> bool:
    lengths = summary.statistics.lengths
    if lengths is None:
        return False
    edges = lengths.edges
    # Bin 0 counts empty texts: a field that is empty in every row has no distribution.
    fields = {name: bins for name in ALPACA if sum((bins := getattr(lengths, name))[1:])}
    if not fields:
        return False
    used = [i for bins in fields.values() for i, count in enumerate(bins) if i and count]
    shown = range(max(min(used) - 1, 1), min(max(used) + 1, len(edges) - 1) + 1)
    figure.set_figheight(1.2 + 1.5 * len(fields))
    panels = figure.subplots(len(fields), sharex=True, squeeze=False)[:, 0]
    for axes, name, color in zip(panels, fields, (BLUE, GREEN, ORANGE), strict=False):
        bins = fields[name]
        axes.bar(shown, [bins[i] for i in shown], width=0.92, align="edge", color=color)
        axes.set_ylabel("rows")
        corner = {"transform": axes.transAxes, "va": "top", "bbox": LABEL_BOX}
        title = f"{name}\n{_median(bins[1:], edges[1:])}"
        axes.text(0.995, 0.93, title, ha="right", linespacing=1.4, **corner)
        if bins[0]:
            axes.text(0.012, 0.93, f"{plural(bins[0], 'row')} without", color=MUTED, **corner)
        axes.set_ylim(0, 1.18 * max(bins[1:]))
        use_integer_ticks(axes.yaxis)
        axes.grid(axis="y")
    panels[0].set_title("Text lengths")
    panels[-1].set_xticks(shown, [f"{edges[i]:,}" for i in shown])
    panels[-1].tick_params(axis="x", labelsize=8)
    panels[-1].set_xlabel("words and punctuation marks (each bin starts at its label)")
    return True


def _draw_nearest(figure: Figure, summary: RunSummary) -> bool:
    limit = Limit(summary, "novelty_threshold", "rejected above {:g}")
    return _draw_histogram(
        figure,
        summary.statistics.nearest,
        limit,
        title="Similarity of each row to its nearest earlier row",
        xlabel="similarity (0: nothing in common, 1: identical)",
    )


def _draw_test_strength(figure: Figure, summary: RunSummary) -> bool:
    limit = Limit(summary, "min_test_strength", "weak below {:g}")
    return _draw_histogram(
        figure,
        summary.statistics.test_strength,
        limit,
        title="Strength of the tests of each row that passed them",
        xlabel="share of faulty copies of the answer that the tests detect",
    )


class Limit(NamedTuple):
    """A config key to mark on the axis of a histogram, with a label for its value."""

    summary: RunSummary
    key: str
    label: str

    @property
    def value(self) -> float | None:
        """Its value; None if it is not set, or at an end of the axis."""
        value = (self.summary.config or {}).get(self.key)
        return value if isinstance(value, float) and 0 < value < 1 else None


def _draw_histogram(figure: Figure, bins: list[int], limit: Limit, **texts: str) -> bool:
    """Draw the number of rows in equal bins of [0, 1]."""
    if not sum(bins):
        return False
    axes = figure.add_subplot()
    step = 1 / len(bins)
    starts = [step * i for i in range(len(bins))]
    axes.bar(starts, bins, width=0.92 * step, align="edge", color=BLUE)
    if limit.value is not None:
        axes.axvline(limit.value, color=INK, linewidth=1, linestyle=DASHED)
        side = "left" if limit.value > 0.75 else "right"
        xy, xycoords = (limit.value, 0.97), ("data", "axes fraction")
        text = limit.label.format(limit.value)
        annotate_beside(axes, text, xy, xycoords, side=side, va="top", bbox=LABEL_BOX)
    axes.set(ylabel="rows", xlim=(0, 1), ylim=(0, 1.15 * max(bins)), **texts)
    use_integer_ticks(axes.yaxis)
    axes.grid(axis="y")
    return True


def _draw_acceptance_rate(figure: Figure, summary: RunSummary) -> bool:
    buckets = [(decided, accepted) for decided, accepted in summary.pace or [] if decided]
    if len(buckets) < 2:
        return False
    ends = list(accumulate(decided for decided, _ in buckets))
    rates = [100 * accepted / decided for decided, accepted in buckets]
    mean = 100 * sum(accepted for _, accepted in buckets) / ends[-1]
    axes = figure.add_subplot()
    axes.stairs(rates, [0, *ends], color=BLUE, linewidth=2, baseline=None)
    axes.axhline(mean, color=MUTED, linewidth=1, linestyle=DASHED)
    xy, xycoords = (1, mean), ("axes fraction", "data")
    annotate_beside(axes, f"{mean:.0f}%\noverall", xy, xycoords, side="right", va="center")
    axes.set(xlim=(0, ends[-1]), ylim=(0, 105), title="Acceptance rate over the run")
    axes.set(xlabel="candidates decided", ylabel="accepted (%)")
    use_integer_ticks(axes.xaxis)
    axes.grid(axis="y")
    return True


# File name: caption, and the function that draws it and returns whether there were numbers.
PLOTS: dict[str, tuple[str, Callable[[Figure, RunSummary], bool]]] = {
    "funnel.png": ("From candidates to accepted rows", _draw_funnel),
    "verbs.png": ("The most common verbs of the instructions and their objects", _draw_verbs),
    "languages.png": ("Rows by programming language", _draw_languages),
    "lengths.png": ("Lengths of instructions, inputs and outputs", _draw_lengths),
    "nearest.png": ("Similarity of each row to its nearest earlier row", _draw_nearest),
    "test_strength.png": ("Strength of the tests of each row", _draw_test_strength),
    "pace.png": ("Acceptance rate over the run", _draw_acceptance_rate),
}


def _largest(counts: dict[str, int], others: str) -> dict[str, int]:
    """Return at most `MAX_BARS` counts: the largest ones, and the sum of the rest as `others`."""
    ranked = sorted(counts.items(), key=lambda item: -item[1])
    if len(ranked) <= MAX_BARS:
        return dict(ranked)
    rest = sum(count for _, count in ranked[MAX_BARS - 1 :])
    return {**dict(ranked[: MAX_BARS - 1]), others: rest}


def _median(bins: list[int], edges: list[int]) -> str:
    """Describe the bin that contains the median."""
    cumulative = list(accumulate(bins))
    index = next(i for i, count in enumerate(cumulative) if 2 * count >= cumulative[-1])
    if index + 1 == len(edges):
        return f"half have {edges[index]:,} or more"
    last = edges[index + 1] - 1
    return f"median {last}" if last == edges[index] else f"median {edges[index]:,} to {last:,}"
