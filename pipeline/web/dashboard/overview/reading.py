"""The numbers of the overview: what happened in the range and in the one it is compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Literal

from pipeline.reading.people.users import UserSeries
from pipeline.reading.series.periods import Granularity
from pipeline.reading.series.reader import CountedPeriod, SeriesRequest
from pipeline.web.dashboard.page import Asked, Sources

_STEP_OF_USERS: dict[Granularity, Literal["day", "week", "month"]] = {
    "week": "week",
    "month": "month",
}


@dataclass(frozen=True)
class Events:
    """Events in the range, and in the one before it where there is one."""

    now: CountedPeriod
    before: CountedPeriod | None
    types: Mapping[str, int]
    """Of the range, those of most events first; of all types, whatever is filtered."""
    types_before: Mapping[str, int]
    step: Granularity
    today: date
    is_by_day_of_utc: bool = False
    """Whether days are those of UTC, though another zone was asked for."""

    def count_before(self, now: datetime) -> int | None:
        """Events before, up to the same hour where the range has hours to come, and to the same day
        where it has days: a morning compared with a whole day would always be down."""
        if self.before is None:
            return None
        begun = sum(n is not None for _, n in self.list_points(now))
        is_whole = begun == len(self.now.points)
        return self.before.count if is_whole else sum(n for _, n in self.before.points[:begun])

    def note(self, now: datetime) -> str:
        """What the comparison leaves out."""
        if self.before is None:
            return ""
        if any(n is None for _, n in self.list_points(now)):
            return "up to the same hour" if self.step in ("quarter_hour", "hour") else "until then"
        is_short = self.now.last - self.now.first < timedelta(days=2)
        return "from whole days" if is_short and self.now.last >= self.today else ""

    def list_points(self, now: datetime) -> Sequence[tuple[str, float | None]]:
        """The points; those to come are None and not 0, unless clients are ahead of time."""
        points = self.now.points
        shown = [n for n, (at, count) in enumerate(points) if count or self._has_begun(at, now)]
        to_come = max(shown, default=-1) + 1
        return [*points[:to_come], *((at, None) for at, _ in points[to_come:])]

    def _has_begun(self, at: str, now: datetime) -> bool:
        if "T" in at:
            return datetime.fromisoformat(at) <= now
        return date.fromisoformat(at) <= self.today


def read_events(sources: Sources, asked: Asked) -> Events:
    """Exact and live. Types and the points of all are of one instant."""
    state, now = asked.state, asked.now
    days, step = state.days(now), state.step(now)
    before = state.compared_days(now)
    ranges = [days] if before is None else [before, days]
    all_types = sources.stats.read_all_types(ranges, step, state.zone)
    types = all_types.types[-1]
    types_before = all_types.types[0] if before else {}
    if not state.event_type:
        found = all_types.periods
    elif state.value:
        return _read_value(sources, asked, types, types_before)
    else:
        wanted = SeriesRequest(state.event_type, *days, step, state.zone, state.compared)
        found = sources.stats.read_series(wanted)
        if before is not None and state.compared is None:
            own = SeriesRequest(state.event_type, *before, step, state.zone)
            found = [*sources.stats.read_series(own), *found]
    today = now.astimezone(state.tz).date()
    return Events(found[-1], found[0] if before else None, types, types_before, step, today)


def _read_value(
    sources: Sources, asked: Asked, types: Mapping[str, int], types_before: Mapping[str, int]
) -> Events:
    """Events with a value of a counted property: by day of UTC, as those are counted."""
    state = asked.state
    wanted = state.step(asked.now)
    step: Granularity = wanted if wanted in ("week", "month") else "day"

    def read(days: tuple[date, date]) -> CountedPeriod:
        of_days = sources.stats.property_counts(
            state.event_type, state.of_property, state.value, *days
        )
        return CountedPeriod(*days, _join_days(of_days, step))

    before = state.compared_days(asked.now)
    return Events(
        read(state.days(asked.now)),
        read(before) if before else None,
        types,
        types_before,
        step,
        asked.now.date(),
        is_by_day_of_utc=True,
    )


def _join_days(days: Sequence[tuple[date, int]], step: Granularity) -> list[tuple[str, int]]:
    """The points of longer steps, named as series name them."""
    points: dict[date, int] = {}
    for day, n in days:
        begin = day
        if step == "week":
            begin = date.fromordinal(day.toordinal() - day.weekday())
        elif step == "month":
            begin = day.replace(day=1)
        points[begin] = points.get(begin, 0) + n
    return [(at.isoformat(), n) for at, n in points.items()]


def read_types(sources: Sources, asked: Asked) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The events of each type in the range, and in the one before it; exact and live."""
    days, before = asked.state.days(asked.now), asked.state.compared_days(asked.now)
    ranges = [days] if before is None else [before, days]
    found = sources.stats.read_all_types(ranges, "month", asked.state.zone).types
    return found[-1], found[0] if before else {}


def read_users(sources: Sources, asked: Asked) -> tuple[UserSeries, UserSeries | None]:
    """Users in the range and before, of UTC days, as of the last flush."""
    state, now = asked.state, asked.now
    types = [state.event_type] if state.event_type else []
    step = _STEP_OF_USERS.get(state.step(now), "day")
    before = state.compared_days(now)
    return (
        sources.stats.users_by(types, *state.days(now), step),
        sources.stats.users_by(types, *before, step) if before else None,
    )


def is_unfinished(asked: Asked, last: date) -> bool:
    """Whether a range ends with a stretch of time that goes on."""
    return last >= asked.now.astimezone(asked.state.tz).date()
