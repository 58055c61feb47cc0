"""Events of a made shop: nine weeks of fixed days, the same in each run, and those of just now."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pipeline.event.model import Event

FIRST, LAST = date(2025, 2, 17), date(2025, 4, 20)
"""From a Monday to a Sunday."""
COUNT_BY = {"page_view": ["path", "referrer"], "purchase": ["plan"]}
SUM = {"purchase": {"amount": 2}}

_SEED = 17
_USERS = 900
_DAYS = (LAST - FIRST).days + 1
_PATHS = ("/", "/pricing", "/docs", "/docs/install", "/blog/exactly-once", "/about", "/contact")
_REFERRERS = ("google.com", "news.ycombinator.com", "duckduckgo.com", "example.org")
_PLANS = {"free": 0, "pro": 19, "team": 99}
_HOURS = (1, 1, 1, 1, 1, 2, 4, 7, 10, 12, 13, 12, 11, 12, 13, 13, 12, 10, 9, 9, 8, 6, 4, 2)

_Made = tuple[str, str, datetime, dict[str, Any]]


def make_weeks(now: datetime) -> list[Event]:
    """All events of the nine weeks, shuffled; `now` is when they are made."""
    chance = random.Random(_SEED)
    made = [one for number in range(_USERS) for one in _live(chance, f"user-{number}")]
    chance.shuffle(made)
    return [_create(one, now, f"made-{number}") for number, one in enumerate(made)]


def make_latest(now: datetime) -> list[Event]:
    """Events of the last two hours."""
    chance = random.Random(_SEED + 1)
    users = [f"user-{chance.randrange(_USERS)}" for _ in range(240)]
    made = [
        one
        for user in users
        for one in _visit(chance, user, now - timedelta(minutes=120 * chance.random() ** 1.3))
        if one[2] <= now
    ]
    return [_create(one, now) for one in sorted(made, key=lambda one: one[2])]


def _create(one: _Made, now: datetime, event_id: str | None = None) -> Event:
    event_type, user, at, properties = one
    return Event.create(event_type, user, properties, at, event_id, now=now)


def _live(chance: random.Random, user: str) -> Iterator[_Made]:
    """What one user does from the first day on, less often as time goes on."""
    # More join later than sooner, on working days mostly; those of the first days came before.
    joined = int(_DAYS * chance.random() ** 0.8)
    if (FIRST + timedelta(days=joined)).weekday() > 4 and chance.random() < 0.6:
        joined = max(0, joined - 2)
    stays = chance.choice((0.04, 0.08, 0.2, 0.45, 0.6))
    for day in range(joined, _DAYS):
        on = FIRST + timedelta(days=day)
        often = stays * 0.97 ** (day - joined) * (0.55 if on.weekday() > 4 else 1.0)
        if day > joined and chance.random() > often:
            continue
        [hour] = chance.choices(range(24), _HOURS)
        at = datetime(on.year, on.month, on.day, hour, tzinfo=UTC)
        at += timedelta(seconds=chance.randrange(3_000))
        yield from _visit(chance, user, at, is_first=day == joined)


def _visit(
    chance: random.Random, user: str, at: datetime, *, is_first: bool = False
) -> Iterator[_Made]:
    referrer = chance.choices(_REFERRERS, (8, 5, 3, 1))[0]
    for number in range(chance.randrange(1, 6)):
        weights = [1 / (1 + rank) for rank in range(len(_PATHS))]
        [path] = chance.choices(_PATHS, weights)
        properties = {"path": path} | ({} if number else {"referrer": referrer})
        yield "page_view", user, at, properties
        at += timedelta(seconds=chance.randrange(5, 120))
    if chance.random() < 0.2:
        yield "search", user, at, {"words": chance.randrange(1, 5)}
    if is_first and chance.random() < 0.62:
        at += timedelta(seconds=chance.randrange(30, 400))
        yield "signup", user, at, {"plan": "free"}
    if chance.random() < 0.28:
        at += timedelta(seconds=chance.randrange(20, 300))
        yield "add_to_cart", user, at, {}
        if chance.random() < 0.55:
            at += timedelta(seconds=chance.randrange(60, 900))
            [plan] = chance.choices(list(_PLANS), (1, 6, 2))
            amount = round(_PLANS[plan] * chance.uniform(0.8, 3), 2)
            yield "purchase", user, at, {"plan": plan, "amount": amount}
    if chance.random() < 0.1:
        yield "logout", user, at, {}
