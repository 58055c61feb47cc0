"""Reads are exact at any moment, wherever a count is just then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from pipeline.flushing.claims import Claim
from pipeline.reading.stats import Ranking, Stats
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.interruptions import InterruptedReader
from tests.helpers.support import NOW, TODAY, count_events, event, execute

YESTERDAY = TODAY - timedelta(days=1)


def live(_: Services) -> None:
    """Counted, not flushed."""


def claimed(services: Services) -> Claim:
    return services.claims.claim("b1", 1_000, (0, 0))


def stored(services: Services) -> None:
    claim = claimed(services)
    with services.store.transaction() as transaction:
        transaction.save(claim, services.claims.read_buckets(claim))


def settled(services: Services) -> None:
    stored(services)
    services.claims.settle("b1")


def forgotten(services: Services) -> None:
    """Settled so long ago that nothing is left in Redis."""
    settled(services)
    services.redis.delete(services.keys.inflight + "b1", services.keys.batches)
    execute(services, "UPDATE flush_batches SET stored_at = stored_at - interval '1 day'")


MOMENTS = pytest.mark.parametrize(
    "until", [live, claimed, stored, settled, forgotten], ids=lambda one: one.__name__
)
Until = Callable[[Services], Any]


@MOMENTS
def test_every_read_is_exact_at_every_moment_of_a_flush(services: Services, until: Until) -> None:
    properties = {"path": "/"}
    at = [NOW, NOW, NOW + timedelta(hours=3), NOW - timedelta(days=1)]
    count_events(
        services, *[event(user_id="u1", properties=properties, timestamp=one) for one in at]
    )
    until(services)
    count_events(services, event(user_id="u1", properties=properties))
    stats = services.stats
    assert stats.daily_count("page_view", TODAY) == 4
    assert stats.count("page_view", YESTERDAY, TODAY) == 5
    assert stats.hourly_counts("page_view", TODAY) == [0] * 15 + [3, 0, 0, 1] + [0] * 5
    assert stats.series("page_view", YESTERDAY, TODAY, by="day") == [(YESTERDAY, 1), (TODAY, 4)]
    assert stats.user_count("u1", "page_view", YESTERDAY, TODAY) == 5
    assert stats.user_counts("u1") == {"page_view": {YESTERDAY: 1, TODAY: 4}}
    assert stats.property_count("page_view", "path", "/", YESTERDAY, TODAY) == 5


def test_a_read_is_exact_with_batches_in_all_states_at_once(services: Services) -> None:
    for batch_id, last in enumerate([claimed, stored, settled, stored, claimed]):
        count_events(services, *[event(user_id="u")] * 10**batch_id)
        claim = services.claims.claim(f"b{batch_id}", 1_000, (0, 0))
        if last is not claimed:
            with services.store.transaction() as transaction:
                transaction.save(claim, services.claims.read_buckets(claim))
        if last is settled:
            services.claims.settle(f"b{batch_id}")
    assert services.stats.daily_count("page_view", TODAY) == 11_111
    assert services.stats.user_counts("u") == {"page_view": {TODAY: 11_111}}


def interrupted(services: Services, then: Callable[[], object]) -> tuple[InterruptedReader, Stats]:
    counters = InterruptedReader(services.redis, services.keys)
    counters.then = then
    return counters, Stats(counters, services.engine)


@pytest.mark.parametrize(
    ("moment", "begins_again"), [(claimed, False), (stored, True), (settled, True)]
)
def test_a_flush_that_runs_between_the_steps_of_a_read_does_not_change_its_answer(
    services: Services, moment: Until, begins_again: bool
) -> None:
    count_events(services, *[event(user_id="u")] * 5)
    counters, stats = interrupted(services, lambda: moment(services))
    assert stats.daily_count("page_view", TODAY) == 5
    assert counters.asked == (2 if begins_again else 1)
    assert stats.daily_count("page_view", TODAY) == 5


@pytest.mark.parametrize("moment", [stored, settled])
def test_a_batch_that_was_open_when_a_read_began_and_is_stored_meanwhile_counts_once(
    services: Services, moment: Until
) -> None:
    count_events(services, *[event(user_id="u")] * 5)
    claimed(services)
    counters, stats = interrupted(services, lambda: moment(services))
    assert stats.daily_count("page_view", TODAY) == 5
    assert counters.asked == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda stats: stats.daily_count("page_view", TODAY),
        lambda stats: sum(stats.hourly_counts("page_view", TODAY)),
        lambda stats: stats.user_count("u", "page_view", TODAY, TODAY),
    ],
    ids=["day", "hours", "user"],
)
def test_a_batch_does_not_change_once_claimed_and_what_is_counted_after_that_counts_once(
    services: Services, read: Callable[[Stats], int]
) -> None:
    """It is claimed when the read asks Redis, and claimed once more, taken over and stored when the
    read asks Postgres."""
    count_events(services, *[event(user_id="u")] * 5)
    once = services.claims.claim("b1", 1_000, (0, 0))
    count_events(services, *[event(user_id="u")] * 2)

    def again() -> None:
        repeated = services.claims.claim("b1", 1_000, (0, 0))
        found = services.claims.take_over("b1")
        assert (found.number, found.named, found.buckets) == (
            *(repeated.number, repeated.named, repeated.buckets),
        )
        assert (found.named, found.buckets) == (once.named, once.buckets)
        with services.store.transaction() as transaction:
            transaction.save(found, services.claims.read_buckets(found))

    _, stats = interrupted(services, again)
    assert read(stats) == 7
    assert services.claims.pending() == 3


def test_a_redis_that_is_behind_the_ledger_is_read_all_the_same(services: Services) -> None:
    for _ in range(3):
        count_events(services, event())
        services.flush()
    services.redis.hset(services.keys.totals, "claims", 1)
    count_events(services, event())
    assert services.stats.daily_count("page_view", TODAY) == 4


@MOMENTS
def test_a_count_of_any_size_is_read_to_the_last_digit(services: Services, until: Until) -> None:
    counts = [10**12 - 1, 10**12, 2**53 + 1, 2**63 - 1, -(2**63)]
    for count in counts:
        count_events(services, event(f"{count}"))
        services.redis.set(services.keys.daily(f"{count}", f"{TODAY}"), count)
    until(services)
    assert [services.stats.daily_count(f"{count}", TODAY) for count in counts] == counts


def test_what_no_number_of_redis_or_postgres_can_hold_is_read_to_the_last_digit(
    services: Services,
) -> None:
    largest, name = 2**63 - 1, services.keys.daily("page_view", f"{TODAY}")
    for batch_id in ("b1", "b2"):
        count_events(services, event(), event("click"))
        services.redis.set(name, largest)
        services.claims.claim(batch_id, 1_000, (0, 0))
    count_events(services, event())
    assert services.stats.daily_count("page_view", TODAY) == 2 * largest + 1

    services.flush()  # one of the batches fits, the other and the last event no longer

    assert services.stats.daily_count("page_view", TODAY) == largest
    assert services.stats.daily_count("click", TODAY) == 2
    assert sum(services.stats.hourly_counts("page_view", TODAY)) == 3
    assert services.status()["dead_letters"] == 2


def test_what_somebody_else_put_in_a_counters_place_counts_nothing(services: Services) -> None:
    name = services.keys.daily("page_view", f"{TODAY}")
    count_events(services, event("click"))
    for value in ("abc", "", "0x10", "1e3", " 1", "1.5", "9" * 21):
        services.redis.set(name, value, ex=1_000)
        assert services.stats.daily_count("page_view", TODAY) == 0
    services.redis.delete(name)
    services.redis.sadd(name, "x")
    services.redis.expire(name, 1_000)
    assert services.stats.count("page_view", YESTERDAY, TODAY) == 0
    assert services.stats.daily_count("click", TODAY) == 1


# Ranges


def test_what_never_happened_counts_zero(services: Services) -> None:
    stats = services.stats
    assert stats.daily_count("page_view", TODAY) == 0
    assert stats.hourly_counts("page_view", TODAY) == [0] * 24
    assert stats.user_count("u", "page_view", TODAY, TODAY) == 0
    assert stats.user_counts("u") == {}
    assert stats.property_count("page_view", "path", "/", TODAY, TODAY) == 0
    assert stats.top("page_view", "user") == Ranking([], None)


def test_a_range_includes_both_ends_and_nothing_else(services: Services) -> None:
    days = [TODAY + timedelta(days=n) for n in range(-3, 2)]
    at = [datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC) for day in days[:-1]]
    count_events(services, *[event(user_id="u", timestamp=one) for one in at])
    for _ in ("live", "stored"):
        assert services.stats.count("page_view", days[1], days[2]) == 2
        assert services.stats.user_count("u", "page_view", days[1], days[2]) == 2
        found = services.stats.user_counts("u", days[1], days[2])
        assert found == {"page_view": {days[1]: 1, days[2]: 1}}
        assert services.stats.user_counts("u", first=days[3]) == {"page_view": {days[3]: 1}}
        assert services.stats.user_counts("u", last=days[0]) == {"page_view": {days[0]: 1}}
        services.flush()


def test_a_range_that_ends_before_it_begins_is_empty(services: Services) -> None:
    count_events(services, event(user_id="u"))
    stats = services.stats
    assert stats.count("page_view", TODAY, YESTERDAY) == 0
    assert stats.user_count("u", "page_view", TODAY, YESTERDAY) == 0
    assert stats.series("page_view", TODAY, YESTERDAY, by="day") == []
    assert stats.series("page_view", TODAY, YESTERDAY, by="hour") == []


def test_a_series_by_hour_has_every_hour_of_every_day(services: Services) -> None:
    count_events(services, event(), event(timestamp=NOW - timedelta(days=1)))
    series = services.stats.series("page_view", YESTERDAY, TODAY, by="hour")
    assert [at for at, _ in series] == [
        datetime(2025, 3, 13, tzinfo=UTC) + timedelta(hours=n) for n in range(48)
    ]
    assert [n for n, (_, count) in enumerate(series) if count] == [15, 39]


def test_the_first_and_the_last_day_there_are_can_be_read(services: Services) -> None:
    count_events(services, event(timestamp=datetime(1, 1, 1, 7, tzinfo=UTC)))
    for _ in ("live", "stored"):
        assert services.stats.hourly_counts("page_view", date.min)[7] == 1
        assert services.stats.hourly_counts("page_view", date.max) == [0] * 24
        services.flush()


def test_counts_do_not_depend_on_the_time_zone_of_the_database(services: Services) -> None:
    count_events(services, event(), event(timestamp=NOW.replace(hour=23)))
    services.flush()
    database = services.engine.url.database
    execute(services, f"ALTER DATABASE {database} SET timezone = 'Pacific/Kiritimati'")
    services.engine.dispose()
    hours = services.stats.hourly_counts("page_view", TODAY)
    count_events(services, event())
    services.flush()
    again = services.stats.hourly_counts("page_view", TODAY)
    assert (hours[15], hours[23], again[15]) == (1, 1, 2)


# Users


def test_a_users_counts_are_that_users_alone(services: Services) -> None:
    users = ["u1", "u10", "u*", "u?", "[u1]", "u1:page_view", "U1", "u%31"]
    count_events(services, *[event(f"type {n}", user) for n, user in enumerate(users)])
    for _ in ("live", "stored"):
        for n, user in enumerate(users):
            assert services.stats.user_counts(user) == {f"type {n}": {TODAY: 1}}
        services.flush()


def test_a_users_counts_ignore_names_that_are_no_counters(services: Services) -> None:
    for name in (b"analytics:user:u:\xff:2025-03-14", b"analytics:user:u:x"):
        services.redis.set(name, 1)
        services.redis.sadd(services.keys.pending_flush, name)
    count_events(services, event(user_id="u"))
    assert services.stats.user_counts("u") == {"page_view": {TODAY: 1}}
    claimed(services)
    assert services.stats.user_counts("u") == {"page_view": {TODAY: 1}}


def test_a_user_with_thousands_of_counters_is_read_whole(make_services: MakeServices) -> None:
    services = make_services(event_types_cap=5_000)
    types = [f"type {n}" for n in range(5_000)]
    count_events(services, *[event(one, "u") for one in types])
    assert len(services.stats.user_counts("u")) == 5_000
    services.flush()
    assert len(services.stats.user_counts("u")) == 5_000


# Rankings


def test_a_ranking_names_the_largest_counts_as_of_the_last_flush(services: Services) -> None:
    for n, user in enumerate(["a", "b", "c", "d"], start=1):
        count_events(services, *[event(user_id=user, properties={"path": f"/{user}"})] * n)
    assert services.stats.top("page_view", "user") == Ranking([], None)
    services.flush()
    count_events(services, *[event(user_id="a")] * 100)
    ranking = services.stats.top("page_view", "user", limit=3)
    assert ranking.top == [("d", 4), ("c", 3), ("b", 2)]
    assert services.stats.top("page_view", "path", limit=1).top == [("/d", 4)]
    [[flushed_at]] = execute(services, "SELECT max(stored_at) FROM flush_batches")
    assert ranking.as_of == flushed_at


def test_a_ranking_sums_the_days_of_its_range(services: Services) -> None:
    at = {"a": [0, 0, 0], "b": [0, -1, -1, -1], "c": [-2] * 9}
    for user, days in at.items():
        times = [NOW + timedelta(days=n) for n in days]
        count_events(services, *[event(user_id=user, timestamp=one) for one in times])
    services.flush()
    top = services.stats.top
    assert top("page_view", "user").top == [("c", 9), ("b", 4), ("a", 3)]
    assert top("page_view", "user", YESTERDAY, TODAY).top == [("b", 4), ("a", 3)]
    assert top("page_view", "user", first=TODAY).top == [("a", 3), ("b", 1)]
    assert top("page_view", "user", last=YESTERDAY).top == [("c", 9), ("b", 3)]


def test_equal_counts_are_ranked_by_name(services: Services) -> None:
    count_events(services, *[event(user_id=user) for user in ("b", "a", "c")])
    services.flush()
    assert services.stats.top("page_view", "user", limit=2).top == [("a", 1), ("b", 1)]


def test_rankings_of_types_and_properties_are_kept_apart(make_services: MakeServices) -> None:
    both = {"page_view": ["path", "country"], "click": ["path"]}
    services = make_services(count_by=both)
    count_events(
        services,
        event(properties={"path": "/", "country": "CL"}),
        event("click", properties={"path": "/click"}),
    )
    services.flush()
    assert services.stats.top("page_view", "path").top == [("/", 1)]
    assert services.stats.top("page_view", "country").top == [("CL", 1)]
    assert services.stats.top("click", "path").top == [("/click", 1)]
    assert services.stats.top("click", "country").top == []
