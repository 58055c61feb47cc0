"""The guard: a Redis that has gone back in time is not flushed until its state is accepted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pipeline.errors import RedisWentBack
from pipeline.services import Services
from tests.helpers.aging import grow_older
from tests.helpers.support import TODAY, count_events, event, execute, rows, store, stored_total

DAY = timedelta(days=1)


def go_back(services: Services, claims: int, epoch: int = 0) -> None:
    """Redis numbers its claims as it did earlier."""
    services.redis.hset(services.keys.totals, mapping={"claims": claims, "epoch": epoch})


def flushes(services: Services, times: int) -> None:
    for _ in range(times):
        count_events(services, event())
        services.flush()


def ledger(services: Services) -> list[tuple[int, int]]:
    found = execute(services, "SELECT epoch, claim FROM flush_batches ORDER BY epoch, claim")
    return [tuple(row) for row in found]


def stored_and_left_open(services: Services, batch_id: str) -> None:
    """What a flush leaves that dies between its commit and the settling."""
    store(services, services.claims.claim(batch_id, 1_000, (0, 0)))


def test_before_a_redis_that_shows_fewer_claims_nothing_is_flushed(services: Services) -> None:
    flushes(services, 3)
    count_events(services, event("click"))
    go_back(services, claims=2)
    with pytest.raises(RedisWentBack) as caught:
        services.flush()
    assert str(caught.value).startswith("Redis is at claim 2 of epoch 0, but Postgres has stored")
    assert "`analytics accept-redis-state`" in str(caught.value)
    assert services.claims.pending() == 2
    assert services.claims.open_batches() == []
    assert rows(services, "analytics_daily") == [("page_view", TODAY, 3)]


def test_an_emptied_redis_is_noticed(services: Services) -> None:
    flushes(services, 1)
    services.redis.flushdb()
    count_events(services, event())
    with pytest.raises(RedisWentBack):
        services.flush()
    assert stored_total(services) == 1


def test_a_redis_at_the_same_or_a_higher_claim_is_trusted(services: Services) -> None:
    flushes(services, 2)
    go_back(services, claims=2)
    flushes(services, 1)
    services.redis.hset(services.keys.totals, "claims", 1_000)
    flushes(services, 1)
    assert stored_total(services) == 4
    assert ledger(services) == [(0, 1), (0, 2), (0, 3), (0, 1_001)]


def test_once_the_state_is_accepted_flushes_go_on(services: Services) -> None:
    flushes(services, 5)
    count_events(services, event())
    go_back(services, claims=1)
    assert services.accept_redis_state() == 1
    assert services.flush() == 2
    flushes(services, 2)
    assert stored_total(services) == 8
    assert ledger(services)[-3:] == [(1, 1), (1, 2), (1, 3)]


def test_a_redis_of_an_epoch_before_the_accepted_one_is_noticed(services: Services) -> None:
    flushes(services, 2)
    services.accept_redis_state()
    flushes(services, 1)
    count_events(services, event())
    go_back(services, claims=1_000_000, epoch=0)
    with pytest.raises(
        RedisWentBack, match="of epoch 0, but Postgres has stored claim 1 of epoch 1"
    ):
        services.flush()
    assert stored_total(services) == 3


def test_a_state_may_be_accepted_as_often_as_somebody_likes(services: Services) -> None:
    flushes(services, 1)
    assert [services.accept_redis_state() for _ in range(2)] == [1, 1]
    flushes(services, 1)
    assert services.accept_redis_state() == 2
    flushes(services, 1)
    assert stored_total(services) == 3


@pytest.mark.parametrize("open_batches", [1, 3])
def test_batches_that_were_open_when_a_state_was_accepted_are_stored_once(
    services: Services, open_batches: int
) -> None:
    flushes(services, 9)
    for n in range(open_batches):
        count_events(services, event())
        services.claims.claim(f"b{n}", 1_000, (0, 0))
    go_back(services, claims=3)
    services.accept_redis_state()
    for _ in range(3):
        flushes(services, 1)
    assert stored_total(services) == 9 + open_batches + 3
    assert services.claims.open_batches() == []


def test_a_claim_that_redis_forgot_is_not_stored_beside_its_repeat(services: Services) -> None:
    count_events(services, event())
    forgotten = services.claims.claim("b1", 1_000, (0, 0))
    services.redis.flushdb()  # Redis is back where it was before the claim
    count_events(services, event())
    services.flush()
    with pytest.raises(RedisWentBack, match="another batch is stored under claim 1 of epoch 0"):
        store(services, forgotten)
    assert stored_total(services) == 1


def test_a_batch_whose_number_is_taken_is_stored_once_the_state_is_accepted(
    services: Services,
) -> None:
    count_events(services, event())
    forgotten = services.claims.claim("b1", 1_000, (0, 0))
    services.redis.flushdb()
    count_events(services, event())
    services.claims.claim("b2", 1_000, (0, 0))
    store(services, forgotten)
    with pytest.raises(RedisWentBack):
        services.flush()
    assert services.stats.daily_count("page_view", TODAY) == 2
    services.accept_redis_state()
    assert services.flush() == 2
    assert (stored_total(services), services.claims.open_batches()) == (2, [])


def test_the_ledger_keeps_its_newest_entry_however_old(services: Services) -> None:
    flushes(services, 3)
    grow_older(services, 3_650 * DAY)
    flushes(services, 1)  # which takes the settled ones off the list of batches
    grow_older(services, 3_650 * DAY)
    services.maintain(datetime.now(UTC))
    assert ledger(services) == [(0, 4)]
    go_back(services, claims=1)
    count_events(services, event())
    with pytest.raises(RedisWentBack):
        services.flush()


# What the ledger forgets


def test_the_ledger_remembers_a_batch_for_as_long_as_it_may_be_stored_again(
    services: Services,
) -> None:
    """Everything stopped between the commit and the settling of a flush, for a year."""
    for batch_id in ("b1", "b2"):
        count_events(services, event())
        stored_and_left_open(services, batch_id)
    services.claims.settle("b2")
    grow_older(services, 365 * DAY)
    services.maintain(datetime.now(UTC))
    assert services.stats.daily_count("page_view", TODAY) == 2
    services.flush()
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) == 2


def test_a_batch_that_is_settled_and_no_longer_listed_is_forgotten(services: Services) -> None:
    flushes(services, 2)
    grow_older(services, 100 * DAY)
    services.maintain(datetime.now(UTC))
    assert ledger(services) == [(0, 1), (0, 2)], "another flush may just be storing them again"
    flushes(services, 1)
    services.maintain(datetime.now(UTC))
    assert ledger(services) == [(0, 3)]


def test_an_open_batch_of_an_older_redis_that_the_ledger_has_forgotten_is_not_stored_again(
    services: Services,
) -> None:
    count_events(services, event())
    stored_and_left_open(services, "b1")
    lifetimes_ms = {name: services.redis.pttl(name) for name in services.redis.scan_iter()}
    copy = {name: services.redis.dump(name) for name in lifetimes_ms}
    flushes(services, 2)
    for _ in range(2):
        grow_older(services, 100 * DAY)
        flushes(services, 1)
    services.maintain(datetime.now(UTC))
    assert (0, 1) not in ledger(services)

    services.redis.flushdb()
    for name, value in copy.items():
        assert value is not None
        services.redis.restore(name, max(0, lifetimes_ms[name]), value)

    for _ in range(2):
        with pytest.raises(RedisWentBack):
            services.flush()
    assert stored_total(services) == 5
