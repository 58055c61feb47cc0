"""Partitions of raw events: days of the near past have their own, older ones share one."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.event import listens_for

from pipeline.event.model import Event
from pipeline.postgres import locks, partitions
from pipeline.postgres.partitions import OWN_DAYS
from pipeline.postgres.tables import events, user_daily
from pipeline.services import Services
from pipeline.upkeep.audits.counts import audit
from tests.helpers.support import NOW, count_events, execute


def partition_names(services: Services) -> set[str]:
    statement = "SELECT inhrelid::regclass::text FROM pg_inherits"
    return {name for [name] in execute(services, statement)}


def partition_of(services: Services) -> dict[date, str]:
    """The partition in which the events of each day are."""
    statement = "SELECT timestamp, tableoid::regclass::text FROM events"
    return {at.astimezone(UTC).date(): name for at, name in execute(services, statement)}


def test_each_day_of_the_near_past_has_its_partition_and_older_days_share_one(
    services: Services,
) -> None:
    now = datetime.now(UTC)
    times = [now + timedelta(hours=n - 12) for n in range(0, 36, 6)]
    own = [*times, now - timedelta(days=OWN_DAYS - 1)]
    shared = [now - timedelta(days=days) for days in (OWN_DAYS, 400, 3_000)]
    shared += [NOW.replace(year=1999), NOW.replace(year=1)]
    count_events(services, *(Event("page_view", at) for at in (*own, *shared)))
    services.archive_events()
    assert partition_of(services) == {
        **{at.date(): f"events_{at:%Y_%m_%d}" for at in own},
        **{at.date(): "events_default" for at in shared},
    }


def test_thousands_of_old_days_make_no_partition_and_hold_up_no_event(services: Services) -> None:
    now = datetime.now(UTC)
    for first in range(0, 3_000, 1_000):
        days = range(first + OWN_DAYS, first + 1_000 + OWN_DAYS)
        count_events(services, *(Event("page_view", now - timedelta(days=n)) for n in days))
    count_events(services, Event("page_view", now, "honest"))
    assert services.archive_events() == 3_001
    found = partition_of(services)
    assert found.pop(now.date()) == f"events_{now:%Y_%m_%d}"
    assert set(found.values()) == {"events_default"}


def test_a_batch_makes_the_partitions_of_its_busiest_days_only(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.postgres.partitions._MADE_AT_ONCE", 2)
    now = datetime.now(UTC)
    events = {now - timedelta(days=n): n for n in range(1, 6)}
    count_events(services, *(Event("page_view", at) for at, n in events.items() for _ in range(n)))
    services.archive_events()
    for _ in range(2):  # the other days share the default partition for good
        assert partition_of(services) == {
            at.date(): f"events_{at:%Y_%m_%d}" if n > 3 else "events_default"
            for at, n in events.items()
        }
        count_events(services, *(Event("page_view", at) for at in events))
        assert services.archive_events() == 5


def test_partitions_are_made_while_no_transaction_of_the_archive_is_open(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long that takes, nothing idles in a transaction meanwhile, or holds off an audit."""
    open_: list[int] = []
    make = partitions._make

    def observed(*arguments: Any) -> None:
        statement = (
            "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction' "
            "AND datname = current_database()"
        )
        open_.extend(execute(services, statement)[0])
        make(*arguments)

    monkeypatch.setattr(partitions, "_make", observed)
    count_events(services, Event("page_view", datetime.now(UTC)))
    assert services.archive_events() == 1
    assert open_ == [0]


def test_slow_partitions_outlast_a_low_timeout_of_idle_transactions(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An archive run of 3,000 days, for some of which Postgres takes long to make a partition."""
    low = str(locks._BEGIN_TRANSFER).replace("'60s'", "'1s'")
    assert low != str(locks._BEGIN_TRANSFER)
    monkeypatch.setattr(locks, "_BEGIN_TRANSFER", text(low))
    [[name]] = execute(services, "SELECT current_database()")
    execute(services, f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '1s'")
    services.engine.dispose()
    make = partitions._make

    def make_slowly(*arguments: Any) -> None:
        execute(services, "SELECT pg_sleep(1.2)")
        make(*arguments)

    monkeypatch.setattr(partitions, "_make", make_slowly)
    monkeypatch.setattr(partitions, "_MADE_AT_ONCE", 1)
    now = datetime.now(UTC)
    for first in range(0, 3_000, 1_000):
        times = [now - timedelta(days=first + n) for n in range(1_000)]
        count_events(services, *(Event("page_view", at, "u1") for at in times))
    assert services.archive_events() == 3_000
    assert execute(services, "SELECT count(*) FROM events") == [(3_000,)]
    of_days = [one for one in partition_names(services) if re.fullmatch(r"events_[\d_]+", one)]
    assert len(of_days) == 1


def test_where_a_partition_cannot_be_made_now_its_events_share_the_default_one(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export may read the table for an hour; that must hold up nothing."""
    monkeypatch.setattr("pipeline.postgres.partitions._LOCK_TIMEOUT", "50ms")
    now = datetime.now(UTC)
    count_events(services, Event("page_view", now, "1"))
    with services.engine.connect() as reading:
        reading.exec_driver_sql("SELECT 1 FROM events")
        assert services.archive_events() == 1
    count_events(services, Event("page_view", now, "2"))
    assert services.archive_events() == 1, "the default partition now has events of that day"
    assert execute(services, "SELECT count(*) FROM events") == [(2,)]
    assert execute(services, "SELECT count(*) FROM events_default") == [(2,)]
    services.maintain(now)  # nor does that hold up the partitions of other days
    assert f"events_{now + timedelta(days=7):%Y_%m_%d}" in partition_names(services)


def test_partitions_that_an_earlier_version_made_for_old_days_stay_in_use(
    services: Services,
) -> None:
    """It made one for every day since 2000 of which events came."""
    today = datetime.now(UTC).date()
    old = [today - timedelta(days=n) for n in (100, 300, 1_000, 3_000)]
    for day in old[1:]:
        partitions.ensure_days(services.engine, events, {f"{day}": 1}, day)
        partitions.ensure_months(services.engine, user_daily, {f"{day}": 1}, day)
    times = [datetime(day.year, day.month, day.day, 12, tzinfo=UTC) for day in old]
    count_events(services, *(Event("sale", at, "u1") for at in times))
    services.flush()
    assert services.archive_events() == len(times)
    found = execute(services, "SELECT tableoid::regclass::text FROM events ORDER BY timestamp DESC")
    names = [f"events_{day:%Y_%m_%d}" for day in old]
    assert [name for [name] in found] == ["events_default", *names[1:]]
    audited = (services.counters, services.event_log, services.engine)
    assert audit(*audited, old[-1], today) == []

    # On the upgraded installation, days beside them are counted, read, rebuilt and pruned as ever.
    beside = times[-1] + timedelta(days=1)
    count_events(services, Event("sale", beside, "u1"))
    services.archive_events()
    [rebuilt] = services.rebuild([beside.date()], datetime.now(UTC))
    assert rebuilt.changed == {}
    assert services.stats.user_count("u1", "sale", old[-1], today) == 5
    pruned = services.prune(today)
    assert pruned.dropped[:3] == [*reversed(names[1:])]
    assert "events_default" in pruned.emptied
    assert execute(services, "SELECT count(*) FROM events") == [(0,)]


def test_a_large_default_partition_is_not_searched_while_a_partition_is_attached(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reads and the archiving of old days would wait meanwhile."""
    monkeypatch.setattr(partitions, "_LARGE_BYTES", 0)
    execute(services, "INSERT INTO events SELECT 'a', '1999-01-01Z' FROM generate_series(1, 9)")
    said: list[str] = []

    @listens_for(services.engine, "connect")
    def listen(connection: Any, _: Any) -> None:
        connection.add_notice_handler(lambda one: said.append(one.message_primary))
        connection.execute("SET client_min_messages = debug1")
        connection.commit()

    services.engine.dispose()
    today = date(2040, 1, 15)
    partitions.make_ahead(services.engine, today, 1)
    partitions.make_ahead(services.engine, today, 2)  # a crash may have left a constraint
    implied = [one for one in said if "default partition" in one and "implied" in one]
    assert len([one for one in implied if '"events_default"' in one]) == 5  # not the next two days
    assert execute(services, "SELECT count(*) FROM events_default") == [(9,)]
    left = "SELECT conname FROM pg_constraint WHERE conname = 'analytics_ruled_out'"
    assert execute(services, left) == []
    execute(services, "INSERT INTO events SELECT 'a', '2050-01-01Z'")
