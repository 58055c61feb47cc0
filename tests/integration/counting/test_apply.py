"""Applying batches: consumption and counts are one step, in Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Barrier

import pytest

from pipeline.counting.apply import Counters
from pipeline.counting.batch import Applied, BadEvent, Delivery
from pipeline.redis.keys import Keys
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import (
    all_fetched,
    count_events,
    event,
    fetched,
    field_place,
    live_count,
    live_counts,
    message,
    users_of_one_bucket,
)

DAY = "analytics:counter:page_view:2025-03-14"
CLICK = "analytics:counter:click:2025-03-14"
QUARTER = "analytics:quarter:page_view:2025-03-14:15:00"
USER = "analytics:user:u1:page_view:2025-03-14"
CLOCK = datetime.now(UTC)


@pytest.fixture
def postgres_url() -> str:
    """None: nothing here reaches it, and copying a database takes longer than a test."""
    return "postgresql://nobody@127.0.0.1:1/none"


def values(services: Services) -> dict[str, int]:
    """The live counts of `path`."""
    return {
        name.split(":")[-2]: n
        for name, n in live_counts(services).items()
        if name.startswith("analytics:dim:")
    }


def books(services: Services) -> dict[str, int]:
    return {name.decode(): int(n) for name, n in services.redis.hgetall("analytics:totals").items()}


def dead(services: Services) -> list[dict[str, str]]:
    return [
        {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        for _, fields in services.redis.xrange(services.keys.dead)
    ]


# Consuming


def test_a_message_is_consumed_and_counted_in_one_step(services: Services) -> None:
    delivery = fetched(services, "t1", event(user_id="u1", properties={"path": "/"}))
    applied = services.counters.apply([delivery], CLOCK)
    assert applied == Applied(counted=1, pending=4)
    assert live_counts(services) == {
        DAY: 1,
        QUARTER: 1,
        "analytics:dim:page_view:path:/:2025-03-14": 1,
        "analytics:user:u1:page_view:2025-03-14": 1,
    }
    assert services.claims.pending() == 4
    assert not services.redis.exists(services.keys.unacked, services.keys.unacked_index)


def test_a_message_delivered_twice_is_counted_once(services: Services) -> None:
    delivery = fetched(services, "t1", event())
    services.counters.apply([delivery], CLOCK)
    again = services.counters.apply([delivery], CLOCK)
    assert again == Applied(pending=2)
    assert live_counts(services) == {DAY: 1, QUARTER: 1}
    assert books(services)["consumed"] == 1


def test_messages_that_are_gone_are_left_out_and_the_others_counted(services: Services) -> None:
    here = fetched(services, "t1", event())
    gone = Delivery([event(), event()], tag="t2")
    bad = Delivery([], [BadEvent(b"{}", "reason")], tag="t3")
    assert services.counters.apply([gone, here, bad], CLOCK).counted == 1
    assert live_counts(services)[DAY] == 1
    assert dead(services) == []


def test_a_task_id_applied_twice_counts_once(services: Services) -> None:
    delivery = message(event(), event())
    assert services.counters.apply([delivery], CLOCK).counted == 2
    assert services.counters.apply([delivery], CLOCK) == Applied(duplicate=2, pending=2)
    assert live_counts(services)[DAY] == 2


def test_a_fetched_message_with_a_seen_task_id_is_consumed_without_a_count(
    services: Services,
) -> None:
    first = fetched(services, "t1", event(), task_id="a")
    second = fetched(services, "t2", event(), task_id="a")
    services.counters.apply([first], CLOCK)
    assert services.counters.apply([second], CLOCK).duplicate == 1
    assert live_counts(services)[DAY] == 1
    assert not services.redis.exists(services.keys.unacked)


def test_many_workers_with_the_same_messages_count_each_once(services: Services) -> None:
    messages = [Delivery([event(), event(event_id=f"{n}")], tag=f"t{n}") for n in range(100)]
    deliveries = all_fetched(services, *messages)
    with ThreadPoolExecutor(8) as pool:
        applied = list(pool.map(lambda _: services.counters.apply(deliveries, CLOCK), range(8)))
    assert sum(one.counted for one in applied) == 200
    assert live_counts(services)[DAY] == 200


@pytest.mark.parametrize("known_by", ["task id", "event id"])
def test_what_was_sent_twice_is_counted_once_by_two_workers_at_the_same_moment(
    services: Services, known_by: str
) -> None:
    rounds = 50

    def copy(number: int, tag: str) -> Delivery:
        if known_by == "task id":
            return Delivery([event()], tag=tag, task_id=f"{number}")
        return Delivery([event(event_id=f"{number}")], tag=tag)

    copies = [
        all_fetched(services, *(copy(n, f"{n} {worker}") for n in range(rounds)))
        for worker in range(2)
    ]
    both_are_there = Barrier(2, timeout=30)

    def work(deliveries: tuple[Delivery, ...]) -> list[Applied]:
        applied = []
        for delivery in deliveries:
            both_are_there.wait()
            applied.append(services.counters.apply([delivery], CLOCK))
        return applied

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, copies)

    for one, other in zip(first, second, strict=True):
        assert sorted([one.counted, other.counted]) == [0, 1]
        assert sorted([one.duplicate, other.duplicate]) == [0, 1]
    assert live_counts(services)[DAY] == rounds
    assert not services.redis.exists(services.keys.unacked)


def test_ten_thousand_increments_are_applied_at_once(services: Services) -> None:
    events = [event(user_id=f"u{n}", properties={"path": f"/{n}"}) for n in range(5_000)]
    applied = services.counters.apply([message(*events)], CLOCK)
    assert applied.pending == services.claims.pending() == 10_002
    assert len(values(services)) == 5_000


def test_ten_thousand_messages_with_ids_are_applied_at_once(services: Services) -> None:
    deliveries = [Delivery([event(event_id=f"{n}")], tag=f"t{n}") for n in range(10_000)]
    assert services.counters.apply(all_fetched(services, *deliveries), CLOCK).counted == 10_000
    assert services.counters.apply(all_fetched(services, *deliveries), CLOCK).duplicate == 10_000
    assert not services.redis.exists(services.keys.unacked, services.keys.unacked_index)


# Duplicates by event id


def test_an_event_id_counts_once_within_a_message_and_across_a_batch(services: Services) -> None:
    same = event(event_id="k")
    applied = services.counters.apply([message(same, same), message(same)], CLOCK)
    assert applied == Applied(counted=1, duplicate=2, pending=2)
    assert live_counts(services)[DAY] == 1


def test_an_event_id_seen_in_the_window_is_not_counted_again(services: Services) -> None:
    count_events(services, event(event_id="k"))
    applied = count_events(services, event(event_id="k"), event(event_id="j"), event())
    assert applied == Applied(counted=2, duplicate=1, pending=2)
    assert live_counts(services)[DAY] == 3


@pytest.mark.parametrize(("halves_ago", "counted"), [(-1, 0), (1, 0), (2, 0), (3, 1)])
def test_an_id_is_remembered_for_one_to_one_and_a_half_windows(
    make_services: MakeServices, halves_ago: int, counted: int
) -> None:
    """And where the clock was put back over the end of a half."""
    services = make_services(dedup_window_s=31 * 86_400)
    delivery = message(event(event_id="k"))
    services.counters.apply([delivery], CLOCK)
    for prefix in (services.keys.seen_event, services.keys.seen_task):
        [current] = services.redis.keys(f"{prefix}*")
        number = int(current.decode().removeprefix(prefix))
        services.redis.rename(current, f"{prefix}{number - halves_ago}")
    assert services.counters.apply([delivery], CLOCK).counted == counted


def test_the_sets_of_ids_live_as_long_as_they_are_looked_at(services: Services) -> None:
    count_events(services, event(event_id="k"))
    for prefix in (services.keys.seen_event, services.keys.seen_task):
        [name] = services.redis.keys(f"{prefix}*")
        assert 86_400 <= services.redis.ttl(name) <= 3 * 43_200
        services.redis.expire(name, 1_000)
    count_events(services, event(event_id="j"))
    assert services.redis.ttl(name) <= 1_000, "a set that is still filled must end with its window"


# What is not as it should be


def test_an_increment_that_a_counter_cannot_take_is_kept_and_the_rest_counted(
    services: Services,
) -> None:
    services.redis.sadd(CLICK, "not a counter")
    count_events(services, *[event(of, user_id="u1") for of in ("page_view", "click") * 2])
    assert services.redis.get(DAY) == b"2"
    for name in (USER, QUARTER, USER.replace("page_view", "click")):
        assert live_count(services, name) == 2
    assert live_count(services, QUARTER.replace("page_view", "click")) == 2
    [letter] = dead(services)
    assert (letter["kind"], letter["counter"], letter["count"]) == ("counter", CLICK, "2")
    assert "WRONGTYPE" in letter["reason"]
    services.redis.delete(CLICK)


def test_a_counter_is_not_taken_past_the_largest_number(services: Services) -> None:
    count_events(services, event())
    services.redis.set(DAY, 2**63 - 2)
    count_events(services, event(), event())
    assert services.redis.get(DAY) == b"9223372036854775806"
    assert live_count(services, QUARTER) == 3
    [letter] = dead(services)
    assert (letter["counter"], letter["count"]) == (DAY, "2")
    assert "overflow" in letter["reason"]


# The books


def test_the_books_balance(services: Services) -> None:
    bad = BadEvent(b"{}", "reason")
    first = message(event(event_id="k"), event("click"), bad=[bad])
    second = message(event(event_id="k"))
    services.counters.apply([first, second], CLOCK)
    services.counters.apply([first], CLOCK)
    found = books(services)
    assert found["consumed"] == found["counted"] + found["duplicate"] + found["dead"] == 7
    assert (found["counted"], found["duplicate"], found["dead"]) == (2, 4, 1)
    assert (found["counted:page_view"], found["duplicate:page_view"]) == (1, 2)


# Lifetimes


def test_a_live_counter_has_no_lifetime_by_default(services: Services) -> None:
    count_events(services, event(user_id="u1", properties={"path": "/"}))
    keys = [DAY, *services.redis.keys("analytics:live:*")]
    assert {services.redis.ttl(name) for name in keys} == {-1}


def test_with_a_lifetime_set_a_counter_has_it_from_its_first_increment_on(
    make_services: MakeServices,
) -> None:
    services = make_services(counter_ttl_s=1_000)
    count_events(services, event(), event("click"))
    services.redis.expire(DAY, 500)
    count_events(services, event(), event("click"))
    assert 0 < services.redis.ttl(DAY) <= 500
    assert 500 < services.redis.ttl(CLICK) <= 1_000


def test_with_a_lifetime_set_a_bucket_has_it_from_its_newest_counter_on(
    make_services: MakeServices,
) -> None:
    """What is counted now must not end with what was counted long ago; but what goes on being
    counted does not hold up the end of the rest."""
    services = make_services(counter_ttl_s=1_000)
    first, second = users_of_one_bucket(2)
    count_events(services, event(user_id=first))
    bucket, _ = field_place(services, services.keys.user(first, "page_view", "2025-03-14"))
    assert 500 < services.redis.ttl(bucket) <= 1_000
    services.redis.expire(bucket, 500)
    count_events(services, event(user_id=first))
    assert 0 < services.redis.ttl(bucket) <= 500
    count_events(services, event(user_id=second))
    assert 500 < services.redis.ttl(bucket) <= 1_000


def test_two_prefixes_in_one_redis_share_nothing(services: Services) -> None:
    other = Counters(services.redis, Keys("other:"))
    delivery = message(event(event_id="k"))
    assert services.counters.apply([delivery], CLOCK).counted == 1
    assert other.apply([delivery], CLOCK).counted == 1
    services.redis.delete(*services.redis.keys("other:*"))
