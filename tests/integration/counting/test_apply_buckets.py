"""Counting users and values: fields of buckets, and the cap on values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis

from pipeline.counting.batch import BadEvent, Delivery
from pipeline.redis.keys import ALL_BUCKETS, PAD
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import (
    NOW,
    count_events,
    event,
    everything,
    fetched,
    field_place,
    live_count,
    live_counts,
    message,
    users_of_one_bucket,
)

DAY = "analytics:counter:page_view:2025-03-14"
QUARTER = "analytics:quarter:page_view:2025-03-14:15:00"
USER = "analytics:user:u1:page_view:2025-03-14"
CLOCK = datetime.now(UTC)
EXACT = 10**15
"""Up to here the script adds by itself, and from here on Redis does."""


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


def dead(services: Services) -> list[dict[str, str]]:
    return [
        {name.decode(): value.decode(errors="replace") for name, value in fields.items()}
        for _, fields in services.redis.xrange(services.keys.dead)
    ]


# Distinct values


def test_past_the_cap_new_values_count_as_other_and_known_ones_go_on(
    make_services: MakeServices,
) -> None:
    services = make_services(count_by={"page_view": ["path"]}, values_cap=2)
    for paths in ("ab", "acd", "bde"):
        count_events(services, *[event(properties={"path": path}) for path in paths])
    assert values(services) == {"a": 2, "b": 2, "__other__": 4}
    assert live_counts(services)[DAY] == 8


def test_the_cap_holds_within_one_batch_and_totals_stay_exact(make_services: MakeServices) -> None:
    services = make_services(count_by={"page_view": ["path"]}, values_cap=7)
    count_events(services, *[event(properties={"path": f"{n}"}) for n in range(5_000)])
    assert len(values(services)) == 8
    assert values(services)["__other__"] == 4_993
    assert sum(values(services).values()) == live_counts(services)[DAY]
    count_events(services, event(properties={"path": "more"}), event(properties={"path": "new"}))
    assert values(services)["__other__"] == 4_995


def test_the_cap_is_counted_by_day_type_and_property(make_services: MakeServices) -> None:
    both = {"page_view": ["path", "country"], "click": ["path"]}
    services = make_services(count_by=both, values_cap=1)
    yesterday = NOW - timedelta(days=1)
    count_events(
        services,
        event(properties={"path": "a", "country": "CL"}),
        event("click", properties={"path": "b"}),
        event(properties={"path": "c"}, timestamp=yesterday),
    )
    assert set(values(services)) == {"a", "CL", "b", "c"}


def test_the_set_of_values_leaves_two_days_past_its_day(services: Services) -> None:
    count_events(services, event(properties={"path": "/"}))
    lifetime_s = services.redis.ttl("analytics:values:page_view:path:2025-03-14")
    assert 47 * 3_600 < lifetime_s <= 48 * 3_600, "the day is over: two days from now"


# Fields of buckets


def set_field(services: Services, name: str, count: int | str) -> None:
    services.redis.hset(*field_place(services, name), count)


def test_a_counter_that_has_been_counted_before_is_added_to(services: Services) -> None:
    for times in (1, 2, 3):
        applied = count_events(services, *[event(user_id="u1")] * times)
        assert applied.pending == services.claims.pending() == 3
    assert live_count(services, USER) == 6


@pytest.mark.parametrize(
    "before",
    [EXACT - 4, EXACT - 3, EXACT - 2, EXACT - 1, EXACT, 2**53, 2**53 + 1, 2**63 - 4, -1, -(2**63)],
)
def test_counts_are_exact_up_to_the_largest_number(services: Services, before: int) -> None:
    count_events(services, event(user_id="u1"))
    set_field(services, USER, before)
    count_events(services, *[event(user_id="u1")] * 3)
    bucket, field = field_place(services, USER)
    assert services.redis.hget(bucket, field) == b"%d" % (before + 3)
    assert dead(services) == []


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        (2**63 - 2, "overflow"),
        ("abc", "not an integer"),
        ("1.5", "not an integer"),
        ("", "not an integer"),
        ("9" * 30, "not an integer"),
        ("0x10", "not an integer"),
    ],
)
@pytest.mark.parametrize("kind", ["user", "dim", "quarter"])
def test_an_increment_that_a_field_cannot_take_is_kept_by_name_and_the_rest_counted(
    services: Services, kind: str, before: int | str, reason: str
) -> None:
    of_value = "analytics:dim:page_view:path:/a%20b:2025-03-14"
    odd, n = {"user": (USER, 2), "dim": (of_value, 2), "quarter": (QUARTER, 3)}[kind]
    set_field(services, odd, before)
    one = event(user_id="u1", properties={"path": "/a b"})
    other = event(user_id="u2", properties={"path": "/"})
    count_events(services, one, one, other)
    bucket, field = field_place(services, odd)
    assert services.redis.hget(bucket, field) == f"{before}".encode()
    [letter] = dead(services)
    assert (letter["kind"], letter["counter"], letter["count"]) == ("counter", odd, f"{n}")
    assert reason in letter["reason"]
    services.redis.hdel(bucket, field)
    rest = {
        DAY: 3,
        QUARTER: 3,
        USER: 2,
        "analytics:user:u2:page_view:2025-03-14": 1,
        "analytics:dim:page_view:path:/a%20b:2025-03-14": 2,
        "analytics:dim:page_view:path:/:2025-03-14": 1,
    }
    del rest[odd]
    assert live_counts(services) == rest


def test_thousands_of_counters_of_one_bucket_are_applied_at_once(services: Services) -> None:
    users = users_of_one_bucket(9_998)
    for times in (1, 2):  # new, and again
        applied = count_events(services, *[event(user_id=one) for one in users])
        assert applied.pending == services.claims.pending() == 10_000
        [of_users, of_quarters] = sorted(services.redis.keys("analytics:live:*"))
        assert services.redis.hlen(of_users) == 9_999
        assert services.redis.hlen(of_quarters) == 2
        counts = live_counts(services)
        assert {counts[services.keys.user(one, "page_view", "2025-03-14")] for one in users} == {
            times
        }


def test_a_bucket_is_padded_so_that_it_is_no_list_to_be_searched(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    buckets = services.redis.keys("analytics:live:*")
    assert len(buckets) == 2, "of a user and of a quarter hour"
    for bucket in buckets:
        assert len(services.redis.hget(bucket, PAD) or b"") > 64
        assert services.redis.object("encoding", bucket) == b"hashtable"


def test_other_sent_as_a_value_is_added_to_what_is_past_the_cap(
    make_services: MakeServices,
) -> None:
    services = make_services(count_by={"page_view": ["path"]}, values_cap=2)
    for _ in range(2):
        paths = ["__other__", "a", "b", "c", "__other__"]
        count_events(services, *[event(properties={"path": path}) for path in paths])
    assert values(services) == {"__other__": 6, "a": 2, "b": 2}
    assert services.claims.pending() == 5


def test_users_and_values_of_one_bucket_are_added_together(services: Services) -> None:
    """A bucket that has both in a batch, and one that has only values."""
    paths = [f"/{n}" for n in range(200)]
    count_events(services, *[event(user_id="u1", properties={"path": path}) for path in paths])
    assert live_count(services, USER) == 200
    assert values(services) == dict.fromkeys(paths, 1)
    assert services.claims.pending() == 203


@pytest.mark.parametrize(
    "key",
    [
        "unacked",
        "unacked_index",
        "pending_flush",
        "totals",
        "dead",
        *(f"live:{bucket}" for bucket in range(ALL_BUCKETS)),
        "values:page_view:path:2025-03-14",
    ],
)
def test_a_structure_of_the_wrong_type_refuses_the_batch_and_changes_nothing(
    services: Services, key: str
) -> None:
    fetched(services, "t1")
    services.redis.delete(f"analytics:{key}")
    services.redis.set(f"analytics:{key}", "of another program", ex=1_000)
    before = everything(services.redis)
    bad = BadEvent(b"{}", "reason")
    delivery = Delivery([event(event_id="k", properties={"path": "/"})], [bad], "t1", "task")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        services.counters.apply([delivery], CLOCK)
    assert everything(services.redis) == before
    services.redis.delete(f"analytics:{key}")


@pytest.mark.parametrize("key", ["seen_event", "seen_task"])
def test_a_window_of_the_wrong_type_refuses_the_batch_and_changes_nothing(
    services: Services, key: str
) -> None:
    delivery = message(event(event_id="k"))
    services.counters.apply([delivery], CLOCK)
    prefix = getattr(services.keys, key)
    [name] = services.redis.keys(f"{prefix}*")
    services.redis.set(name, "of another program", ex=1_000)
    before = everything(services.redis)
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        services.counters.apply([delivery], CLOCK)
    assert everything(services.redis) == before
