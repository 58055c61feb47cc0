"""What a page shows, as its URL says: range, comparison, time zone, filters, step. Pure.

Everything that a viewer chooses is in the URL, so a page can be reloaded, shared and bookmarked. A
parameter that is left out has its default, and is left out of the URLs made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import date, datetime, timedelta
from typing import Any, Literal, cast, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

from pipeline.contract import MAX_EVENT_TYPE_CHARACTERS
from pipeline.days import count_days, parse_day
from pipeline.errors import UnsuitableTimeZone
from pipeline.reading.series.periods import (
    FIRST_DAY,
    LAST_DAY,
    Compared,
    Granularity,
    find_compared_range,
    find_zone,
)
from pipeline.web.errors import InvalidParameter

RangeName = Literal["today", "yesterday", "7d", "28d", "90d", "month", "year", "custom"]
RANGES: dict[RangeName, str] = {
    "today": "Today",
    "yesterday": "Yesterday",
    "7d": "Last 7 days",
    "28d": "Last 28 days",
    "90d": "Last 90 days",
    "month": "This month",
    "year": "This year",
    "custom": "Custom range",
}
COMPARISONS = {
    "previous": "Period before",
    "year": "Year before",
    "weekdays": "Year before, weekdays matched",
    "own": "Days of your own",
    "none": "No comparison",
}
STEPS: dict[Granularity, str] = {
    "quarter_hour": "Quarter hour",
    "hour": "Hour",
    "day": "Day",
    "week": "Week",
    "month": "Month",
}
_MOST_DAYS: dict[Granularity, int] = {
    "quarter_hour": 7,
    "hour": 35,
    "day": 400,
    "week": 1_100,
    "month": 3_660,
}
"""For which a chart by this step can be read: some hundred points."""
_DAYS_OF_RANGE = {"7d": 7, "28d": 28, "90d": 90}
_LONGEST = 1_000
SORTS = ("count", "name", "change")
"""By what a table can be sorted; `-` before it: the other way round."""


@dataclass(frozen=True)
class PageState:
    """What the URL says, checked. Defaults are what is left out of a URL."""

    range: RangeName = "28d"
    first: date | None = None
    last: date | None = None
    """The days of a custom range, both included; None for the others."""
    compare: str = "previous"
    before_first: date | None = None
    before_last: date | None = None
    """The days that an `own` comparison is with, both included."""
    zone: str = "UTC"
    by: Granularity | None = None
    """Step of charts; None: what suits the range."""
    event_type: str = ""
    of_property: str = ""
    value: str = ""
    """A value of the property that is filtered by; empty: none is."""
    measure: str = ""
    """A sum or percentile, such as `sum:purchase:amount` or `p95:request:ms`; empty: the first."""
    search: str = ""
    sort: str = "count"
    page: int = 1
    """Of tables with several pages, from 1."""

    @property
    def tz(self) -> ZoneInfo:
        """The time zone, which exists."""
        return ZoneInfo(self.zone)

    def days(self, now: datetime) -> tuple[date, date]:
        """The first and the last day of the range, in the zone. `now` is aware."""
        if self.first is not None and self.last is not None:
            return self.first, self.last
        today = now.astimezone(self.tz).date()
        match self.range:
            case "yesterday":
                today -= timedelta(days=1)
                return today, today
            case "month":
                return today.replace(day=1), today
            case "year":
                return today.replace(month=1, day=1), today
        return today - timedelta(days=_DAYS_OF_RANGE.get(self.range, 1) - 1), today

    def compared_days(self, now: datetime) -> tuple[date, date] | None:
        """The days that the range is compared with; None without a comparison."""
        if self.before_first is not None and self.before_last is not None:
            return self.before_first, self.before_last
        if self.compared is None:
            return None
        return find_compared_range(*self.days(now), self.compared)

    @property
    def compared(self) -> Compared | None:
        """The comparison, as series are asked for it; None for none, and for one of its own."""
        return None if self.compare in ("none", "own") else cast("Compared", self.compare)

    def step(self, now: datetime) -> Granularity:
        """The step of charts."""
        days = count_days(*self.days(now))
        if self.by is not None:
            return self.by
        return "hour" if days <= 2 else "day" if days <= 92 else "week" if days <= 800 else "month"

    def list_steps(self, now: datetime) -> dict[Granularity, str]:
        """The steps that suit the range, with their names for people."""
        days = count_days(*self.days(now))
        # Values of properties are counted by day.
        steps = list(STEPS.items())[2 if self.value else 0 :]
        return {step: name for step, name in steps if _suits(step, days)}

    def find_cut(self, now: datetime, step: Granularity) -> tuple[bool, bool]:
        """Whether the range has a part only of its first week or month, and of its last."""
        first, last = self.days(now)
        after = last + timedelta(days=1)
        if step == "week":
            return first.weekday() > 0, after.weekday() > 0
        return (first.day > 1, after.day > 1) if step == "month" else (False, False)

    @property
    def compared_title(self) -> str:
        """What the comparison is called beside a chart."""
        return COMPARISONS[self.compare]

    def change(self, **changes: Any) -> PageState:
        """The state with other values. A new range has its own step, a new filter begins at the
        first page."""
        if {"range", "first", "last"} & changes.keys():
            changes = {"by": None, "first": None, "last": None, **changes}
        if "compare" in changes:
            changes = {"before_first": None, "before_last": None, **changes}
        if changes.keys() - {"page"}:
            changes = {"page": 1, **changes}
        return replace(self, **changes)

    def list_parameters(self, leave_out: Iterable[str] = ()) -> list[tuple[str, str]]:
        """The parameters of a URL for this state, by their names there; also the hidden fields of a
        form that changes those to be left out."""
        default, without = asdict(PageState()), {_IN_URL.get(name, name) for name in leave_out}
        return [
            (_IN_URL.get(name, name), str(value))
            for name, value in asdict(self).items()
            if value != default[name] and _IN_URL.get(name, name) not in without
        ]

    def url(self, path: str, own: Mapping[str, str] | None = None, **changes: Any) -> str:
        """The URL of a page with this state and these changes; `own` are the page's own parameters,
        of which empty ones are left out."""
        parameters = self.change(**changes).list_parameters() if changes else self.list_parameters()
        parameters += [(name, value) for name, value in (own or {}).items() if value]
        return f"{path}?{urlencode(parameters)}" if parameters else path


_IN_URL = {
    "first": "from",
    "last": "to",
    "before_first": "before_from",
    "before_last": "before_to",
    "event_type": "type",
    "of_property": "property",
}
"""Names of fields that are others in a URL."""
_NAMES = [_IN_URL.get(one.name, one.name) for one in fields(PageState)]


def parse_state(
    parameters: Mapping[str, str], now: datetime, also: Iterable[str] = ()
) -> PageState:
    """The state of a URL. `also` are parameters that a page reads itself.

    Raises `InvalidParameter`, which says which parameter is wrong and what may stand there.
    """
    for name in parameters:
        if name not in _NAMES and name not in also:
            raise InvalidParameter(name[:80], f"there is no such parameter; use {_list(_NAMES)}")
    given = {name: text.strip() for name, text in parameters.items() if text.strip()}
    first, last = _parse_days(given, "from", "to")
    before = _parse_days(given, "before_from", "before_to")
    found = PageState(
        range="custom" if first else _choose(given, "range", get_args(RangeName), "28d"),
        first=first,
        last=last,
        compare="own" if before[0] else _choose(given, "compare", COMPARISONS, "previous"),
        before_first=before[0],
        before_last=before[1],
        zone=_parse_zone(given),
        by=_choose(given, "by", STEPS, None),
        event_type=_parse_text(given, "type", MAX_EVENT_TYPE_CHARACTERS),
        of_property=_parse_text(given, "property"),
        value=_parse_text(given, "value"),
        measure=_parse_measure(given),
        search=_parse_text(given, "search", 200),
        sort=_choose(given, "sort", [*SORTS, *(f"-{one}" for one in SORTS)], "count"),
        page=_parse_page(given),
    )
    _check_together(found, now)
    return found


def _check_together(found: PageState, now: datetime) -> None:
    if found.range == "custom" and found.first is None:
        raise InvalidParameter("from", "a custom range needs from and to: give both days")
    if found.compare == "own" and found.before_first is None:
        raise InvalidParameter("before_from", "an own comparison needs before_from and before_to")
    if found.value and not (found.of_property and found.event_type):
        raise InvalidParameter("value", "needs the type and the property that it is a value of")
    days = count_days(*found.days(now))
    if found.by is not None and not _suits(found.by, days):
        fit = _list(STEPS[step].lower() for step in found.list_steps(now))
        raise InvalidParameter(
            "by", f"{days} days by {STEPS[found.by].lower()} do not fit a chart; use {fit}"
        )
    try:
        before = found.compared_days(now)
    except OverflowError as error:
        raise InvalidParameter("compare", "the calendar has no period before that") from error
    step = found.step(now)
    if before and (days := count_days(*before)) > (most := _MOST_DAYS[step]):
        raise InvalidParameter(
            "before_from",
            f"{days} days by {STEPS[step].lower()} do not fit a chart; compare at most {most}, or "
            "choose another step",
        )


def _suits(step: Granularity, days: int) -> bool:
    least = {"week": 7, "month": 28}.get(step, 1)
    return least <= days <= _MOST_DAYS[step]


def _choose(
    given: Mapping[str, str], name: str, choices: Iterable[str], otherwise: str | None
) -> Any:
    text = given.get(name, otherwise)
    if text is not None and text not in choices:
        raise InvalidParameter(name, f"{text[:80]!r} is not known; use {_list(choices)}")
    return text


def _parse_days(given: Mapping[str, str], *names: str) -> tuple[date | None, date | None]:
    if not set(names) & given.keys():
        return None, None
    first, last = (_parse_day(given, name) for name in names)
    if first > last:
        raise InvalidParameter(names[0], f"{first} is after {last}; give the earlier day first")
    most = max(_MOST_DAYS.values())
    if count_days(first, last) > most:
        raise InvalidParameter(names[0], f"{first} is too long ago; at most {most} days are shown")
    return first, last


def _parse_day(given: Mapping[str, str], name: str) -> date:
    text = given.get(name, "")
    try:
        day = parse_day(text)
    except ValueError as error:
        said = f"{text[:80]!r} is not a day" if text else "is missing"
        raise InvalidParameter(name, f"{said}; write it as YYYY-MM-DD") from error
    if not FIRST_DAY + timedelta(days=800) <= day <= LAST_DAY:
        raise InvalidParameter(name, f"{day} is out of bounds")
    return day


def _parse_zone(given: Mapping[str, str]) -> str:
    try:
        return find_zone(given.get("zone", "UTC")).key
    except UnsuitableTimeZone as error:
        raise InvalidParameter("zone", str(error)) from error


def _parse_text(given: Mapping[str, str], name: str, longest: int = _LONGEST) -> str:
    text = given.get(name, "")
    if len(text) > longest or "\x00" in text:
        raise InvalidParameter(name, f"give at most {longest} characters, and no NUL")
    return text


def _parse_measure(given: Mapping[str, str]) -> str:
    text = _parse_text(given, "measure")
    if text and (text.count(":") < 2 or text.partition(":")[0] not in ("sum", *PERCENTILES)):
        raise InvalidParameter(
            "measure",
            f"{text[:80]!r} is no measure; write sum:TYPE:PROPERTY or p95:TYPE:PROPERTY "
            f"({_list(PERCENTILES)})",
        )
    return text


PERCENTILES = {"p50": 50, "p75": 75, "p90": 90, "p95": 95, "p99": 99}


def _parse_page(given: Mapping[str, str]) -> int:
    text = given.get("page", "1")
    if not (re.fullmatch("[0-9]{1,6}", text) and 1 <= int(text) <= 100_000):
        raise InvalidParameter("page", f"{text[:80]!r} is no number of a page; begin with 1")
    return int(text)


def _list(choices: Iterable[str]) -> str:
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last
