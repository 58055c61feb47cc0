"""The cap on event types: totals stay exact, and what there was before is not pushed out."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from threading import Thread
from typing import Any

import pytest

from pipeline.counting.batch import BadEvent, Delivery
from pipeline.counting.log_entries import as_events, unpack
from pipeline.event.model import Event
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import counted_here, message

CLOCK = datetime.now(UTC)
DAY = timedelta(days=1)


@pytest.fixture
def postgres_url() -> str:
    """None: nothing here reaches it, and copying a database takes longer than a test."""
    return "postgresql://nobody@127.0.0.1:1/none"


def of(*event_types: str, at: datetime = CLOCK, **fields: Any) -> Delivery:
    """A message with an event of each of these types."""
    return message(*[Event(name, at, **fields) for name in event_types])


def count(services: Services, *deliveries: Delivery, now: datetime = CLOCK) -> None:
    services.counters.apply(deliveries, now)


def books(services: Services) -> dict[str, int]:
    return {name.decode(): int(n) for name, n in services.redis.hgetall("analytics:totals").items()}


def logged(services: Services) -> list[Event]:
    entries: Any = services.redis.xrange("analytics:events:0")
    found: list[Event] = []
    for _, fields in entries:
        found += as_events(unpack(fields[b"blob"]))
    return found


def numbered(name: str, n: int) -> list[str]:
    return [f"{name}{i}" for i in range(n)]


def test_types_past_the_cap_count_as_other_and_totals_stay_exact(
    make_services: MakeServices,
) -> None:
    services = make_services(event_types_cap=3)
    count(services, of("a", "b", "c"))
    count(services, of("a", "d", "e", "e", "b"))
    assert counted_here(services.redis) == {"a": 2, "b": 2, "c": 1, "__other__": 3}
    found = books(services)
    assert found["counted"] == found["consumed"] == 8
    assert found["counted:__other__"] == found["consumed:__other__"] == 3
    assert not {name for name in found if name.endswith((":d", ":e"))}


def test_the_log_keeps_the_name_that_an_event_came_with(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=1)
    count(services, of("a"), of("b", user_id="u1", properties={"x": 1}))
    a, b = logged(services)
    assert (a.event_type, a.properties) == ("a", None)
    assert (b.event_type, b.user_id) == ("__other__", "u1")
    assert b.properties == {"x": 1, "__event_type__": "b"}


def test_a_day_has_room_of_its_own(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=2)
    count(services, of("a", "b", at=CLOCK - DAY), of("c", "d"), of("e", at=CLOCK - DAY))
    expected = {"a": 1, "b": 1, "c": 1, "d": 1, "__other__": 1}
    assert counted_here(services.redis) == expected


def test_old_days_share_a_set(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=10)
    for n in range(300):
        count(services, of(f"junk{n}", at=CLOCK - n * DAY - 2 * DAY))
    assert len(counted_here(services.redis)) == 11
    sets = [*services.redis.scan_iter("analytics:types:*")]
    assert len(sets) == 1
    count(services, of("real"), of("real", at=CLOCK - 9 * DAY))
    assert counted_here(services.redis)["real"] == 2  # what is sent today comes in past the cap


def test_types_of_the_day_before_come_in_past_the_cap_and_no_more_than_twice_the_cap(
    make_services: MakeServices,
) -> None:
    services = make_services(event_types_cap=3)
    count(services, of(*numbered("real", 3)))
    tomorrow = CLOCK + DAY
    count(services, of(*numbered("junk", 5), at=tomorrow), now=tomorrow)
    count(services, of(*numbered("real", 3), at=tomorrow), now=tomorrow)
    found = counted_here(services.redis)
    assert found == {"real0": 2, "real1": 2, "real2": 2, "junk0": 1, "junk1": 1, "junk2": 1} | {
        "__other__": 2
    }
    after = tomorrow + DAY
    count(services, of(*numbered("more", 9), at=after), now=after)
    both = [*numbered("real", 3), *numbered("junk", 5)]
    count(services, of(*both, at=after), now=after)
    assert services.redis.scard(services.keys.types(f"{after:%Y-%m-%d}")) == 6


def test_types_named_in_the_settings_need_no_place(make_services: MakeServices) -> None:
    services = make_services(
        event_types_cap=1, count_by={"sale": ["item"]}, event_log=["sale", "signup"]
    )
    count(services, of("junk"), of("sale", "signup", "click", user_id="u1"))
    found = counted_here(services.redis)
    assert found == {"junk": 1, "sale": 1, "signup": 1, "__other__": 1}


def test_bad_events_and_duplicates_of_many_types_do_not_grow_the_books(
    make_services: MakeServices,
) -> None:
    services = make_services(event_types_cap=20)
    for first in range(0, 1_000, 100):
        bad = [BadEvent(b"{}", "bad", event_type=f"bad{first + n}") for n in range(100)]
        count(services, Delivery((), bad))
        events = [Event(f"d{first + n}", CLOCK, event_id=f"{n}") for n in range(100)]
        count(services, message(*events, *events))
    found = books(services)
    assert found["dead"] == 1_000
    of_types = {name.partition(":")[2] for name in found} - {""}
    assert len(of_types) <= 21
    for outcome in ("dead", "counted", "duplicate", "consumed"):
        by_type = [n for name, n in found.items() if name.startswith(f"{outcome}:")]
        assert sum(by_type) == found[outcome]


def test_bad_events_fill_half_of_the_places(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=4)
    count(services, Delivery((), [BadEvent(b"{}", "bad", event_type=f"b{n}") for n in range(9)]))
    count(services, of("a", "b", "c"))
    assert counted_here(services.redis) == {"a": 1, "b": 1, "__other__": 1}


def test_types_of_pages_fill_half_of_the_places(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=4)
    count(services, of(*numbered("junk", 9), source="page"))
    count(services, of("a", "b", "c"))
    count(services, of("junk0", "a", source="page"))
    found = counted_here(services.redis)
    assert found == {"junk0": 2, "junk1": 1, "a": 2, "b": 1, "__other__": 8}


def test_types_of_a_page_come_in_past_its_half_when_they_were_there_the_day_before(
    make_services: MakeServices,
) -> None:
    services = make_services(event_types_cap=4)
    count(services, of("a", "b", source="page"))
    at = CLOCK + DAY
    count(services, of(*numbered("junk", 3), at=at, source="page"), now=at)
    count(services, of("a", "b", at=at, source="page"), now=at)
    assert counted_here(services.redis) == {"a": 2, "b": 2, "junk0": 1, "junk1": 1, "__other__": 1}


def test_a_type_that_a_server_sends_too_is_of_the_server(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=2)
    count(services, of("a", "b", source="page"), of("b", "c"))
    assert counted_here(services.redis) == {"a": 1, "b": 2, "__other__": 1}


def test_what_redis_lost_is_admitted_again_within_a_minute(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=2)
    count(services, of("a", "b", "c"))
    services.redis.delete(*services.redis.scan_iter("analytics:types:*"))
    count(services, of("a", "b", "c"))  # as the worker remembers
    later = CLOCK + timedelta(seconds=61)
    count(services, of("c", "a", "b"), now=later)
    assert counted_here(services.redis) == {"a": 3, "b": 2, "c": 1, "__other__": 3}


def test_a_raised_cap_makes_room_at_once(make_services: MakeServices) -> None:
    count(make_services(event_types_cap=1), of("a", "b"))
    services = make_services(event_types_cap=2)
    count(services, of("a", "b", "c"))
    assert counted_here(services.redis) == {"a": 2, "b": 1, "__other__": 2}


def test_a_type_of_many_hours_is_asked_for_once_in_each_set(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=2)
    hours = [of("a", "b", "c", at=CLOCK - n * timedelta(hours=5)) for n in range(200)]
    count(services, *hours)
    found = counted_here(services.redis)
    assert found == {"a": 200, "b": 200, "__other__": 200}


def test_workers_that_meet_a_flood_admit_no_more_than_the_cap(make_services: MakeServices) -> None:
    made = [make_services(event_types_cap=50) for _ in range(4)]

    def flood(worker: int) -> None:
        for n in range(40):
            names = [f"t{(worker * 7 + n * 5 + i) % 200}" for i in range(20)]
            count(made[worker], of(*names))

    threads = [Thread(target=flood, args=(n,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = Counter(counted_here(made[0].redis))
    assert found.total() == 4 * 40 * 20
    assert len(found) == 51


def test_a_set_that_is_overwritten_caps_nothing_and_counts_on(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=1)
    services.redis.set(services.keys.types(f"{CLOCK:%Y-%m-%d}"), "x", ex=60)
    count(services, of("a", "b"))
    assert counted_here(services.redis) == {"a": 1, "b": 1}


def test_the_sets_expire(make_services: MakeServices) -> None:
    services = make_services()
    count(services, of("a"), of("b", at=CLOCK - 40 * DAY), of("c", at=CLOCK + DAY))
    sets = [*services.redis.scan_iter("analytics:types:*")]
    assert len(sets) == 3
    assert all(86_400 < services.redis.ttl(name) <= 4 * 86_400 for name in sets)
