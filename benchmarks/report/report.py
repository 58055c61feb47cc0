"""From samples to rows: medians, ratios, whether a target is met, and how it is told. Pure."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from rich.table import Table

Samples = dict[str, list[float]]
"""Contestant -> one figure a round."""


class Sense(Enum):
    """How a row compares, and on which side of its target it is met."""

    LESS_TIME = "times less, at least"
    MORE_A_SECOND = "times, at least"
    AT_MOST = "times, at most"


@dataclass(frozen=True)
class Comparison:
    """What a row compares: two contestants of one contest. Without a target the ratio is only
    reported."""

    name: str
    what: str
    ours: str
    rival: str
    rival_is: str
    unit: str
    sense: Sense
    target: float | None


@dataclass(frozen=True)
class Measured:
    """What a contest found: samples by contestant, and by row what they are to be read with."""

    samples: Samples
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """One comparison of one run. `met` is None where there is no target."""

    name: str
    what: str
    ours: float
    ours_spread: tuple[float, float]
    rival_is: str
    rival: float
    rival_spread: tuple[float, float]
    unit: str
    ratio: float
    sense: str
    target: float | None
    met: bool | None
    note: str = ""


def row(comparison: Comparison, measured: Measured) -> Row:
    """The medians of both sides, their ratio, and whether the target is met."""
    ours, rival = measured.samples[comparison.ours], measured.samples[comparison.rival]
    ratio = ratio_of(comparison.sense, statistics.median(ours), statistics.median(rival))
    return Row(
        name=comparison.name,
        what=comparison.what,
        ours=statistics.median(ours),
        ours_spread=(min(ours), max(ours)),
        rival_is=comparison.rival_is,
        rival=statistics.median(rival),
        rival_spread=(min(rival), max(rival)),
        unit=comparison.unit,
        ratio=ratio,
        sense=comparison.sense.value,
        target=comparison.target,
        met=is_met(comparison.sense, ratio, comparison.target),
        note=measured.notes.get(comparison.name, ""),
    )


def ratio_of(sense: Sense, ours: float, rival: float) -> float:
    """How many times better than the rival; for a row of "at most", how many times its time."""
    return rival / ours if sense is Sense.LESS_TIME else ours / rival


def is_met(sense: Sense, ratio: float, target: float | None) -> bool | None:
    """Whether the ratio is on the right side of the target; None without one."""
    if target is None:
        return None
    return ratio <= target if sense is Sense.AT_MOST else ratio >= target


def progress_to_target(found: Row) -> float | None:
    """1 where the target is just met, more where it is passed, on either kind of row."""
    if found.target is None:
        return None
    at_most = found.sense == Sense.AT_MOST.value
    return found.target / found.ratio if at_most else found.ratio / found.target


def write_json(
    path: Path, head: Mapping[str, Any], rows: Sequence[Row], growth: Mapping[str, Any]
) -> None:
    """Write a run: its head, a list of rows, and the growth of what was measured by size."""
    run = {"head": head, "rows": [asdict(found) for found in rows], "growth": growth}
    path.write_text(json.dumps(run, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(rows: Sequence[Row]) -> Table:
    """The rows for people, each with the spread of its rounds below the medians."""
    shown = Table(title="Ours and the rivals: median (least – most)", show_lines=True)
    for heading in ("row", "ours", "rival", "ratio", "target", "met"):
        shown.add_column(heading, overflow="fold")
    for found in rows:
        target, met = _target(found), {True: "yes", False: "NO", None: ""}[found.met]
        shown.add_row(
            f"[bold]{found.name}[/bold]\n{found.what}",
            f"{number(found.ours)} {found.unit}\n{_spread(found.ours_spread)}",
            f"{number(found.rival)} {found.unit}\n{_spread(found.rival_spread)}\n{found.rival_is}",
            f"{number(found.ratio)}",
            target,
            met,
            style="red" if found.met is False else None,
        )
    return shown


def markdown(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of a Markdown table."""
    lines = [
        "| what | ours | rival | ratio | to reach | met |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for found in rows:
        always = ", `appendfsync always`" if found.name.endswith("-always") else ""
        met = {True: "yes", False: "**no**", None: ""}[found.met]
        lines.append(
            f"| {found.what}{always} | {number(found.ours)} {found.unit} | "
            f"{number(found.rival)}: {found.rival_is} | {number(found.ratio)} "
            f"{found.sense.split(',')[0]} | {_target(found)} | {met} |"
        )
    return lines


def shortfalls(rows: Sequence[Row]) -> list[str]:
    """A sentence for each row that misses its target, and the note that says what limits it."""
    sentences = [
        f"{found.name}: {found.what} is {number(found.ours)} {found.unit} beside "
        f"{number(found.rival)} of {found.rival_is}; that is {number(found.ratio)} "
        f"{found.sense.split(',')[0]}, and should be {_target(found)}. {found.note}".rstrip()
        for found in rows
        if found.met is False
    ]
    return sentences or ["Every target is met."]


def _target(found: Row) -> str:
    if found.target is None:
        return ""
    return f"{found.sense.split(', ')[1]} {found.target:g}"


def _spread(spread: tuple[float, float]) -> str:
    return f"({number(spread[0])} – {number(spread[1])})"


def number(value: float) -> str:
    """Three digits that matter, whatever the size."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
