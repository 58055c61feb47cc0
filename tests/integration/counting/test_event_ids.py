"""What an event id is unique in: its source and its event type. And ids that the version before
remembered, which looked at the id alone."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.counting.apply import Counters
from pipeline.counting.batch import Applied, Batch, Delivery
from pipeline.event.model import Event
from pipeline.redis.keys import Keys, digest_id
from pipeline.services import Services
from pipeline.upkeep import heartbeats
from tests.helpers.support import NOW, count_events, event, message

CLOCK = datetime.now(UTC)


@pytest.fixture
def postgres_url() -> str:
    """None: nothing here reaches it."""
    return "postgresql://none@127.0.0.1:1/none"


def sale(event_id: str, source: str = "", event_type: str = "sale") -> Event:
    return msgspec.structs.replace(event(event_type, event_id=event_id), source=source)


def count_as_before(services: Services, event_id: str, *, halves_ago: int = 0) -> int:
    """What the apply of the version before did with an id: returns how many it counted."""
    half = services.redis.time()[0] // services.counters.half_window_s
    sets = [f"{services.keys.seen_event_before}{half - n}" for n in (0, 1, 2, -1)]
    digest = digest_id(event_id)
    if any(services.redis.sismember(name, digest) for name in sets):
        return 0
    services.redis.sadd(sets[halves_ago], digest)
    services.redis.expire(sets[halves_ago], 3 * services.counters.half_window_s, nx=True)
    return 1


def digests(*events: Event) -> Iterable[str]:
    batch = Batch([Delivery(events)])
    [(_, found), _] = batch.prepare({}, Keys(), NOW)["ids"]
    return found


# Sources and types


def test_an_id_of_one_source_hides_none_of_another(services: Services) -> None:
    junk = [sale(f"order-{n}", source="page") for n in range(18, 28)]
    sales = [sale(f"order-{n}") for n in range(18, 28)]

    assert count_events(services, *junk).counted == 10
    assert count_events(services, *sales).counted == 10
    assert count_events(services, *junk, *sales) == Applied(duplicate=20, pending=2)


def test_an_id_of_one_type_hides_none_of_another(services: Services) -> None:
    both = [sale("1001", event_type=name) for name in ("order_created", "order_paid")]

    assert count_events(services, *both).counted == 2
    assert count_events(services, *both).duplicate == 2


def test_within_one_batch_sources_and_types_are_told_apart_too(services: Services) -> None:
    different = [sale("k", source, name) for source in ("", "page") for name in ("a", "b")]

    deliveries = [message(*different), message(*different)]

    assert services.counters.apply(deliveries, CLOCK) == Applied(4, duplicate=4, pending=4)


def test_an_event_that_is_judged_another_way_when_it_is_sent_again_is_a_duplicate(
    services: Services,
) -> None:
    """A crowd of new user agents, or a newer list of bots, decides whether it is a bot's."""
    assert count_events(services, sale("k"), sale("k", event_type="bot:sale")).counted == 1
    assert count_events(services, sale("k", event_type="bot:sale")).duplicate == 1


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=3)
"""Without what names are cleaned of."""


@given(*[st.tuples(names | st.just(""), names, names)] * 2)
@example(("", "ab", "c"), ("", "a", "bc"))
@example(("a", "b", "c"), ("", "ab", "c"))
@example(("", "a", "b"), ("a", "b", "b"))
def test_two_ids_have_one_digest_only_where_source_and_type_are_the_same(
    one: tuple[str, str, str], other: tuple[str, str, str]
) -> None:
    found = digests(*[sale(event_id, source, name) for source, name, event_id in (one, other)])

    assert len(list(found)) == len({one, other})


# What the version before remembered


@pytest.mark.parametrize("halves_ago", [0, 1, 2, -1])
@pytest.mark.parametrize("source", ["", "page"])
def test_an_id_that_the_version_before_counted_is_a_duplicate(
    services: Services, source: str, halves_ago: int
) -> None:
    count_as_before(services, "old", halves_ago=halves_ago)

    applied = count_events(services, sale("old", source), sale("new", source), event())

    assert (applied.counted, applied.duplicate) == (2, 1)
    assert count_events(services, sale("old", source), sale("new", source)).duplicate == 2


def test_sets_of_the_version_before_are_neither_made_nor_kept_by_us(services: Services) -> None:
    count_as_before(services, "old", halves_ago=1)
    [name] = services.redis.keys(f"{services.keys.seen_event_before}*")
    services.redis.expire(name, 1_000)

    count_events(services, sale("new"), sale("old"))

    assert services.redis.keys(f"{services.keys.seen_event_before}*") == [name]
    assert services.redis.scard(name) == 1
    assert services.redis.ttl(name) <= 1_000


def test_nothing_is_asked_of_the_version_before_once_its_sets_are_gone(services: Services) -> None:
    count_events(services, sale("k"))
    assert services.counters.ids_of_before_until_s == 0

    count_as_before(services, "old")
    count_events(services, event())
    assert services.counters.ids_of_before_until_s == 0, "an event without an id needs none"
    count_events(services, sale("l"))
    assert services.counters.ids_of_before_until_s > 0


# Beside workers of the version before


@pytest.fixture
def beside(services: Services) -> Services:
    """A worker of the version before was seen, and one of ours."""
    now_s = services.redis.time()[0]
    services.redis.zadd(services.keys.workers, {"events:worker@old": now_s - 3_000})
    say_that_we_live(services)
    return services


def say_that_we_live(services: Services) -> None:
    heartbeats.beat(services.redis, services.keys, "events", "worker@new")
    heartbeats.share_ids(services.redis, services.keys, services.counters.half_window_s)


def test_what_is_counted_beside_workers_of_the_version_before_is_known_to_them(
    beside: Services,
) -> None:
    assert count_events(beside, sale("k")).counted == 1
    assert count_as_before(beside, "k") == 0

    assert count_as_before(beside, "l") == 1
    assert count_events(beside, sale("l")).duplicate == 1


def test_beside_them_sources_and_types_are_told_apart_all_the_same(beside: Services) -> None:
    different = [sale("k", source, name) for source in ("", "page") for name in ("a", "b")]

    assert [count_events(beside, one).counted for one in different] == [1, 1, 1, 1]
    assert count_events(beside, *different).duplicate == 4
    # Another worker, which has asked for nothing yet.
    other = Counters(beside.redis, beside.keys)
    assert other.apply([message(*different, sale("k", "other"))], CLOCK).counted == 1
    assert count_as_before(beside, "k") == 0


def test_a_batch_has_ids_of_every_kind_beside_them(beside: Services) -> None:
    count_as_before(beside, "theirs")
    count_events(beside, sale("ours"), sale("shared", "page"))

    some = [sale("theirs"), sale("ours"), sale("shared"), sale("new"), sale("new"), event()]

    assert count_events(beside, *some) == Applied(3, duplicate=3, pending=4)
    assert count_events(beside, *some) == Applied(1, duplicate=5, pending=4)


def test_their_sets_are_made_while_one_of_them_was_seen_within_the_hour(
    services: Services,
) -> None:
    now_s = services.redis.time()[0]
    services.redis.zadd(services.keys.workers, {"events:old": now_s - 3_700, "flush:old": now_s})
    say_that_we_live(services)
    assert services.redis.keys(f"{services.keys.seen_event_before}*") == []

    services.redis.zadd(services.keys.workers, {"events:old": now_s})
    for _ in range(2):
        say_that_we_live(services)
    made = services.redis.keys(f"{services.keys.seen_event_before}*")
    assert len(made) == 2
    assert all(0 < services.redis.ttl(name) <= 4 * 43_200 for name in made)
    assert heartbeats.measure_silence_s(services.redis, services.keys)["events"] <= 1
