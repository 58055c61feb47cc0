"""The event log: what is counted is appended in the same step, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from pipeline.counting.batch import Applied, BadEvent, Delivery
from pipeline.counting.log_entries import unpack
from pipeline.event.model import Event
from pipeline.event_log.streams import EventLog
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import NOW, count_events, event, everything, message

CLOCK = datetime.now(UTC)
STREAM = "analytics:events:0"
HOUR = "2025-03-14:15"


@pytest.fixture
def postgres_url() -> str:
    """None: nothing here reaches it."""
    return "postgresql://nobody@127.0.0.1:1/none"


def logged(services: Services, stream: str = STREAM) -> list[dict[str, Any]]:
    """The events of all entries of a stream, as an application sends them."""
    return [one for _, fields in services.redis.xrange(stream) for one in _events(fields)]


def _events(fields: dict[bytes, bytes]) -> Iterator[dict[str, Any]]:
    raw = unpack(fields[b"blob"])
    assert int(fields[b"events"]) == len(raw)
    columns = (raw.event_types, raw.timestamps, raw.user_ids, raw.properties, raw.event_ids)
    for event_type, at, user_id, properties, event_id in zip(*columns, strict=True):
        found = {
            "event_type": event_type,
            "timestamp": at,
            "user_id": user_id,
            "properties": json.loads(bytes(properties)),
            "event_id": event_id,
        }
        yield {name: value for name, value in found.items() if value is not None}


def gaps(services: Services) -> dict[str, int]:
    names = services.redis.keys("analytics:gap:*")
    return {name.decode(): int(services.redis.get(name) or 0) for name in names}


def test_a_batch_is_one_entry_with_every_counted_event(services: Services) -> None:
    one = event(user_id="u1", properties={"path": "/é\n", "n": 1.5, "deep": {"a": [None]}})
    other = event("sale", event_id="k")
    services.counters.apply([message(one), message(other)], CLOCK)
    assert services.redis.xlen(STREAM) == 1
    assert logged(services) == [one.to_dict(), other.to_dict()]


def test_duplicates_bad_events_and_what_is_gone_are_not_logged(services: Services) -> None:
    count_events(services, event(event_id="k"))
    first = message(event(event_id="k"), event(user_id="u2"), bad=[BadEvent(b"{}", "reason")])
    gone = Delivery([event(user_id="u3")], tag="gone")
    services.counters.apply([first, gone], CLOCK)
    services.counters.apply([first], CLOCK)
    assert [one.get("user_id") for one in logged(services)] == [None, "u2"]


def test_a_batch_without_counted_events_makes_no_entry(services: Services) -> None:
    services.counters.apply([message(bad=[BadEvent(b"{}", "reason")])], CLOCK)
    assert not services.redis.exists(STREAM)


def test_every_entry_has_a_name_of_its_own(services: Services) -> None:
    for _ in range(3):
        count_events(services, event())
    names = {fields[b"name"] for _, fields in services.redis.xrange(STREAM)}
    assert len(names) == 3


def test_event_types_are_spread_over_the_partitions(make_services: MakeServices) -> None:
    services = make_services(event_log_partitions=4)
    types = [f"type{n}" for n in range(20)]
    count_events(services, *(event(name) for name in types), *(event(name) for name in types))
    streams = [services.keys.events(n) for n in range(4)]
    found = [[one["event_type"] for one in logged(services, stream)] for stream in streams]
    assert sorted(name for names in found for name in names) == sorted(2 * types)
    assert sum(bool(names) for names in found) > 1
    for names in found:
        assert all(names.count(name) == 2 for name in names)
    assert all(services.redis.xlen(stream) <= 1 for stream in streams)


def test_a_type_that_is_not_listed_is_counted_and_noted_as_a_gap(
    make_services: MakeServices,
) -> None:
    services = make_services(event_log=["sale"])
    applied = services.counters.apply([message(event(), event("sale"), event())], CLOCK)
    assert (applied.counted, applied.unlogged) == (3, 0)
    assert [one["event_type"] for one in logged(services)] == ["sale"]
    assert gaps(services) == {f"analytics:gap:page_view:off:{HOUR}": 2}


def test_with_the_log_switched_off_there_is_no_stream(make_services: MakeServices) -> None:
    services = make_services(event_log="none")
    count_events(services, event(), event("sale"))
    assert not services.redis.keys("analytics:events*")
    assert sum(gaps(services).values()) == 2


@pytest.mark.parametrize("bound", [{"event_log_max_entries": 2}, {"event_log_max_bytes": 150}])
def test_a_full_stream_takes_no_more_and_the_gap_is_counted_in_the_same_step(
    make_services: MakeServices, bound: dict[str, int]
) -> None:
    services = make_services(**bound)
    applied = [count_events(services, event(), event("sale")) for _ in range(5)]
    held = len(logged(services))
    assert sum(one.counted for one in applied) == 10
    assert 0 < held < 10
    assert sum(one.unlogged for one in applied) == 10 - held
    assert gaps(services) == {
        f"analytics:gap:page_view:full:{HOUR}": (10 - held) // 2,
        f"analytics:gap:sale:full:{HOUR}": (10 - held) // 2,
    }


def test_the_sizes_are_those_of_what_the_stream_holds(services: Services) -> None:
    for _ in range(3):
        count_events(services, event(), event())
    bytes_held = sum(len(fields[b"blob"]) for _, fields in services.redis.xrange(STREAM))
    assert services.redis.hgetall(services.keys.events_sizes) == {
        b"0:bytes": b"%d" % bytes_held,
        b"0:events": b"6",
    }


def test_sizes_that_are_no_numbers_break_nothing(services: Services) -> None:
    services.redis.hset(services.keys.events_sizes, "0:bytes", "many")
    assert count_events(services, event()).counted == 1
    assert len(logged(services)) == 1


@pytest.mark.parametrize("key", ["analytics:events:0", "analytics:events:sizes"])
def test_a_structure_of_the_wrong_type_refuses_the_batch_and_changes_nothing(
    services: Services, key: str
) -> None:
    services.redis.set(key, "of another program", ex=1_000)
    before = everything(services.redis)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        count_events(services, event())
    assert everything(services.redis) == before


def test_a_stream_that_takes_no_more_entries_loses_no_count(services: Services) -> None:
    """The ids of a stream may be used up, and nothing can be undone at that point."""
    services.redis.xadd(STREAM, {"a": "b"}, id="18446744073709551615-18446744073709551615")
    applied = count_events(services, event())
    assert applied == Applied(counted=1, pending=3, unlogged=1)
    assert gaps(services) == {f"analytics:gap:page_view:full:{HOUR}": 1}
    services.redis.delete(STREAM)


def test_gaps_are_claimed_by_a_flush_like_counters(make_services: MakeServices) -> None:
    services = make_services(event_log="none")
    count_events(services, event())
    claim = services.claims.claim("b1", 100, (0, 0))
    assert claim.named[services.keys.gap("page_view", "off", HOUR)] == 1


def test_an_old_log_is_read_with_fewer_partitions(make_services: MakeServices) -> None:
    many = make_services(event_log_partitions=16)
    count_events(many, *(event(f"type{n}") for n in range(50)))
    few = EventLog(many.redis, many.keys)
    assert sum(one.entries for one in few.open()) == len(many.redis.keys("analytics:events:[0-9]*"))


def test_events_of_any_age_and_size_are_logged_as_they_are(services: Services) -> None:
    odd = [
        Event.create("a", now=NOW, timestamp="0001-01-01T00:00:00Z"),
        Event.create("é\u2028" * 90, "u" * 256, {"k": '\\\t\n"' * 50}, now=NOW, event_id="i"),
        Event.create("a", None, {"n": 10**300, "f": 1e-300, "t": True}, now=NOW),
    ]
    count_events(services, *odd)
    assert logged(services) == [one.to_dict() for one in odd]
