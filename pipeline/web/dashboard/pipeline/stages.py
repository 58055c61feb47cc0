"""The stages for people: their names, what they count, and how they were of late. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from pipeline.upkeep.condition.history import Stretches
from pipeline.web.dashboard.formats import MINUS, NOTHING, format_number, format_short
from pipeline.web.pipeline_status import Stage

_TITLES = {
    "published": "Published",
    "queued": "Queued",
    "worked_on": "Being worked on",
    "counted": "Counted",
    "pending": "Pending",
    "stored": "Stored",
    "event_log": "Event log",
    "archived": "Archived",
}
_OF_LEDGERS = ("stored", "archived")
_EACH_AS_TABLE = 12


@dataclass(frozen=True)
class Shown:
    """A stage as it is shown."""

    title: str
    number: str
    exact: str
    rate: str
    of_late: str
    """A sentence for the line beside it."""
    values: Sequence[float]


@dataclass(frozen=True)
class Table:
    """What the lines show, as text."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def show_stage(stage: Stage, over: str) -> Shown:
    """A stage, with how it was over the last "hour" or "day"."""
    unit = stage.unit if stage.number != 1 else stage.unit.removesuffix("s")
    when = f" in the last {over}" if stage.name in _OF_LEDGERS else ""
    known = [value for value in stage.values if value is not None]
    if not known:
        of_late = f"The last {over} is not known."
    elif stage.is_total:
        of_late = f"{format_number(sum(known))} in the last {over}."
    else:
        of_late = f"At most {format_number(max(known))} in the last {over}."
    exact = NOTHING if stage.number is None else f"{format_number(stage.number)} {unit}{when}"
    return Shown(
        _TITLES[stage.name],
        format_short(stage.number),
        exact,
        _show_rate(stage),
        of_late,
        _draw_known(stage.values),
    )


def _draw_known(values: Sequence[float | None]) -> list[float]:
    """Up to the last that is known; gaps as 0."""
    known = [position for position, value in enumerate(values) if value is not None]
    return [value or 0 for value in values[: known[-1] + 1]] if known else []


def _show_rate(stage: Stage) -> str:
    rate = stage.rate_per_s
    if rate is None:
        return "rate not known"
    if not rate and not stage.is_total:
        return "no change"
    sign = "" if stage.is_total else "+" if rate > 0 else MINUS
    size = abs(rate)
    if size and size < 0.1:
        return (
            f"{sign}{format_number(round(size * 60, 1)) if size * 60 >= 0.1 else '<0.1'} a minute"
        )
    return f"{sign}{format_short(round(size, 1) if size < 10 else round(size))} a second"


def make_table(stages: Sequence[Stage], stretches: Stretches, tz: ZoneInfo) -> Table:
    """The stages over time, in a dozen rows: sums of what passed, and the most that waited."""
    at_once = stretches.number // _EACH_AS_TABLE
    rows = []
    for first in range(0, stretches.number, at_once):
        begin_s = stretches.begin_s + first * stretches.each_s
        at = datetime.fromtimestamp(begin_s, UTC).astimezone(tz)
        cells = [_join(stage, first, at_once) for stage in stages]
        rows.append([f"{at:%H:%M}", *(format_number(cell) for cell in cells)])
    return Table(["From", *(_TITLES[stage.name] for stage in stages)], rows)


def _join(stage: Stage, first: int, at_once: int) -> float | None:
    known = [value for value in stage.values[first : first + at_once] if value is not None]
    if not known:
        return None
    return sum(known) if stage.is_total else max(known)
