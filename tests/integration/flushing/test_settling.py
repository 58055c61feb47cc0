"""Reading a claimed batch, settling it, waiting and repairing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from pipeline.flushing.claims import BATCH_LISTED_S, Claim
from pipeline.redis.client import server_time_s
from pipeline.redis.keys import ALL_BUCKETS, PAD
from pipeline.services import Services
from tests.helpers.support import (
    NOW,
    count_events,
    counts_of,
    event,
    live_counts,
    users_of_one_bucket,
)

DAY = "analytics:counter:page_view:2025-03-14"
HOUR_OF_BEFORE = "analytics:counter:page_view:2025-03-14:15"
EMPTY_LEDGER = (0, 0)


@pytest.fixture
def postgres_url() -> str:
    """None: nothing here reaches it, and copying a database takes longer than a test."""
    return "postgresql://nobody@127.0.0.1:1/none"


def claim(services: Services, batch_id: str = "b1", limit: int = 1_000) -> Claim:
    return services.claims.claim(batch_id, limit, EMPTY_LEDGER)


def sizes(of: dict[int, int] | None = None) -> list[int]:
    """The sizes of all buckets of a batch, given those that have any fields."""
    return [(of or {}).get(bucket, 0) for bucket in range(ALL_BUCKETS)]


def counts(services: Services, claimed: Claim) -> dict[str, int]:
    """All counts of the claimed batch, by name."""
    return counts_of(services.claims, claimed)


# Reading


@pytest.mark.parametrize("count", [1, 10, 500, 10_000])
def test_a_bucket_is_read_whole_page_by_page(
    services: Services, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("pipeline.flushing.claims.FIELDS_AT_ONCE", count)
    count_events(services, *[event(user_id=one) for one in users_of_one_bucket(3_000)])
    counted = live_counts(services)
    claimed = claim(services, limit=10_000)
    pages = list(services.claims.read_buckets(claimed))
    assert max(map(len, pages)) < max(60, 2 * count)
    assert counts(services, claimed) == counted


def test_a_bucket_that_is_read_while_its_table_is_resized_is_read_whole(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis moves the fields of a hash that has grown, or from which many were erased, to a table
    of another size bit by bit, with each access: HSCAN then gives some of them twice."""
    monkeypatch.setattr("pipeline.flushing.claims.FIELDS_AT_ONCE", 10)
    users = users_of_one_bucket(8_000)
    count_events(services, *[event(user_id=one) for one in users])
    claimed = claim(services)
    [journal] = services.redis.keys("analytics:inflight:b1:*")
    erased = {f"{one}:page_view:2025-03-14" for one in users[600:]}
    seen: list[bytes] = []
    for n, page in enumerate(services.claims.read_buckets(claimed)):
        seen += page
        if n % 2 == 0 and erased:
            gone = [erased.pop() for _ in range(min(50, len(erased)))]
            services.redis.hdel(journal, *gone)
    kept = {f"{one}:page_view:2025-03-14".encode() for one in users[:600]}
    assert kept <= set(seen)
    assert PAD.encode() not in seen


def test_the_buckets_of_a_batch_that_was_settled_while_it_is_read_come_to_an_end(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flushing.claims.FIELDS_AT_ONCE", 10)
    count_events(services, *[event(user_id=one) for one in users_of_one_bucket(1_000)])
    claimed = claim(services)
    pages = services.claims.read_buckets(claimed)
    read = len(next(pages))
    services.claims.settle("b1")
    assert read + sum(map(len, pages)) < 1_000


# Settling


def test_a_claimed_batch_stays_until_it_is_settled(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    claim(services)
    journal = services.keys.inflight + "b1"
    buckets = services.redis.keys("analytics:inflight:b1:*")
    assert [services.redis.ttl(key) for key in (journal, *buckets)] == [-1, -1, -1]
    services.claims.settle("b1")
    assert not services.redis.exists(journal, *services.keys.journal_buckets("b1"))
    assert services.claims.open_batches() == []
    assert services.claims.listed(["b1"]) == {"b1"}


def test_to_settle_again_does_not_prolong_the_batch(services: Services) -> None:
    count_events(services, event())
    claim(services)
    services.claims.settle("b1")
    services.redis.expire(services.keys.inflight + "b1", 10)
    before = services.redis.zscore(services.keys.batches, "b1")
    services.claims.settle("b1")
    assert services.redis.ttl(services.keys.inflight + "b1") <= 10
    assert services.redis.zscore(services.keys.batches, "b1") == before


def test_to_settle_a_batch_that_is_not_there_does_nothing(services: Services) -> None:
    services.claims.settle("b1")
    assert list(services.redis.scan_iter()) == []


def test_the_id_of_a_settled_batch_claims_nothing_more(services: Services) -> None:
    count_events(services, event())
    claim(services)
    services.claims.settle("b1")
    services.redis.delete(services.keys.inflight + "b1")
    count_events(services, event())
    assert claim(services) == Claim("b1", 0, 0, {}, sizes(), pending=2)


def test_a_batch_is_listed_for_a_day_after_it_was_settled(services: Services) -> None:
    count_events(services, event())
    claim(services)
    services.claims.settle("b1")
    settled_at_ms = services.redis.zscore(services.keys.batches, "b1")
    assert isinstance(settled_at_ms, float)
    of_yesterday = {"old": settled_at_ms - 1_000 * BATCH_LISTED_S - 1, "recent": settled_at_ms - 1}
    services.redis.zadd(services.keys.batches, of_yesterday)
    count_events(services, event())
    claim(services, "b2")
    services.claims.settle("b2")
    assert set(services.redis.zrange(services.keys.batches, 0, -1)) == {b"recent", b"b1", b"b2"}


def test_an_open_batch_is_listed_for_ever(services: Services) -> None:
    services.redis.zadd(services.keys.batches, {"open": -1})
    count_events(services, event())
    claim(services)
    services.claims.settle("b1")
    assert services.claims.open_batches() == ["open"]


def test_a_journal_that_has_left_is_read_as_nothing(services: Services) -> None:
    assert services.claims.take_over("b1") == Claim("b1", 0, 0, {}, sizes())


# Waiting


def test_the_longest_wait_is_that_since_the_last_flush_that_left_nothing(
    services: Services,
) -> None:
    assert services.claims.oldest_pending_s() == 0
    count_events(services, event())
    services.claims.note_flush(server_time_s(services.redis) - 100)
    assert services.claims.oldest_pending_s() in (100, 101)
    claim(services)
    assert services.claims.oldest_pending_s() in (0, 1)
    count_events(services, event())
    assert services.claims.oldest_pending_s() in (0, 1)


def test_a_batch_that_is_left_behind_waits_on(services: Services) -> None:
    count_events(services, event())
    claim(services)
    services.redis.zincrby(services.keys.batches, -100_000, "b1")
    count_events(services, event())
    services.claims.note_flush(server_time_s(services.redis))
    assert services.claims.oldest_pending_s() in (100, 101)
    services.claims.settle("b1")
    assert services.claims.oldest_pending_s() in (0, 1)


# Repairing


def test_counters_that_are_not_pending_are_made_pending_again(services: Services) -> None:
    days = (NOW, NOW - timedelta(days=1))
    count_events(services, *[event(of, timestamp=at) for of in ("a", "b") for at in days])
    services.redis.delete(services.keys.pending_flush)
    assert services.claims.pending() == 4, "a quarter hour needs no name"
    assert services.repair_counters() == 4
    assert services.claims.pending() == 4 + 4
    assert services.redis.hget(services.keys.totals, "repaired_counters") == b"4"
    assert services.repair_counters() == 0
    assert claim(services).size == 4 + 4


def test_counters_of_users_and_values_of_the_version_before_are_repaired_as_well(
    services: Services,
) -> None:
    """Their names were pending, as those of days are; a field of a bucket needs none. And so were
    those of hours."""
    count_events(services, event(user_id="u*?[1]", properties={"path": "/"}))
    before = ["analytics:user:u*?[1]:page_view:2025-03-14", "analytics:dim:a:b:c:2025-03-14"]
    before.append(HOUR_OF_BEFORE)
    services.redis.mset(dict.fromkeys(before, 7))
    services.redis.delete(services.keys.pending_flush)
    assert services.repair_counters() == 4
    assert services.claims.pending() == 4 + 3
    claimed = claim(services)
    assert claimed.named == {DAY: 1, **dict.fromkeys(before, 7)}
    assert sum(claimed.buckets) == 3


def test_only_what_may_be_a_counter_is_repaired(services: Services) -> None:
    count_events(services, event(event_id="k", properties={"path": "/"}))
    claim(services)
    services.redis.sadd("analytics:counter:set:2025-03-14", "x")
    services.redis.set("other:counter:a:2025-03-14", 1)
    assert services.repair_counters() == 0
    services.redis.delete("analytics:counter:set:2025-03-14", "other:counter:a:2025-03-14")


def test_thousands_of_counters_are_repaired_in_pages(services: Services) -> None:
    types, days = 900, [NOW - timedelta(days=n) for n in range(3)]
    events = [event(f"type{n}", timestamp=at) for n in range(types) for at in days]
    count_events(services, *events)
    services.redis.delete(services.keys.pending_flush)
    assert services.repair_counters() == 3 * types
