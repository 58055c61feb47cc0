"""Which event types there are: the largest first, exact, and never all at once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from pipeline.event.model import Event
from pipeline.reading.stats import keep_largest
from pipeline.reading.totals import MOST_TYPES
from pipeline.services import Services
from tests.helpers.support import count_events

CLOCK = datetime.now(UTC)
TODAY = CLOCK.date()
DAY = timedelta(days=1)


def of(event_type: str, n: int = 1, at: datetime = CLOCK) -> list[Event]:
    return [Event(event_type, at) for _ in range(n)]


@pytest.fixture
def counted(services: Services) -> Services:
    """Types whose events are stored, claimed and live."""
    count_events(services, *of("a", 3), *of("b", 5, CLOCK - 3 * DAY), *of("c", 1))
    services.flush()
    count_events(services, *of("a", 4), *of("d", 2, CLOCK - DAY))
    services.claims.claim("open", 100, (0, 0))
    count_events(services, *of("a", 1), *of("e", 1))
    return services


def test_types_are_listed_by_the_largest_and_exactly(counted: Services) -> None:
    found, how_many = counted.list_types(TODAY, 3)
    assert how_many == 5
    assert [(one.event_type, one.today, one.total, one.unstored) for one in found] == [
        ("a", 8, 8, 5),
        ("b", 0, 5, 0),
        ("d", 0, 2, 2),
    ]
    assert (found[1].first_day, found[1].last_day) == (TODAY - 3 * DAY, TODAY - 3 * DAY)
    count_events(counted, *of("b"))
    [_, b, *_] = counted.list_types(TODAY, 5)[0]
    assert (b.first_day, b.last_day, b.today, b.total) == (TODAY - 3 * DAY, TODAY, 1, 6)


def test_the_largest_of_a_day_are_counted_exactly(counted: Services) -> None:
    assert counted.types.count_largest(TODAY, 2) == {"a": 8, "e": 1}
    assert counted.types.count_largest(TODAY, 1, {"c", "never"}) == {"a": 8, "c": 1, "never": 0}


def test_types_that_the_books_have_forgotten_are_found(counted: Services) -> None:
    counted.redis.delete(counted.keys.totals)
    assert counted.types.count_largest(TODAY, 9) == {"a": 8, "c": 1, "e": 1}


def test_the_status_shows_a_bounded_number_of_types(services: Services) -> None:
    rows = {f"counted:t{n}": n for n in range(2_000)} | {f"consumed:t{n}": n for n in range(2_000)}
    services.redis.hset(services.keys.totals, mapping=rows)
    books = services.status()["books"]
    assert (len(books["by_type"]), books["types"]) == (MOST_TYPES, 2_000)
    assert list(books["by_type"])[:2] == ["t1999", "t1998"]


def test_of_the_types_of_a_user_the_largest_are_kept() -> None:
    counts = {f"t{n}": {TODAY: n, TODAY - DAY: 1} for n in range(5)}
    kept, more = keep_largest(counts, 2)
    assert (list(kept), more) == (["t3", "t4"], 3)
    assert keep_largest(counts)[1] == 0


def test_the_command_lists_types(counted: Services, analytics: Any) -> None:
    code, out, _ = analytics("types", "--limit", "2", "--json")
    found = json.loads(out)
    assert (code, found["more"]) == (0, 3)
    assert [one["event_type"] for one in found["types"]] == ["a", "b"]
    _, out, _ = analytics("types", "--limit", "2")
    assert "3 more" in out


def test_the_status_command_shows_the_largest_types_and_says_how_many_more(
    services: Services, redis_url: str, analytics: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.cli.commands.operating._PING_TIMEOUT_S", 0.01)
    # That of workers belongs to a whole process.
    app = Celery(broker=redis_url, set_as_current=False)
    monkeypatch.setattr("pipeline.cli.commands.operating.load_celery_app", lambda: app)
    rows = {f"counted:t{n}": n for n in range(300)} | {f"consumed:t{n}": n for n in range(300)}
    services.redis.hset(services.keys.totals, mapping=rows)
    code, out, err = analytics("status")
    assert code == 3, err  # no worker runs
    assert "t299" in out
    assert "t279" not in out
    assert "280 more types" in out
    assert len(out.splitlines()) < 100
    app.close()
