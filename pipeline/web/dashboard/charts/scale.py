"""Axes: round numbers at the side, and round times below, in the time zone of the points. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from math import floor, log10
from zoneinfo import ZoneInfo

_ROUND = (1, 2, 2.5, 5, 10)


def list_ticks(largest: float, most: int = 4, *, whole: bool = True) -> list[float]:
    """Round numbers from 0 to at least `largest`, at most `most` steps of the same size. `whole`:
    of what is counted, so that no step is below 1."""
    if largest <= 0:
        return [0, 1]
    least = largest / most
    power = 10.0 ** floor(log10(least))
    step = next(one * power for one in _ROUND if one * power >= least * (1 - 1e-9))
    if whole:
        step = max(1, step if step % 1 == 0 else float(floor(step) + 1))
    ticks = [0.0]
    while ticks[-1] < largest * (1 - 1e-9):
        ticks.append(round(ticks[-1] + step, 12))
    return ticks


@dataclass(frozen=True)
class TimeTick:
    """A point that has its time below the axis."""

    position: int
    label: str


Moment = datetime | date
_Rule = tuple[Callable[[Moment], bool], Callable[[Moment], str]]


def find_moment(at: str, tz: ZoneInfo) -> Moment:
    """When a point of a series begins, of its name there: a day, or a time of the zone."""
    return datetime.fromisoformat(at).astimezone(tz) if "T" in at else date.fromisoformat(at)


def list_time_ticks(moments: Sequence[Moment], most: int) -> list[TimeTick]:
    """The times that are written below an axis, at most so many: whole hours, days, Mondays or
    firsts of a month, whichever there is room for."""
    for is_round, label in _RULES:
        ticks = [TimeTick(n, label(at)) for n, at in enumerate(moments) if is_round(at)]
        if len(ticks) > 1 and len(ticks) <= most:
            return ticks
    step = -(-len(moments) // most) or 1
    return [TimeTick(n, _day(moments[n])) for n in range(0, len(moments), step)]


def _hours(step: int) -> _Rule:
    return (
        lambda at: isinstance(at, datetime) and at.minute == 0 and at.hour % step == 0,
        _time,
    )


def _time(at: Moment) -> str:
    return f"{at:%H:%M}"


def _day(at: Moment) -> str:
    return f"{at.day} {at:%b}"


def _month(at: Moment) -> str:
    return f"{at:%b}" if at.month > 1 else f"{at.year}"


def _begins_day(at: Moment) -> bool:
    return not isinstance(at, datetime) or (at.hour, at.minute) == (0, 0)


def _months(step: int) -> _Rule:
    return (
        lambda at: _begins_day(at) and at.day == 1 and (at.month - 1) % step == 0,
        _month,
    )


_RULES: list[_Rule] = [
    *(_hours(step) for step in (1, 2, 3, 6)),
    (_begins_day, _day),
    (lambda at: _begins_day(at) and at.weekday() == 0, _day),
    (lambda at: _begins_day(at) and at.weekday() == 0 and at.toordinal() % 14 == 1, _day),
    *(_months(step) for step in (1, 2, 3, 6, 12)),
]
