"""The pictures of a dataset, each drawn from numbers that its manifest already holds.

The same numbers give the same bytes: our own style stands in for the user's, the font comes with
matplotlib, and a file names neither its date nor its maker.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#24292f", "#656d76", "#d8dee4"
# After Okabe and Ito, whose hues stay apart for colour-blind eyes.
BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d98c3f", "#2b8c6d", "#b7bec6"
REST = "#eff2f5"
WHEEL = ("#7fb2d9", "#f0b77a", "#86c5ac", "#d6a3c4", "#c9c58a", "#a9b4c2")
STYLE = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GREY,
    "axes.titlesize": 13,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 14,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.12,
    "figure.constrained_layout.w_pad": 0.12,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}
WIDTH = 8.0  # inches; at 200 dots an inch twice the 800 pixels at which a page shows them
DOTS = 200
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}  # under words on grid lines
DASHED = (0, (4, 3))
BARS = 12  # at most, in a chart of bars; the rest is summed
LONGEST_LABEL = 13  # characters in a wedge of the sunburst

Numbers = dict[str, Any]


def draw(manifest: dict[str, Any], folder: Path) -> list[str]:
    """Write the pictures as PNG files and return their names, in the order to show them.

    Args:
        manifest: `counts`, `candidates`, `rejected_by_reason`, `statistics` (of
            `Description.facts`) and `pace` (of `Ledger.pace`). A picture is left out, and its
            file from before removed, where its numbers are missing or all zero.
    """
    from matplotlib import style
    from matplotlib.figure import Figure

    drawn = []
    folder.mkdir(parents=True, exist_ok=True)
    with style.context(["default", STYLE]):
        for name, (_, paint) in PICTURES.items():
            figure = Figure(figsize=(WIDTH, 4.2))
            if paint(figure, manifest):
                with warnings.catch_warnings():  # a letter that the font lacks is a box
                    warnings.filterwarnings("ignore", "Glyph .* missing from font")
                    figure.savefig(folder / name, dpi=DOTS, metadata={"Software": None})
                drawn.append(name)
            else:
                (folder / name).unlink(missing_ok=True)
    return drawn


def caption(name: str) -> str:
    """What the picture of this name shows, in a few words."""
    return PICTURES[name][0]


def _funnel(figure: Figure, manifest: Numbers) -> bool:
    counts, candidates = manifest.get("counts") or {}, manifest.get("candidates") or 0
    if not candidates:
        return False
    lost = _few(manifest.get("rejected_by_reason") or {}, "other reasons")
    accepted, verified = counts.get("default", 0), counts.get("verified", 0)
    spare = candidates - sum(lost.values()) - accepted
    if spare > 0:
        lost["more than asked for"] = spare
    left, bars = candidates, [("candidates", 0, candidates, GREY)]
    for reason, count in lost.items():
        left -= count
        bars.append((_spoken(reason), left, count, ORANGE))
    bars.append(("accepted", 0, accepted, BLUE))
    if verified:
        bars.append(("verified by tests", 0, verified, GREEN))
    axes = _bar_chart(figure, bars, candidates)
    axes.set_title(f"Of {candidates:,} candidates, {accepted:,} were accepted")
    axes.set_xlabel("candidates")
    return True


def _languages(figure: Figure, manifest: Numbers) -> bool:
    languages = (manifest.get("statistics") or {}).get("languages") or {}
    total = sum(languages.values())
    if not total:
        return False
    bars = [
        (label, 0, count, GREY if label in ("unknown", "other", "other languages") else BLUE)
        for label, count in _few(languages, "other languages").items()
    ]
    named = len(languages.keys() - {"unknown", "other"})
    axes = _bar_chart(figure, bars, total)
    axes.set_title(f"Rows by programming language ({_number_of(named, 'language')} named)")
    axes.set_xlabel("rows")
    return True


def _bar_chart(figure: Figure, bars: list[tuple[str, int, int, str]], whole: int) -> Axes:
    """Horizontal bars of (label, start, length, colour), each with its share of the whole."""
    figure.set_figheight(1.3 + 0.34 * len(bars))
    axes = figure.add_subplot()
    labels, starts, lengths, colours = zip(*bars, strict=True)
    places = range(len(bars))
    axes.barh(places, lengths, left=starts, color=colours, height=0.68)
    axes.set_yticks(places, [_shortened(label, 28) for label in labels], parse_math=False)
    axes.invert_yaxis()
    axes.tick_params(left=False)
    axes.spines["left"].set_visible(False)
    longest = max(start + length for _, start, length, _ in bars)
    for place, start, length in zip(places, starts, lengths, strict=True):
        axes.text(
            start + length + 0.012 * longest,
            place,
            f"{length:,}  ({_share(length, whole)})",
            va="center",
            fontsize=9.5,
            color=MUTED,
        )
    axes.set_xlim(0, 1.19 * longest)
    _whole_numbers(axes.xaxis)
    return axes


def _verbs(figure: Figure, manifest: Numbers) -> bool:
    statistics = manifest.get("statistics") or {}
    verbs = statistics.get("verbs") or {}
    common = verbs.get("common") or []
    if not common:
        return False
    figure.set_size_inches(WIDTH, WIDTH + 0.4)
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.axis("off")
    whole = sum(each["rows"] for each in common)
    at = 0
    for number, each in enumerate(common):
        colour = WHEEL[number % len(WHEEL)]
        if number and number == len(common) - 1 and colour == WHEEL[0]:
            colour = WHEEL[2]  # the last wedge must not look like the first, its neighbour
        _wedge(axes, (at, each["rows"], whole), (0.40, 0.67), colour, each["verb"], bold=True)
        start, at = at, at + each["rows"]
        for noun, count in each["objects"].items():
            _wedge(axes, (start, count, whole), (0.68, 1.0), _lighter(colour), noun)
            start += count
        if start < at:
            _wedge(axes, (start, at - start, whole), (0.68, 1.0), REST, "others")
    axes.set_xlim(-1.01, 1.01)
    axes.set_ylim(-1.01, 1.01)
    axes.set_title(
        "What the instructions ask for: the most common verbs (inside)\n"
        "and what is written, changed or found (outside)"
    )
    rows = sum((statistics.get("languages") or {}).values())
    middle = {"ha": "center", "va": "center"}
    axes.text(0, 0.06, f"{whole:,} rows", fontsize=15, fontweight="bold", **middle)
    seen = f"of {rows:,} have one of\nthese {_number_of(len(common), 'verb')} and an object"
    axes.text(0, -0.08, seen, color=MUTED, linespacing=1.4, **middle)
    return True


def _wedge(
    axes: Axes,
    part: tuple[int, int, int],
    radii: tuple[float, float],
    colour: str,
    label: str,
    *,
    bold: bool = False,
) -> None:
    """A piece of a ring from the top clockwise, with its label along the radius if one fits.

    Args:
        part: where it starts, how much it is, and of what whole.
    """
    from matplotlib.patches import Wedge

    start, share, whole = part
    first, last = (90 - 360 * (start + each) / whole for each in (share, 0))
    inner, outer = radii
    axes.add_patch(
        Wedge((0, 0), outer, first, last, width=outer - inner, fc=colour, ec="white", lw=0.8)
    )
    middle, radius = math.radians((first + last) / 2), (inner + outer) / 2
    size = 9.5 if bold else 8.5
    # One unit is half the width of the picture: is the arc as wide as a line of text is high?
    if math.radians(last - first) * (0.7 * inner + 0.3 * outer) < 1.2 * size / 72 / (WIDTH / 2):
        return
    turn = math.degrees(middle)
    axes.text(
        radius * math.cos(middle),
        radius * math.sin(middle),
        _shortened(label, LONGEST_LABEL),
        rotation=turn if -90 <= turn <= 90 else turn + 180,
        rotation_mode="anchor",
        ha="center",
        va="center",
        fontsize=size,
        fontweight="bold" if bold else "normal",
        parse_math=False,
    )


def _lengths(figure: Figure, manifest: Numbers) -> bool:
    lengths = (manifest.get("statistics") or {}).get("lengths") or {}
    fields = [
        (name, bins)
        for name, bins in lengths.items()
        if name != "edges" and sum(bins[1:])  # a field that is empty in every row has no shape
    ]
    if not fields:
        return False
    edges = lengths["edges"]
    used = [place for _, bins in fields for place, count in enumerate(bins) if place and count]
    low, high = max(min(used) - 1, 1), min(max(used) + 1, len(edges) - 1)
    figure.set_figheight(1.2 + 1.5 * len(fields))
    panels = figure.subplots(len(fields), sharex=True, squeeze=False)[:, 0]
    for axes, (name, bins), colour in zip(panels, fields, (BLUE, GREEN, ORANGE), strict=False):
        places = range(low, high + 1)
        axes.bar(places, [bins[place] for place in places], width=0.92, align="edge", color=colour)
        axes.set_ylabel("rows")
        axes.text(
            0.995,
            0.93,
            f"{name}\n{_median(bins[1:], edges[1:])}",
            transform=axes.transAxes,
            ha="right",
            va="top",
            linespacing=1.4,
            bbox=PLATE,
        )
        if bins[0]:
            empty = f"{bins[0]:,} rows have none"
            place = {"transform": axes.transAxes, "va": "top", "bbox": PLATE}
            axes.text(0.012, 0.93, empty, color=MUTED, **place)
        axes.set_ylim(0, 1.18 * max(bins[1:]))
        _whole_numbers(axes.yaxis)
        axes.grid(axis="y")
    panels[0].set_title("How long the texts are")
    panels[-1].set_xticks(range(low, high + 1), [f"{edges[at]:,}" for at in range(low, high + 1)])
    panels[-1].tick_params(axis="x", labelsize=8)
    panels[-1].set_xlabel("words and punctuation marks (each bin begins at its number)")
    return True


def _nearest(figure: Figure, manifest: Numbers) -> bool:
    bins = (manifest.get("statistics") or {}).get("nearest") or []
    if not sum(bins):
        return False
    axes = figure.add_subplot()
    step = 1 / len(bins)
    axes.bar(
        [step * place for place in range(len(bins))],
        bins,
        width=0.92 * step,
        align="edge",
        color=BLUE,
    )
    threshold = (manifest.get("config") or {}).get("novelty_threshold")
    if isinstance(threshold, float) and 0 < threshold < 1:
        axes.axvline(threshold, color=INK, linewidth=1, linestyle=DASHED)
        side = "left" if threshold > 0.75 else "right"
        at, coordinates = (threshold, 0.97), ("data", "axes fraction")
        told = f"rejected above {threshold:g}"
        _note(axes, told, at, coordinates, side=side, va="top", bbox=PLATE)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.15 * max(bins))
    axes.set_title("How alike each row is to the nearest one accepted before it")
    axes.set_xlabel("similarity (0: nothing in common, 1: the same)")
    axes.set_ylabel("rows")
    _whole_numbers(axes.yaxis)
    axes.grid(axis="y")
    return True


def _pace(figure: Figure, manifest: Numbers) -> bool:
    slices = [(seen, kept) for seen, kept in manifest.get("pace") or [] if seen]
    if len(slices) < 2:
        return False
    ends, shares, decided = [], [], 0
    for seen, kept in slices:
        decided += seen
        ends.append(decided)
        shares.append(100 * kept / seen)
    mean = 100 * sum(kept for _, kept in slices) / decided
    axes = figure.add_subplot()
    axes.stairs(shares, [0, *ends], color=BLUE, linewidth=2, baseline=None)
    axes.axhline(mean, color=MUTED, linewidth=1, linestyle=DASHED)
    at, coordinates = (1, mean), ("axes fraction", "data")
    _note(axes, f"{mean:.0f}%\nwhole run", at, coordinates, side="right", va="center")
    axes.set_xlim(0, decided)
    axes.set_ylim(0, 105)
    axes.set_title("Share of candidates accepted as the run went on")
    axes.set_xlabel("candidates decided")
    axes.set_ylabel("accepted (%)")
    _whole_numbers(axes.xaxis)
    axes.grid(axis="y")
    return True


# Each says whether there was something to draw.
PICTURES: dict[str, tuple[str, Callable[[Figure, Numbers], bool]]] = {
    "funnel.png": ("What became of the candidates", _funnel),
    "verbs.png": ("The most common verbs of the instructions and their objects", _verbs),
    "languages.png": ("Rows by programming language", _languages),
    "lengths.png": ("Lengths of instructions, inputs and outputs", _lengths),
    "nearest.png": ("Similarity of each row to its nearest earlier row", _nearest),
    "pace.png": ("Share of candidates accepted over the run", _pace),
}


def _few(counts: dict[str, int], rest: str) -> dict[str, int]:
    """The largest counts, and the sum of those for which there is no room."""
    first = dict(sorted(counts.items(), key=lambda item: -item[1]))
    if len(first) <= BARS:
        return first
    names = list(first)
    return {
        **{name: first[name] for name in names[: BARS - 1]},
        rest: sum(first[name] for name in names[BARS - 1 :]),
    }


def _median(bins: list[int], edges: list[int]) -> str:
    """Within which bin the middle row lies, of those that are not empty."""
    below = list(accumulate(bins))
    place = next(at for at, count in enumerate(below) if 2 * count >= below[-1])
    if place + 1 == len(edges):
        return f"half have {edges[place]:,} or more"
    last = edges[place + 1] - 1
    return f"median {last}" if last == edges[place] else f"median {edges[place]:,} to {last:,}"


def _note(
    axes: Axes,
    told: str,
    at: tuple[float, float],
    coordinates: tuple[str, str],
    *,
    side: str,
    **more: Any,
) -> None:
    """Words to the left or to the right of a place, whose x and y are in these coordinates."""
    axes.annotate(
        told,
        at,
        xycoords=coordinates,
        xytext=(6 if side == "right" else -6, 0),
        textcoords="offset points",
        ha="left" if side == "right" else "right",
        color=MUTED,
        **more,
    )


def _whole_numbers(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _lighter(colour: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = (1 - (1 - part) * 0.55 for part in to_rgb(colour))
    return red, green, blue


def _share(count: int, whole: int) -> str:
    share = 100 * count / whole
    return "<0.1%" if 0 < share < 0.1 else f"{share:.1f}%"


def _number_of(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _spoken(reason: str) -> str:
    return reason.replace("_", " ")


def _shortened(label: str, length: int) -> str:
    """On one line, and without half a surrogate pair, which a teacher's label can hold."""
    label = " ".join(label.encode("utf-8", "replace").decode().split())
    return label if len(label) <= length else label[: length - 1] + "…"
