"""Claiming counters for a flush, settling, and repairing: in Redis, each in one step."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from pipeline.flushing.claims import BATCH_LISTED_S, Claim
from pipeline.redis.client import server_time_s
from pipeline.services import Services
from tests.helpers.support import count_events, event

DAY = "analytics:counter:page_view:2025-03-14"
HOUR = "analytics:counter:page_view:2025-03-14:15"
EMPTY_LEDGER = (0, 0)


@pytest.fixture
def postgres_url() -> str:
    """None: nothing here reaches it, and copying a database takes longer than a test."""
    return "postgresql://nobody@127.0.0.1:1/none"


def claim(services: Services, batch_id: str = "b1", limit: int = 1_000) -> Claim:
    return services.claims.claim(batch_id, limit, EMPTY_LEDGER)


def everything(client: redis.Redis) -> dict[bytes, bytes]:
    """All that Redis holds, in its own form."""
    return {key: client.dump(key) for key in client.scan_iter()}


def add_pending(services: Services, name: str | bytes, count: object) -> None:
    """A counter that somebody else made."""
    services.redis.set(name, count)  # type: ignore[arg-type]
    services.redis.sadd(services.keys.pending_flush, name)


def dead(services: Services) -> list[dict[bytes, bytes]]:
    return [fields for _, fields in services.redis.xrange(services.keys.dead)]


# Claiming


def test_a_claim_moves_counters_into_the_journal(services: Services) -> None:
    count_events(services, event(), event())
    claimed = claim(services)
    assert claimed == Claim("b1", epoch=0, number=1, counts={DAY: 2, HOUR: 2}, pending=0)
    assert not services.redis.exists(DAY, HOUR, services.keys.pending_flush)
    assert services.claims.take_over("b1") == claimed
    assert services.claims.open_batches() == ["b1"]


def test_a_claim_repeated_returns_the_same_and_takes_nothing_more(services: Services) -> None:
    count_events(services, event())
    first = claim(services)
    count_events(services, event("click"))
    again = claim(services)
    assert (again.number, again.counts) == (first.number, first.counts)
    assert again.pending == services.claims.pending() == 2


def test_a_claim_takes_no_more_than_it_may(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(10)])
    first, second = claim(services, "b1", limit=5), claim(services, "b2", limit=100)
    assert (len(first.counts), first.pending) == (5, 7)
    assert (len(second.counts), second.pending) == (7, 0)
    assert not first.counts.keys() & second.counts.keys()


def test_where_nothing_is_pending_a_claim_leaves_no_batch(services: Services) -> None:
    assert claim(services) == Claim("b1", 0, 0, {}, 0)
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
    assert len(claimed.counts) == 10_000
    assert services.claims.take_over("b1") == claimed


def test_parallel_claims_share_the_counters_among_them(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(1_998)])
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda n: claim(services, f"b{n}", limit=100), range(20)))
    names = [name for one in claims for name in one.counts]
    assert len(names) == len(set(names)) == 2_000
    assert sorted(one.number for one in claims) == list(range(1, 21))


# What is not as it should be


def test_a_pending_name_without_a_counter_is_skipped_and_booked(services: Services) -> None:
    count_events(services, event())
    services.redis.delete(HOUR)
    assert claim(services).counts == {DAY: 1}
    assert services.redis.hget(services.keys.totals, "expired_counters") == b"1"


@pytest.mark.parametrize("value", ["", "abc", "1.5", "0x10", "1e3", " 1", "9" * 21, b"\xff\x00"])
def test_a_counter_that_is_no_number_is_set_apart_and_the_others_are_claimed(
    services: Services, value: str | bytes
) -> None:
    count_events(services, event())
    add_pending(services, "analytics:counter:odd:2025-03-14", value)
    assert claim(services).counts == {DAY: 1, HOUR: 1}
    [letter] = dead(services)
    assert letter[b"counter"] == b"analytics:counter:odd:2025-03-14"
    assert letter[b"count"] == (value if isinstance(value, bytes) else value.encode())
    assert letter[b"reason"] == b"the counter is not a whole number"
    assert claim(services, "b2").number == 0


def test_a_counter_of_another_type_is_set_apart_and_left_as_it_is(services: Services) -> None:
    count_events(services, event())
    services.redis.delete(HOUR)
    services.redis.sadd(HOUR, "somebody else's")
    assert claim(services).counts == {DAY: 1}
    [letter] = dead(services)
    assert (letter[b"counter"], letter[b"count"]) == (HOUR.encode(), b"")
    assert b"WRONGTYPE" in letter[b"reason"]
    assert services.redis.smembers(HOUR) == {b"somebody else's"}
    services.redis.delete(HOUR)


def test_a_name_that_is_no_text_is_claimed_like_any_other(services: Services) -> None:
    name = b"analytics:counter:\xff\xfe:2025-03-14"
    add_pending(services, name, 3)
    claimed = claim(services)
    assert [one.encode(errors="surrogateescape") for one in claimed.counts] == [name]
    assert services.claims.take_over("b1") == claimed


@pytest.mark.parametrize("key", ["pending_flush", "inflight:b1", "batches", "totals", "dead"])
def test_a_structure_of_the_wrong_type_refuses_the_claim_and_changes_nothing(
    services: Services, key: str
) -> None:
    count_events(services, event())
    services.redis.set(f"analytics:{key}", "somebody else's", ex=1_000)
    before = everything(services.redis)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        claim(services)
    assert everything(services.redis) == before
    services.redis.delete(f"analytics:{key}", DAY, HOUR)


def test_no_counter_is_lost_where_the_number_of_claims_is_no_number(services: Services) -> None:
    count_events(services, event())
    services.redis.hset(services.keys.totals, "claims", "many")
    claimed = claim(services)
    assert (claimed.number, claimed.counts) == (1, {DAY: 1, HOUR: 1})


# A batch in parts


def test_a_counter_that_is_counted_anew_between_the_parts_of_a_batch_is_added(
    services: Services,
) -> None:
    claims, take = services.claims, services.claims.claim
    count_events(services, event())
    take("b1", 1_000, EMPTY_LEDGER)
    count_events(services, *[event()] * 2, event("click"))
    second = take("b1", 1_000, EMPTY_LEDGER, 2)
    assert (second.number, second.counts[DAY], len(second.counts)) == (2, 2, 4)
    assert claims.take_over("b1").counts == {**second.counts, DAY: 3, HOUR: 3}


def test_a_part_that_is_claimed_again_takes_nothing_more_and_returns_the_whole_batch(
    services: Services,
) -> None:
    take = services.claims.claim
    for part in (1, 2):
        count_events(services, event())
        take("b1", 1_000, EMPTY_LEDGER, part)
    count_events(services, event())
    for part in (1, 2):
        assert take("b1", 1_000, EMPTY_LEDGER, part) == Claim("b1", 0, 2, {DAY: 2, HOUR: 2}, 2)


def test_a_part_that_finds_nothing_belongs_to_its_batch_all_the_same(services: Services) -> None:
    count_events(services, event())
    claim(services)
    assert services.claims.claim("b1", 9, EMPTY_LEDGER, 2) == Claim("b1", 0, 1, {}, 0)


# Settling


def test_a_claimed_batch_stays_until_it_is_settled(services: Services) -> None:
    count_events(services, event())
    claim(services)
    journal = services.keys.inflight + "b1"
    assert services.redis.ttl(journal) == -1
    services.claims.settle("b1")
    assert not services.redis.exists(journal)
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
    assert claim(services) == Claim("b1", 0, 0, {}, pending=2)


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
    assert services.claims.take_over("b1") == Claim("b1", 0, 0, {}, 0)


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
    services.redis.zincrby(services.keys.batches, 100_000, "b1")
    count_events(services, event())
    services.claims.note_flush(server_time_s(services.redis))
    assert services.claims.oldest_pending_s() in (100, 101)
    services.claims.settle("b1")
    assert services.claims.oldest_pending_s() in (0, 1)


# Repairing


def test_counters_that_are_not_pending_are_made_pending_again(services: Services) -> None:
    count_events(services, event(user_id="u*?[1]", properties={"path": "/"}))
    services.redis.delete(services.keys.pending_flush)
    assert services.repair_counters() == services.claims.pending() == 4
    assert services.redis.hget(services.keys.totals, "repaired_counters") == b"4"
    assert services.repair_counters() == 0
    assert len(claim(services).counts) == 4


def test_only_what_may_be_a_counter_is_repaired(services: Services) -> None:
    count_events(services, event(event_id="k", properties={"path": "/"}))
    claim(services)
    services.redis.sadd("analytics:counter:set:2025-03-14", "x")
    services.redis.set("other:counter:a:2025-03-14", 1)
    assert services.repair_counters() == 0
    services.redis.delete("analytics:counter:set:2025-03-14", "other:counter:a:2025-03-14")


def test_thousands_of_counters_are_repaired_in_pages(services: Services) -> None:
    count_events(services, *[event(user_id=f"u{n}") for n in range(2_500)])
    services.redis.delete(services.keys.pending_flush)
    assert services.repair_counters() == 2_502
