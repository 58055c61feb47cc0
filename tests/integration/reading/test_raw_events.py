"""Raw events by condition, page by page, and the newest of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.errors import InvalidCondition
from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, read_newest, read_page, stream_events
from pipeline.reading.conditions.events import filter_properties
from pipeline.reading.raw.newest import NewestEvents
from pipeline.reading.raw.pages import read_archived, read_newest_archived
from pipeline.services import Services
from tests.helpers.support import NOW, count_events, event

PLANS = ["pro", "team", "p\x01o", None, 12, True, 12.5, {"a": 1}]
"""The third is one that Postgres does not take apart."""


@pytest.fixture
def archived(services: Services) -> list[Event]:
    """Events in the archive, newest first."""
    events = [
        event(
            "sale",
            f"u{n % 3}",
            properties=None if n % 9 == 8 else {"plan": PLANS[n % 8], "n": n},
            timestamp=NOW - timedelta(minutes=n),
        )
        for n in range(60)
    ]
    count_events(services, *events)
    services.archive_events()
    return events


CONDITIONS = [
    'plan = "pro"',
    "plan = 12",
    "n >= 10 and n < 20",
    'plan in ("pro", "team") or not n exists',
    "not plan exists",
    'plan = "p\x01o" and n > 5',
    'plan contains "o"',
    "plan = true",
]


@pytest.mark.parametrize("where", CONDITIONS)
def test_a_condition_lets_the_same_events_through_everywhere(
    services: Services, archived: list[Event], where: str
) -> None:
    wanted = EventFilter("sale", where=filter_properties(where))
    expected = [one for one in archived if wanted.matches(one)]
    assert expected
    assert len(expected) < len(archived)
    assert read_newest(services.engine, wanted, 100) == expected
    assert read_newest(services.engine, wanted, 2) == expected[:2]
    assert [one for some in stream_events(services.engine, wanted) for one in some] == expected[
        ::-1
    ]
    assert list(read_newest_archived(services.engine, wanted, 100)) == expected
    pages, after = [], None
    while True:
        page, after = read_page(services.engine, wanted, 4, after)
        pages += page
        if after is None:
            break
    assert pages == expected


def test_a_wrong_condition_says_where(services: Services) -> None:
    with pytest.raises(InvalidCondition, match="character 8"):
        filter_properties("plan = pro")


def test_a_page_says_as_of_which_archive_run(services: Services, archived: list[Event]) -> None:
    before = datetime.now(UTC)
    page = read_archived(services.engine, EventFilter(), 10)
    assert page.events == archived[:10]
    assert page.last is not None
    assert page.as_of is not None
    assert abs(page.as_of - before) < timedelta(minutes=5)


# The newest


def _follow(services: Services, limit: int = 5) -> NewestEvents:
    return NewestEvents(services.redis, services.keys, services.counters.options, limit)


def _now(event_type: str, user_id: str | None = None, **properties: Any) -> Event:
    return Event.create(event_type, user_id, now=datetime.now(UTC), properties=properties or None)


def test_the_newest_are_those_of_the_log_above_those_of_the_archive(
    services: Services, archived: list[Event]
) -> None:
    newest = _follow(services)
    waiting = [_now("click", "u1", n=1), _now("click", "u2", n=2)]
    count_events(services, *waiting)
    assert newest.read(services.engine) == [*waiting[::-1], *archived[:3]]


def test_what_comes_is_added_once_in_the_order_of_the_log(services: Services) -> None:
    newest = _follow(services)
    assert newest.read(services.engine) == []
    first, second, late = _now("a"), _now("b"), event("c", timestamp=NOW - timedelta(days=1))
    count_events(services, first)
    assert newest.read(services.engine) == [first]
    count_events(services, second)
    count_events(services, late)
    assert newest.read(services.engine) == [late, second, first]
    services.archive_events()
    assert newest.read(services.engine) == [late, second, first]
    assert _follow(services).read(services.engine) == [second, first, late]


def test_of_a_flood_the_newest_are_kept(services: Services) -> None:
    newest = _follow(services)
    newest.read(services.engine)
    for n in range(4):
        count_events(services, *[_now("flood", n=10 * n + one) for one in range(10)])
    found = newest.read(services.engine)
    assert [one.properties for one in found] == [{"n": n} for n in range(39, 34, -1)]


def test_an_erased_user_is_not_among_them(services: Services) -> None:
    newest = _follow(services)
    gone, stays = _now("a", "gone"), _now("a", "stays")
    count_events(services, gone, stays)
    assert newest.read(services.engine) == [stays, gone]
    services.erase_user("gone")
    assert newest.read(services.engine) == [stays]
