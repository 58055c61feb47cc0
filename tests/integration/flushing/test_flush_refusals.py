"""Flushes that Postgres refuses, or that lose it on the way: nothing is lost or held up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from pipeline.counting.batch import Delivery
from pipeline.errors import BatchesLeft, ServerUnavailable
from pipeline.flushing.claims import Claim, Claims
from pipeline.flushing.flush import flush
from pipeline.services import Services, connect
from pipeline.upkeep import dead_letters
from tests.conftest import MakeServices
from tests.helpers.support import TODAY, count_events, event, execute, rows, stored_total

REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE 'not today' USING ERRCODE = 'P0001'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON analytics_daily FOR EACH ROW
    WHEN (NEW.event_type = 'bad') EXECUTE FUNCTION refuse();
"""
"""Postgres refuses some rows for a reason that is not the rows' own."""


class AfterClaim(Claims):
    """Does something between the claim and the write."""

    then: Callable[[], object]

    def claim(self, batch_id: str, limit: int, newest_stored: tuple[int, int]) -> Claim:
        claimed = super().claim(batch_id, limit, newest_stored)
        self.then()
        return claimed


def open_batches(services: Services) -> int:
    return len(services.claims.open_batches())


def cut_all_connections(services: Services) -> None:
    """As a restart of Postgres does."""
    execute(
        services,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()",
    )


def test_a_batch_that_cannot_be_stored_holds_up_no_other(make_services: MakeServices) -> None:
    services = make_services(flush_batch_size=1)
    execute(services, REFUSE)
    count_events(services, event("bad"))
    with pytest.raises(DBAPIError, match="not today"):
        services.flush()
    stored_before = len(rows(services, "analytics_hourly"))  # if that was claimed first
    count_events(services, event(), event())
    with pytest.raises(BatchesLeft, match=r"^1 batch .*not today.*nothing is lost") as left:
        services.flush()
    assert left.value.stored + stored_before == 3, "two new counters, and the hour of the bad type"
    assert open_batches(services) == 1
    assert (stored_total(services), services.stats.daily_count("page_view", TODAY)) == (2, 2)
    assert services.stats.daily_count("bad", TODAY) == 1


def test_a_batch_set_aside_is_stored_once_nothing_stands_in_its_way(services: Services) -> None:
    execute(services, REFUSE)
    count_events(services, event("bad"))
    with pytest.raises(DBAPIError, match="not today"):
        services.flush()
    for _ in range(2):  # never a success while it is left
        with pytest.raises(BatchesLeft, match="not today"):
            services.flush()
    execute(services, "DROP TRIGGER refuse ON analytics_daily")
    assert services.flush() == 2
    assert (stored_total(services), open_batches(services)) == (1, 0)
    assert services.stats.daily_count("bad", TODAY) == 1


def test_while_postgres_is_away_nothing_leaves_the_counters(
    services: Services, redis_url: str
) -> None:
    away = connect(services.options, redis_url, "postgresql://u:p@127.0.0.1:1/analytics")
    count_events(services, event())
    with pytest.raises(ServerUnavailable, match=r"Postgres at .*:1 does not answer"):
        away.flush()
    assert (services.claims.pending(), open_batches(services)) == (2, 0)
    assert services.flush() == 2
    away.close()


def test_a_flush_that_loses_postgres_between_claim_and_commit_is_exact_when_repeated(
    services: Services, make_services: MakeServices
) -> None:
    other = make_services()
    claims = AfterClaim(services.redis, services.keys)
    claims.then = lambda: cut_all_connections(other)
    count_events(services, event(), event())
    with pytest.raises(OperationalError):
        flush(claims, services.store, 1_000)
    assert (services.claims.pending(), open_batches(services)) == (0, 1)
    assert services.stats.daily_count("page_view", TODAY) == 2
    assert services.flush() == 2
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) == 2


def test_a_flush_that_loses_postgres_while_it_stores_what_was_left_goes_no_further(
    services: Services, make_services: MakeServices
) -> None:
    """A batch is set aside for what Postgres says of it, not for Postgres being away."""
    other = make_services()

    class CutWhileReading(Claims):
        def take_over(self, batch_id: str) -> Claim:
            cut_all_connections(other)
            return super().take_over(batch_id)

    for batch_id in ("b1", "b2"):
        count_events(services, event())
        services.claims.claim(batch_id, 1_000, (0, 0))
    with pytest.raises(OperationalError):
        flush(CutWhileReading(services.redis, services.keys), services.store, 1_000)
    assert open_batches(services) == 2
    assert services.flush() == 4
    assert stored_total(services) == 2


def test_traffic_during_a_flush_is_stored_by_it_or_by_the_next(services: Services) -> None:
    claims = AfterClaim(services.redis, services.keys)
    claims.then = lambda: count_events(services, event())
    count_events(services, event())
    flush(claims, services.store, 1)
    taken = stored_total(services)
    assert taken >= 1
    services.flush()
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) > taken


def test_a_full_redis_is_still_consumed_flushed_and_read(services: Services) -> None:
    services.redis.hset(services.keys.unacked, "t1", "[]")
    delivery = Delivery([event()], tag="t1")
    services.redis.config_set("maxmemory", 1)
    try:
        assert services.counters.apply([delivery], datetime.now(UTC)).counted == 1
        assert services.stats.daily_count("page_view", TODAY) == 1
        assert services.status()["pending_counters"] == 2
        assert services.flush() == 2
        assert services.stats.daily_count("page_view", TODAY) == 1
    finally:
        services.redis.config_set("maxmemory", 0)


def test_a_flush_waits_for_its_commit_to_reach_the_disk(services: Services) -> None:
    database = services.engine.url.database
    execute(services, f"ALTER DATABASE {database} SET synchronous_commit = off")
    services.engine.dispose()
    with services.store.transaction() as transaction:
        setting = transaction.connection.exec_driver_sql("SHOW synchronous_commit").scalar()
        timeout = transaction.connection.exec_driver_sql(
            "SHOW idle_in_transaction_session_timeout"
        ).scalar()
    assert (setting, timeout) == ("on", "1min")


# Rows that Postgres refuses


def letters(services: Services) -> list[tuple[str, bytes]]:
    return sorted((one.kind, one.body) for one in dead_letters.list_stored(services.engine))


def test_a_count_that_passes_the_largest_number_is_set_apart_and_the_rest_stored(
    services: Services,
) -> None:
    count_events(services, event())
    services.flush()
    execute(services, f"UPDATE analytics_daily SET count = {2**63 - 2}")
    count_events(services, *[event(user_id=f"u{n}") for n in range(5)], event("click"))
    assert services.flush() == 8
    assert rows(services, "analytics_daily") == [
        ("click", TODAY, 1),
        ("page_view", TODAY, 2**63 - 2),
    ]
    assert len(rows(services, "analytics_user_daily")) == 5
    assert letters(services) == [("counter", b"analytics:counter:page_view:2025-03-14 5")]
    [letter] = dead_letters.list_stored(services.engine)
    assert "out of range" in letter.reason
    assert services.claims.open_batches() == []


def test_a_row_that_is_too_long_for_its_index_is_set_apart(make_services: MakeServices) -> None:
    long = "".join(chr(0x4E00 + n) for n in range(3_000))  # hard to compress
    services = make_services(count_by={"page_view": [long, "path"]})
    count_events(services, event(properties={long: "x", "path": "/"}))
    assert services.flush() == 3
    assert rows(services, "analytics_dimension_daily") == [(TODAY, "page_view", "path", "/", 1)]
    [(kind, body)] = letters(services)
    assert (kind, body) == (
        "counter",
        f"{services.keys.value('page_view', long, 'x', f'{TODAY}')} 1".encode(),
    )


@pytest.mark.parametrize(
    ("name", "count"),
    [
        (b"analytics:counter:odd", 3),
        (b"analytics:counter:\xff\xfe:2025-03-14", 3),
        (b"analytics:counter:a\x00b:2025-03-14", 3),
        (b"analytics:counter:a%00b:2025-03-14", 3),
        (b"analytics:counter:a:2025-02-30", 3),
        (b"analytics:counter:a:2025-03-14", 10**19),
        (b"analytics:user:u:a:2025-03-14", 1 - 10**19),
        (b"somebody:else", 3),
    ],
    ids=ascii,
)
def test_a_counter_that_is_none_of_ours_is_set_apart_and_the_rest_stored(
    services: Services, name: bytes, count: int
) -> None:
    count_events(services, event())
    services.redis.set(name, count)
    services.redis.sadd(services.keys.pending_flush, name)
    assert services.flush() == 2
    assert letters(services) == [("counter", b"%b %d" % (name, count))]
    assert (stored_total(services), services.claims.open_batches()) == (1, [])


def test_a_left_over_batch_with_a_refused_counter_is_stored_as_well(services: Services) -> None:
    count_events(services, event())
    services.redis.set(b"analytics:counter:\xff:2025-03-14", 3)
    services.redis.sadd(services.keys.pending_flush, b"analytics:counter:\xff:2025-03-14")
    assert services.claims.claim("left over", 1_000, (0, 0)).number
    assert services.flush() == 2
    assert letters(services) == [("counter", b"analytics:counter:\xff:2025-03-14 3")]
    assert services.claims.open_batches() == []
