"""Every measure of some days, as readers get it, and as an account of the events has it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipeline.event.model import Event
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.reading.series.reader import SeriesRequest
from pipeline.services import Services
from tests.chaos.checks.amounts import find_bin

COUNT_BY = {"sale": ["plan"]}
SUM = {"sale": {"total": 2}}
KOLKATA = "Asia/Kolkata"
_HALF = Decimal("0.005")

Measures = dict[str, Any]


def read_live(services: Services, first: date, last: date) -> Measures:
    """What is exact at any moment, of `sale` and `page_view`."""
    stats = services.stats
    sums, days = stats.sums, (first, last)
    found: Measures = {}
    for name in ("sale", "page_view"):
        found |= {
            f"events of {name}": stats.count(name, *days),
            f"quarter hours of {name}": dict(stats.quarter_counts(name, *days).quarters),
        }
    request = SeriesRequest("sale", *days, "quarter_hour", KOLKATA)
    [series] = stats.read_series(request)
    return found | {
        "quarter hours of Kolkata": {at: n for at, n in series.points if n},
        "sums": {
            at: (one.sum, one.count, one.not_numbers)
            for at, one in sums.read_quarter_sums("sale", "total", *days).items()
        },
        "sums by value": {
            value: (one.sum, one.count)
            for value, one in sums.read_value_sums(("sale", "total", "plan"), *days).items()
        },
        "bins": dict(sums.read_distribution("sale", "total", *days).bins),
    }


def read_stored(services: Services, first: date, last: date) -> Measures:
    """What is exact as of the last flush: users and rankings."""
    stats, days = services.stats, (first, last)
    found: Measures = {}
    for types in ((), ("sale",), ("sale", "page_view")):
        users = stats.users(types, *days)
        found[f"users of {types}"] = users.users, users.new
    cohorts = stats.retention("page_view", "sale", "day", *days).cohorts
    found["retention"] = [(one.users, list(one.returned)) for one in cohorts]
    found["values"] = dict(stats.top("sale", "plan", *days).top)
    return found


def read_archived(services: Services, first: date, last: date) -> Measures:
    """What is exact as of the last archive run: a funnel."""
    steps = services.stats.funnel(FunnelQuestion(("page_view", "sale"), first, last, "1d")).steps
    return {"funnel": [step.users for step in steps]}


def expect_live(events: Sequence[Event], first: date, last: date) -> Measures:
    """What `read_live` must give."""
    found: Measures = {}
    for name in ("sale", "page_view"):
        of_type = [one.timestamp for one in _within(events, name, first, last)]
        found[f"events of {name}"] = len(of_type)
        found[f"quarter hours of {name}"] = dict(Counter(map(_begin_quarter, of_type)))
    there = [
        one.timestamp.astimezone(ZoneInfo(KOLKATA)) for one in events if one.event_type == "sale"
    ]
    there = [at for at in there if first <= at.date() <= last]
    sums: defaultdict[datetime, list[Any]] = defaultdict(lambda: [Decimal(), 0, 0])
    by_value: defaultdict[str, list[Any]] = defaultdict(lambda: [Decimal(), 0])
    bins: Counter[int] = Counter()
    for one in _within(events, "sale", first, last):
        properties = one.properties or {}
        number = _read_number(properties["total"])
        of_quarter = sums[_begin_quarter(one.timestamp)]
        if number is None:
            of_quarter[2] += 1
            continue
        for of in (of_quarter, by_value[properties["plan"]]):
            of[0] += number
            of[1] += 1
        scaled = int(number * 100)
        bins[(1 if scaled > 0 else -1) * find_bin(abs(scaled)) if scaled else 0] += 1
    return found | {
        "quarter hours of Kolkata": dict(Counter(_begin_quarter(at).isoformat() for at in there)),
        "sums": {at: tuple(one) for at, one in sums.items()},
        "sums by value": {value: tuple(one) for value, one in by_value.items()},
        "bins": dict(bins),
    }


def expect_stored(events: Sequence[Event], first: date, last: date) -> Measures:
    """What `read_stored` must give."""
    found: Measures = {}
    for types in ((), ("sale",), ("sale", "page_view")):
        seen = [
            (one.timestamp.date(), one.user_id)
            for one in events
            if one.user_id and (not types or one.event_type in types)
        ]
        users = {user for day, user in seen if first <= day <= last}
        new = users - {user for day, user in seen if day < first}
        found[f"users of {types}"] = len(users), len(new)
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    did = {
        (name, day): {one.user_id for one in _within(events, name, day, day) if one.user_id}
        for name in ("page_view", "sale")
        for day in days
    }
    found["retention"] = [
        (
            len(did["page_view", day]),
            [len(did["page_view", day] & did["sale", later]) for later in days[at:]],
        )
        for at, day in enumerate(days)
    ]
    plans = [(one.properties or {})["plan"] for one in _within(events, "sale", first, last)]
    found["values"] = dict(Counter(plans))
    return found


def expect_archived(events: Sequence[Event], first: date, last: date) -> Measures:
    """What `read_archived` must give, by trying every pair of events."""
    began = [one for one in _within(events, "page_view", first, last) if one.user_id]
    went_on = {
        one.user_id
        for one in began
        for other in events
        if other.event_type == "sale"
        and other.user_id == one.user_id
        and timedelta(0) < other.timestamp - one.timestamp <= timedelta(days=1)
    }
    return {"funnel": [len({one.user_id for one in began}), len(went_on)]}


def _within(events: Sequence[Event], name: str, first: date, last: date) -> list[Event]:
    return [
        one for one in events if one.event_type == name and first <= one.timestamp.date() <= last
    ]


def _begin_quarter(at: datetime) -> datetime:
    return at.replace(minute=at.minute // 15 * 15, second=0, microsecond=0)


def _read_number(value: object) -> Decimal | None:
    """To the hundredth, halves away from zero; None for what is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        return None
    away = number + (_HALF if number >= 0 else -_HALF)
    return Decimal(int(away * 100)) / 100


def make_events(days: Sequence[date], count: int = 60) -> list[Event]:
    """Sales and page views of these days, with totals of every kind."""
    totals = (12.5, "7.25", -3, "x", None, 10**12, 0.1, "0.005", True, 0, -0.015, 99.999)
    events: list[Event] = []
    for n in range(count):
        at = datetime.combine(days[n % len(days)], datetime.min.time(), UTC)
        at += timedelta(minutes=(n * 137) % 1_440, seconds=n)
        user = f"user {n * 7 % 9}" if n % 6 else None
        if n % 3 == 0:
            events.append(Event("page_view", at, user, {"path": f"/{n % 4}"}))
        else:
            properties = {"total": totals[n % len(totals)], "plan": ("pro", "free")[n % 2]}
            events.append(Event("sale", at, user, properties))
    return events
