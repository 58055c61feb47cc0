"""The two pictures of a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

from benchmarks.contests.growth import QUANTITIES, STALL_LIMIT_MS, Point
from benchmarks.report.report import Row, progress_to_target

_MET, _NOT_MET = "#2a7f62", "#c44536"
_PANELS_A_ROW = 4


def plot_rows(path: Path, rows: Sequence[Row]) -> None:
    """A bar a row: how far beyond its target it is, or how far short of it, on a logarithmic
    axis."""
    aimed = [found for found in rows if found.target is not None][::-1]
    figure, axes = pyplot.subplots(figsize=(10, 0.55 * len(aimed) + 1.6), layout="constrained")
    progress = [progress_to_target(found) or 0 for found in aimed]
    # A bar from 1: to the right where the target is passed, to the left where it is missed.
    axes.barh(
        [found.name for found in aimed],
        [value - 1 for value in progress],
        left=1,
        color=[_MET if found.met else _NOT_MET for found in aimed],
    )
    for at, (found, value) in enumerate(zip(aimed, progress, strict=True)):
        bound = found.sense.split(", ")[1]
        axes.annotate(
            f"{found.ratio:.3g}×, {bound} {found.target:g}",
            (max(value, 1), at),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
        )
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlim(min([0.5, *progress]) * 0.9, max([2, *progress]) * 2.5)
    ticks = [tick for tick in (0.1, 0.2, 0.5, 1, 2, 5, 10) if tick < axes.get_xlim()[1]]
    axes.set_xticks([tick for tick in ticks if tick > axes.get_xlim()[0]])
    axes.xaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("ratio to the rival in the same run, by its target (1 = met)")
    axes.set_title("Ours beside each rival")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def plot_growth(path: Path, points: Sequence[Point]) -> None:
    """A panel a quantity, over the number of counters; dashed, what it is to follow."""
    rows = math.ceil(len(QUANTITIES) / _PANELS_A_ROW)
    figure, panels = pyplot.subplots(
        rows, _PANELS_A_ROW, figsize=(13, 3.2 * rows), layout="constrained"
    )
    for axes, quantity in zip(panels.flat, QUANTITIES, strict=True):
        measured = [(p.counters, value) for p in points if (value := quantity.of(p)) is not None]
        sizes, values = zip(*measured, strict=True)
        factor = [size / sizes[0] if quantity.follows == "work" else 1 for size in sizes]
        first = STALL_LIMIT_MS if quantity.follows == "limit" else values[0]
        axes.plot(sizes, [first * by for by in factor], "--", color="grey")
        axes.plot(sizes, values, "o-", color=_MET)
        axes.set_xscale("log")
        if quantity.follows == "work":
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.5 * max(first, *values))
        axes.set_title(f"{quantity.name}\n({quantity.unit})", fontsize=10)
        axes.set_xlabel("counters")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
