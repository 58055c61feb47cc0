"""A Postgres that is read-only for a while, as after a failover: nothing is lost, what holds the
flush up is said, and the next flush after it succeeds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import ServerUnavailable
from pipeline.postgres.engine import Reader, postgres_engine
from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.helpers.support import NOW, TODAY, count_events, event, execute, rows, stored_total

QUESTION = BreakdownQuestion("page_view", TODAY, TODAY)


@contextmanager
def read_only(services: Services, url: str) -> Iterator[None]:
    """New sessions of the database are read-only, and so are those that were opened then."""
    set_read_only(services, url, "on")
    try:
        yield
    finally:
        set_read_only(services, url, "off")


def set_read_only(services: Services, url: str, value: str) -> None:
    admin = postgres_engine(url)
    with admin.begin() as connection:
        connection.execute(text("SET TRANSACTION READ WRITE"))
        database = services.engine.url.database
        connection.execute(
            text(f"ALTER DATABASE {database} SET default_transaction_read_only = {value}")
        )
    admin.dispose()


def fill_pool(services: Services) -> None:
    """Connections of a time at which they are read-only."""
    services.engine.dispose()
    with services.engine.connect() as one, services.engine.connect() as other:
        for connection in (one, other):
            assert connection.execute(text("SHOW transaction_read_only")).scalar() == "on"


def assert_nothing_left(services: Services) -> None:
    status = services.status()
    assert (status["pending_counters"], status["inflight_batches"]) == (0, 0)
    assert dead_letters.list_stored(services.engine) == []


def test_a_flush_after_the_pool_was_read_only_succeeds(
    services: Services, postgres_url: str
) -> None:
    count_events(services, event(user_id="u1"))
    with read_only(services, postgres_url):
        fill_pool(services)
        for _ in range(3):
            with pytest.raises(ServerUnavailable, match=r"takes no changes .*primary"):
                services.flush()
        fill_pool(services)
        assert services.claims.pending() == 3, "nothing is claimed that cannot be stored"
        assert services.stats.daily_count("page_view", TODAY) == 1
    with pytest.raises(ServerUnavailable):
        services.flush()
    assert services.flush() == 3
    assert (stored_total(services), services.stats.daily_count("page_view", TODAY)) == (1, 1)
    assert_nothing_left(services)


def test_a_batch_that_was_claimed_before_is_stored_after(
    services: Services, postgres_url: str
) -> None:
    for batch_id in ("b1", "b2"):
        count_events(services, event())
        services.claims.claim(batch_id, 1_000, (0, 0))
    with read_only(services, postgres_url):
        fill_pool(services)
        with pytest.raises(ServerUnavailable, match="takes no changes"):
            services.flush()
        assert len(services.claims.open_batches()) == 2
    assert services.flush() == 4
    assert stored_total(services) == 2
    assert_nothing_left(services)


def test_every_task_that_writes_recovers_as_well(services: Services, postgres_url: str) -> None:
    count_events(services, event(), event(timestamp=NOW.replace(hour=1)))
    services.redis.xadd(
        services.keys.dead,
        {"kind": "message", "body": "x", "reason": "odd", "at_s": 1},
    )
    with read_only(services, postgres_url):
        fill_pool(services)
        for work in (
            services.archive_events,
            services.move_dead_letters,
            lambda: services.maintain(NOW),
            lambda: services.prune(TODAY),
            lambda: services.erase_user("u1"),
        ):
            fill_pool(services)
            with pytest.raises(ServerUnavailable, match="takes no changes"):
                work()
        fill_pool(services)
    with pytest.raises(ServerUnavailable, match="takes no changes"):
        services.archive_events()
    assert services.archive_events() == 2
    assert services.move_dead_letters() == 1
    services.maintain(NOW)
    services.prune(TODAY)
    assert len(rows(services, "events")) == 2


def test_reports_seals_and_rebuilds_recover_as_well(services: Services, postgres_url: str) -> None:
    count_events(services, event(user_id="u1"), event("junk", "u1"))
    services.flush()
    services.archive_events()

    def report() -> None:
        services.reports.ask(QUESTION)
        services.make_next_report()

    works: list[Callable[[], object]] = [
        lambda: services.seal_users(datetime.now(UTC)),
        lambda: services.seal_events(datetime.now(UTC)),
        lambda: services.rebuild([TODAY], datetime.now(UTC)),
        lambda: services.remove_types(["junk"], TODAY),
        report,
    ]
    with read_only(services, postgres_url):
        for work in works:
            fill_pool(services)
            with pytest.raises(
                (ServerUnavailable, DBAPIError), match=r"takes no changes|read-only"
            ):
                work()
        fill_pool(services)
    with pytest.raises((ServerUnavailable, DBAPIError)):
        report()
    for work in works:
        work()
    made = services.reports.find_current(QUESTION)
    assert made is not None
    assert made.state == "done"
    assert services.stats.daily_count("page_view", TODAY) == 1


def test_a_statement_that_is_refused_drops_the_whole_pool(
    services: Services, postgres_url: str
) -> None:
    reader = Reader(services.engine)
    with read_only(services, postgres_url):
        fill_pool(services)
        assert reader.rows("SHOW transaction_read_only", {}) == [("on",)]
    with pytest.raises(DBAPIError) as refused:
        execute(services, "DELETE FROM analytics_daily")
    assert refused.value.connection_invalidated
    execute(services, "DELETE FROM analytics_daily")
    assert reader.rows("SHOW transaction_read_only", {}) == [("off",)]
