"""Claiming counters for a flush, settling, and repairing: in Redis, each in one step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest
import redis

from pipeline.flushing.claims import Claim
from pipeline.redis.keys import ALL_BUCKETS, PAD, QUARTERS
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import (
    NOW,
    count_events,
    counts_of,
    event,
    everything,
    field_place,
    live_counts,
    users_of_one_bucket,
    waiting_letters,
)

DAY = "analytics:counter:page_view:2025-03-14"
CLICK = "analytics:counter:click:2025-03-14"
QUARTER = "analytics:quarter:page_view:2025-03-14:15:00"
USER = "analytics:user:u1:page_view:2025-03-14"
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


def add_pending(services: Services, name: str | bytes, count: object) -> None:
    """A counter that somebody else made."""
    services.redis.set(name, count)  # type: ignore[arg-type]
    services.redis.sadd(services.keys.pending_flush, name)


# Claiming


def test_a_claim_moves_counters_into_the_journal(services: Services) -> None:
    count_events(services, event(), event())
    claimed = claim(services)
    assert claimed == Claim(
        "b1", epoch=0, number=1, named={DAY: 2}, buckets=sizes({QUARTERS: 1}), size=2
    )
    assert counts(services, claimed) == {DAY: 2, QUARTER: 2}
    assert not services.redis.exists(
        DAY, services.keys.live_buckets[QUARTERS], services.keys.pending_flush
    )
    assert services.claims.take_over("b1") == claimed
    assert services.claims.open_batches() == ["b1"]


def test_a_claim_repeated_returns_the_same_and_takes_nothing_more(services: Services) -> None:
    count_events(services, event())
    first = claim(services)
    count_events(services, event("click"))
    again = claim(services)
    assert (again.number, again.named) == (first.number, first.named)
    assert again.pending == services.claims.pending() == 2


def test_a_claim_moves_whole_buckets_into_the_batch(services: Services) -> None:
    users = users_of_one_bucket(3, bucket=5) + users_of_one_bucket(2, bucket=7)
    count_events(services, *[event(user_id=one) for one in users])
    counted = live_counts(services)
    claimed = claim(services)
    assert claimed == Claim("b1", 0, 1, {DAY: 5}, sizes({5: 3, 7: 2, QUARTERS: 1}), size=7)
    assert claimed.size == 7
    assert counts(services, claimed) == counted
    assert live_counts(services) == {}
    assert not services.redis.exists(*services.keys.live_buckets)
    assert services.claims.take_over("b1") == claimed


def test_a_claim_of_buckets_repeated_returns_the_same_and_takes_nothing_more(
    services: Services,
) -> None:
    users = users_of_one_bucket(3) + users_of_one_bucket(2, bucket=7)
    count_events(services, *[event(user_id=one) for one in users])
    first = claim(services, limit=4)
    assert (first.buckets, first.pending) == (sizes({0: 3}), 2 + 1)
    held = counts(services, first)
    count_events(services, *[event(user_id=one) for one in users])
    again = claim(services, limit=1_000)
    assert replace(again, pending=2 + 1) == first
    assert counts(services, again) == held
    assert again.pending == services.claims.pending() == 1 + 3 + 2 + 1
    assert claim(services, "b2").size == 7


def test_a_claim_takes_whole_buckets_until_it_has_as_many_counters_as_it_may(
    services: Services,
) -> None:
    of_bucket = {bucket: users_of_one_bucket(3, bucket) for bucket in range(4)}
    users = [one for found in of_bucket.values() for one in found]
    count_events(services, *[event(user_id=one) for one in users])
    claimed = [claim(services, f"b{n}", limit=4) for n in range(4)]
    assert [(one.size, one.pending) for one in claimed] == [(4, 10), (6, 4), (4, 0), (0, 0)]
    assert [one.buckets for one in claimed] == [
        sizes({0: 3}),
        sizes({1: 3, 2: 3}),
        sizes({3: 3, QUARTERS: 1}),
        sizes(),
    ]
    names = [name for one in claimed for name in counts(services, one)]
    assert len(names) == len(set(names)) == 14


def test_of_names_a_claim_takes_no_more_than_it_may_and_no_more_than_500(
    services: Services,
) -> None:
    days = (NOW, NOW - timedelta(days=1))
    count_events(services, *[event(f"type{n}", timestamp=at) for n in range(500) for at in days])
    claimed = [claim(services, f"b{n}", limit) for n, limit in enumerate((5, 1_000, 1_000))]
    assert [(len(one.named), one.pending) for one in claimed] == [(5, 1_995), (500, 495), (495, 0)]


def test_a_large_bucket_is_claimed_at_once_however_few_counters_are_asked_for(
    services: Services,
) -> None:
    count_events(services, *[event(user_id=one) for one in users_of_one_bucket(9_000)])
    claim(services, "names", limit=1)
    claimed = claim(services, limit=1)
    assert (claimed.size, claimed.pending) == (9_000, 1), "the quarter hour is left"
    assert len(counts(services, claimed)) == 9_000


def test_what_is_counted_while_a_batch_is_open_is_left_for_the_next(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    first = claim(services)
    count_events(services, event(user_id="u1"), event(user_id="u1"))
    second = claim(services, "b2")
    assert counts(services, first) == {DAY: 1, QUARTER: 1, USER: 1}
    assert counts(services, second) == {DAY: 2, QUARTER: 2, USER: 2}


def test_a_claimed_bucket_has_no_lifetime_left(make_services: MakeServices) -> None:
    """A live one may have: what is claimed is as good as stored."""
    services = make_services(counter_ttl_s=1_000)
    count_events(services, event(user_id="u1"))
    live = services.redis.keys("analytics:live:*")
    assert len(live) == 2
    assert all(services.redis.ttl(one) > 0 for one in live)
    claim(services)
    claimed = services.redis.keys("analytics:inflight:b1:*")
    assert [services.redis.ttl(one) for one in claimed] == [-1, -1]


def test_a_bucket_with_nothing_but_its_pad_is_not_pending_and_not_claimed(
    services: Services,
) -> None:
    """All of its users have been erased."""
    count_events(services, event(user_id="u1"))
    bucket, field = field_place(services, USER)
    services.redis.hdel(bucket, field)
    assert services.redis.hkeys(bucket) == [PAD.encode()]
    assert services.claims.pending() == 2
    assert services.status()["pending_counters"] == 2
    claimed = claim(services)
    assert (claimed.size, claimed.buckets, claimed.pending) == (2, sizes({QUARTERS: 1}), 0)
    assert services.redis.exists(bucket)
    assert claim(services, "b2") == Claim("b2", 0, 0, {}, sizes())
    assert count_events(services, event(user_id="u1")).pending == services.claims.pending() == 3


def test_the_pending_number_is_the_same_wherever_it_is_asked_for(services: Services) -> None:
    users = [event(user_id=f"u{n}", properties={"path": f"/{n % 7}"}) for n in range(100)]
    applied = count_events(services, *users)
    assert applied.pending == services.claims.pending() == 2 + 100 + 7
    assert services.status()["pending_counters"] == 109
    while (claimed := claim(services, uuid4().hex, limit=10)).number:
        assert claimed.pending == services.claims.pending() == len(live_counts(services))


def test_where_nothing_is_pending_a_claim_leaves_no_batch(services: Services) -> None:
    assert claim(services) == Claim("b1", 0, 0, {}, sizes())
    assert list(services.redis.scan_iter()) == []


def test_claims_are_numbered_in_their_order(services: Services) -> None:
    numbers = []
    for batch_id in ("b1", "b2", "b3"):
        count_events(services, event())
        numbers.append(claim(services, batch_id).number)
    assert numbers == [1, 2, 3]


def test_ten_thousand_counters_are_claimed_at_once(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(9_998)])
    claimed = claim(services, limit=10_000)
    assert claimed.size == len(counts(services, claimed)) == 10_000
    assert services.claims.take_over("b1") == claimed


def test_parallel_claims_share_the_counters_among_them(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(1_998)])
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: claim(services, f"b{n}", limit=100), range(20)))
    names = [name for one in claims for name in counts(services, one)]
    assert len(names) == len(set(names)) == 2_000
    numbers = sorted(one.number for one in claims if one.number)
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) > 8


# What is not as it should be


def test_a_pending_name_without_a_counter_is_skipped_and_booked(services: Services) -> None:
    count_events(services, event(), event("click"))
    services.redis.delete(CLICK)
    assert claim(services).named == {DAY: 1}
    assert services.redis.hget(services.keys.totals, "expired_counters") == b"1"


@pytest.mark.parametrize("value", ["", "abc", "1.5", "0x10", "1e3", " 1", "9" * 21, b"\xff\x00"])
def test_a_counter_that_is_no_number_is_set_apart_and_the_others_are_claimed(
    services: Services, value: str | bytes
) -> None:
    count_events(services, event())
    add_pending(services, "analytics:counter:odd:2025-03-14", value)
    claimed = claim(services)
    assert claimed.named == {DAY: 1}
    assert counts(services, claimed) == {DAY: 1, QUARTER: 1}
    [letter] = waiting_letters(services)
    assert letter[b"counter"] == b"analytics:counter:odd:2025-03-14"
    assert letter[b"count"] == (value if isinstance(value, bytes) else value.encode())
    assert letter[b"reason"] == b"the counter is not a whole number"
    assert claim(services, "b2").number == 0


def test_a_counter_of_another_type_is_set_apart_and_left_as_it_is(services: Services) -> None:
    count_events(services, event(), event("click"))
    services.redis.delete(CLICK)
    services.redis.sadd(CLICK, "of another program")
    assert claim(services).named == {DAY: 1}
    [letter] = waiting_letters(services)
    assert (letter[b"counter"], letter[b"count"]) == (CLICK.encode(), b"")
    assert b"WRONGTYPE" in letter[b"reason"]
    assert services.redis.smembers(CLICK) == {b"of another program"}
    services.redis.delete(CLICK)


def test_a_name_that_is_no_text_is_claimed_like_any_other(services: Services) -> None:
    name = b"analytics:counter:\xff\xfe:2025-03-14"
    add_pending(services, name, 3)
    claimed = claim(services)
    assert [one.encode(errors="surrogateescape") for one in claimed.named] == [name]
    assert services.claims.take_over("b1") == claimed


@pytest.mark.parametrize(
    "key",
    [
        *("pending_flush", "inflight:b1", "batches", "totals", "dead"),
        *(f"live:{bucket}" for bucket in range(ALL_BUCKETS)),
    ],
)
def test_a_structure_of_the_wrong_type_refuses_the_claim_and_changes_nothing(
    services: Services, key: str
) -> None:
    count_events(services, event())
    services.redis.hset(services.keys.live_buckets[3], mapping={"a:b:2025-03-14": 1, PAD: "."})
    services.redis.set(f"analytics:{key}", "of another program", ex=1_000)
    before = everything(services.redis)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        claim(services)
    assert everything(services.redis) == before
    services.redis.delete(f"analytics:{key}", DAY)


def test_no_counter_is_lost_where_the_number_of_claims_is_no_number(services: Services) -> None:
    count_events(services, event())
    services.redis.hset(services.keys.totals, "claims", "many")
    claimed = claim(services)
    assert (claimed.number, claimed.named) == (1, {DAY: 1})
    assert counts(services, claimed) == {DAY: 1, QUARTER: 1}
