"""A recount finds counters that another hand has changed, in Redis or in Postgres, and finds that
they were put back."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from pipeline.event.model import Event
from pipeline.postgres.tables import COUNTER_TABLES, daily, event_log_gaps
from pipeline.services import Services
from pipeline.upkeep.audits import recount as recounting
from pipeline.upkeep.audits.recount import Recounter
from pipeline.upkeep.audits.recount_state import describe_found
from tests.conftest import MakeServices
from tests.helpers.support import count_events, execute, field_place

COUNT_BY = {"page_view": ["path"]}
SUMS = {"page_view": {"ms": 3}}
CLOCK = datetime.now(UTC)
AT = CLOCK.replace(hour=3, minute=9)
DAY = f"{AT:%F}"
LONG_AGO = AT - timedelta(days=9)
Mend = Callable[[], object]


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    return make_services(count_by=COUNT_BY, sum=SUMS)


def recount(services: Services) -> list[str]:
    """What a recount finds."""
    recounter = Recounter(services.counters, services.event_log, services.engine)
    state = recounter.recount(CLOCK)
    assert state is not None
    return list(describe_found(state)["lines"])


def view(user_id: str | None = "u1", path: str = "/a", at: datetime = AT) -> Event:
    properties = {"path": path, "ms": 1.5}
    return Event.create("page_view", user_id, properties, at, now=CLOCK)


def sale() -> Event:
    return Event.create("sale", "u1", timestamp=AT, now=CLOCK)


def count_some(services: Services) -> None:
    count_events(services, view(), view(), view("u2", "/b"), view(None), sale())


def change(services: Services, name: str, by: int | None) -> Mend:
    """Change a live counter, or delete it, and return what puts it back."""
    client, place = services.redis, services.keys.field_of(name)
    if place is None:
        was = client.get(name)
        client.delete(name) if by is None else client.incrby(name, by)
        return lambda: client.set(name, was)
    bucket, field = field_place(services, name)
    was = client.hget(bucket, field)
    client.hdel(bucket, field) if by is None else client.hincrby(bucket, field, by)
    if was is None:
        return lambda: client.hdel(bucket, field)
    return lambda: client.hset(bucket, field, was)


def delete_bucket(services: Services, bucket: str) -> Mend:
    was = services.redis.dump(bucket)
    services.redis.delete(bucket)
    return lambda: services.redis.restore(bucket, 0, was)


def name_counters(services: Services) -> dict[str, str]:
    """A live counter of each kind, and what a recount says when it was changed."""
    keys = services.keys
    names = {
        keys.daily("page_view", DAY): "hours of page_view",
        keys.quarterly("page_view", f"{DAY}:03:00"): "quarter hours of page_view",
        keys.user("u1", "page_view", DAY): "users of page_view",
        keys.value("page_view", "path", "/b", DAY): "values of path of page_view",
        keys.sum("page_view", "ms", "e-3", f"{DAY}:03:00"): "sums of ms of page_view",
    }
    return {name: f"{said} on {DAY}" for name, said in names.items()}


@pytest.mark.parametrize("by", [3, -1, None], ids=["more", "less", "deleted"])
def test_every_change_in_redis_is_found_and_its_mend_too(
    services: Services, by: int | None
) -> None:
    count_some(services)
    services.flush()
    services.archive_events()
    count_some(services)
    assert recount(services) == []
    expected = name_counters(services)
    mends = [change(services, name, by) for name in expected]
    assert recount(services) == sorted(expected.values())
    for mend in mends:
        mend()
    assert recount(services) == []


def test_a_bucket_that_is_deleted_and_a_user_of_no_event_are_found(services: Services) -> None:
    count_some(services)
    bucket, _ = field_place(services, services.keys.user("u2", "page_view", DAY))
    mends = [change(services, services.keys.user("nobody", "sale", DAY), 5)]
    mends.append(delete_bucket(services, bucket))
    assert recount(services) == [f"users of page_view on {DAY}", f"users of sale on {DAY}"]
    for mend in mends:
        mend()
    assert recount(services) == []


def test_a_change_of_a_batch_that_a_flush_has_claimed_is_found(services: Services) -> None:
    count_some(services)
    claim = services.claims.claim("batch", 1_000, (0, 0))
    assert claim.number
    assert recount(services) == []
    bucket, field = services.keys.field_of(services.keys.user("u1", "page_view", DAY)) or (0, "")
    journal = services.keys.journal_buckets("batch")[bucket]
    services.redis.hincrby(journal, field, 2)
    assert recount(services) == [f"users of page_view on {DAY}"]
    services.flush()  # stored as it was changed
    assert recount(services) == [f"users of page_view on {DAY}"]
    execute(
        services,
        "UPDATE analytics_user_daily SET count = count - 2 WHERE user_id = 'u1'"
        " AND event_type = 'page_view'",
    )
    assert recount(services) == []


CHANGES = {
    "updated": "UPDATE {table} SET count = count + 1 WHERE event_type = 'page_view'",
    "deleted": "DELETE FROM {table} WHERE event_type = 'page_view'",
    "inserted": "INSERT INTO {table} ({columns}) SELECT {others} FROM {table} "
    "WHERE event_type = 'page_view' LIMIT 1",
}
OF_ALL_KEYS = {"inserted": daily}
"""A day more would be of another day."""
OTHER_KEY = {
    "user_id": "'nobody'",
    "value": "'/none'",
    "bin": "bin + 1",
    "hour": "hour + interval '1 hour'",
    "quarter": "quarter + interval '15 minutes'",
}


@pytest.mark.parametrize("how", CHANGES)
def test_every_row_that_is_changed_is_found_and_its_mend_too(services: Services, how: str) -> None:
    count_some(services)
    services.flush()
    services.archive_events()
    assert recount(services) == []
    tables = [one for one in COUNTER_TABLES if one not in (event_log_gaps, OF_ALL_KEYS.get(how))]
    for table in tables:
        columns = [column.name for column in table.c]
        others = [OTHER_KEY.get(name, name) for name in columns]
        execute(services, f"CREATE TABLE kept_{table.name} AS TABLE {table.name}")
        names = {"columns": ", ".join(columns), "others": ", ".join(others)}
        execute(services, CHANGES[how].format(table=table.name, **names))
    kinds = ("hours", "quarter hours", "sums of ms", "users", "values of path")
    assert {f"{kind} of page_view on {DAY}" for kind in kinds} == set(recount(services))
    for table in tables:
        execute(services, f"DELETE FROM {table.name}")
        execute(services, f"INSERT INTO {table.name} SELECT * FROM kept_{table.name}")
        if how == "updated":  # each of them is found, when the others are right
            assert (recount(services) == []) == (table is tables[-1])
    assert recount(services) == []


def test_a_day_of_long_ago_comes_up_too_and_is_kept_until_it_is_mended(services: Services) -> None:
    days = [LONG_AGO - timedelta(days=n) for n in range(5)]
    count_events(services, *[view(at=at) for at in days])
    services.flush()
    services.archive_events()
    for _ in range(2):
        assert recount(services) == []
    execute(services, f"UPDATE analytics_user_daily SET count = 7 WHERE date = '{days[3]:%F}'")
    said = f"users of page_view on {days[3]:%F}"
    found = [recount(services) for _ in range(3)]
    assert found[-1] == [said]
    assert all(lines == [said] for lines in found[found.index([said]) :])
    services.rebuild([days[3].date()], CLOCK)
    assert recount(services) == []


def test_what_an_old_day_lacks_when_it_is_first_compared_is_no_finding(services: Services) -> None:
    count_events(services, view(at=LONG_AGO))
    services.flush()
    services.archive_events()
    execute(services, "DELETE FROM analytics_dimension_daily")
    execute(services, "UPDATE analytics_daily SET count = 5")  # counted before there was an archive
    assert recount(services) == recount(services) == []
    execute(services, "UPDATE analytics_user_daily SET count = 5")
    assert recount(services) == [f"users of page_view on {LONG_AGO:%F}"]


def test_users_of_a_day_of_many_events_are_compared_by_postgres(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounting, "MOST_EVENTS", 3)
    count_some(services)
    services.flush()
    services.archive_events()
    count_some(services)
    services.claims.claim("batch", 3, (0, 0))
    count_some(services)
    said, keys = f"users of page_view on {DAY}", services.keys
    assert recount(services) == []
    for name in (keys.user("u1", "page_view", DAY), keys.user("u9", "page_view", DAY)):
        mend = change(services, name, 2)
        assert recount(services) == [said]
        mend()
        assert recount(services) == []
    for by in (1, -1):
        execute(services, f"UPDATE analytics_user_daily SET count = count + {by}")
        assert recount(services) == ([said, f"users of sale on {DAY}"] if by == 1 else [])
    services.erase_user("u1")
    assert recount(services) == []


def test_of_a_day_of_very_many_events_the_counts_of_types_are_compared(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MOST_EVENTS", "MOST_OF_USERS", "MOST_EVENTS_AGAIN"):
        monkeypatch.setattr(recounting, name, 3)
    count_some(services)
    services.flush()
    services.archive_events()
    execute(services, "UPDATE analytics_user_daily SET count = 70")
    assert recount(services) == []
    name = services.keys.daily("page_view", DAY)
    services.redis.set(name, 3)
    assert recount(services) == [f"hours of page_view on {DAY}"]
    services.redis.delete(name)
    assert recount(services) == []
    execute(services, "DELETE FROM analytics_quarter_hourly WHERE event_type = 'sale'")
    assert recount(services) == [f"quarter hours of sale on {DAY}"]


def test_a_lock_in_the_way_leaves_what_was_found(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recounting, "_PATIENCE_S", 0.05)
    count_some(services)
    mend = change(services, services.keys.user("u1", "page_view", DAY), 3)
    assert recount(services) == [f"users of page_view on {DAY}"]
    mend()
    with services.store.transaction():
        recounter = Recounter(services.counters, services.event_log, services.engine)
        assert recounter.recount(CLOCK) is None
    assert recount(services) == []
