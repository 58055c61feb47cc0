"""The helper that lets everything grow older does to Redis and Postgres what time does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import DateTime

from pipeline.counting.batch import BadEvent
from pipeline.event.model import Event
from pipeline.flushing.claims import BATCH_LISTED_S
from pipeline.postgres.sealing.events import pack_day
from pipeline.postgres.sealing.seals import seal
from pipeline.postgres.tables import metadata
from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.redis.client import server_time_s
from pipeline.services import Services
from pipeline.sharing.annotations import Annotations
from pipeline.sharing.saved_views import SavedViews
from pipeline.upkeep import dead_letters
from tests.conftest import MakeServices
from tests.helpers.aging import grow_older
from tests.helpers.support import TODAY, count_events, event, execute, message, restore

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)


def lifetimes_s(services: Services) -> dict[str, int]:
    """Keys that end by themselves, with the seconds left to each."""
    found = {name.decode(): services.redis.ttl(name) for name in services.redis.scan_iter()}
    return {name: ttl_s for name, ttl_s in found.items() if ttl_s >= 0}


def test_what_has_a_lifetime_has_less_of_it_or_is_gone(services: Services) -> None:
    services.redis.set("hour", 1, ex=3_600)
    services.redis.set("day", 1, ex=86_400)
    grow_older(services, HOUR)
    [(name, left_s)] = lifetimes_s(services).items()
    assert name == "day"
    assert 86_400 - 3_600 - 60 < left_s <= 86_400 - 3_600


def test_counters_and_pending_names_do_not_age(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    before = services.claims.pending()
    grow_older(services, 10_000 * DAY)
    assert services.claims.pending() == before == 3
    assert services.redis.get(services.keys.daily("page_view", "2025-03-14")) == b"1"


def test_an_open_batch_stays_and_a_settled_one_leaves_as_it_would(services: Services) -> None:
    for batch_id in ("settled", "open"):
        count_events(services, event())
        services.claims.claim(batch_id, 1_000, (0, 0))
    services.claims.settle("settled")

    grow_older(services, 300 * SECOND)

    assert services.claims.open_batches() == ["open"]
    assert not services.redis.exists(services.keys.inflight + "settled")
    assert services.claims.take_over("open").number
    grow_older(services, BATCH_LISTED_S * SECOND)
    services.claims.settle("open")
    assert services.claims.listed(["open", "settled"]) == {"open"}


def test_what_is_unacknowledged_becomes_a_dead_workers(services: Services) -> None:
    services.redis.hset(services.keys.unacked, "t1", '["{}", "", "queue"]')
    services.redis.zadd(services.keys.unacked_index, {"t1": server_time_s(services.redis)})
    assert restore(services, older_than_s=60) == 0
    grow_older(services, 61 * SECOND)
    assert restore(services, older_than_s=60) == 1
    services.redis.delete("queue")


@pytest.mark.parametrize(("by", "counted"), [(23 * HOUR, 0), (37 * HOUR, 1)], ids=str)
def test_an_id_is_forgotten_when_its_window_has_passed(
    services: Services, by: timedelta, counted: int
) -> None:
    delivery = message(event(event_id="k"))
    services.counters.apply([delivery], datetime.now(UTC))
    grow_older(services, by)
    assert services.counters.apply([delivery], datetime.now(UTC)).counted == counted


def test_dead_letters_are_those_of_earlier_wherever_they_are(services: Services) -> None:
    began = datetime.now(UTC).replace(microsecond=0)
    for body in (b"1", b"2"):
        services.counters.apply([message(bad=[BadEvent(body, "reason")])], began)
    grow_older(services, DAY)
    services.move_dead_letters()
    grow_older(services, DAY)
    letters = dead_letters.list_stored(services.engine)
    assert sorted(letter.body for letter in letters) == [b"1", b"2"]
    for letter in letters:
        assert began - 2 * DAY <= letter.created_at <= datetime.now(UTC) - 2 * DAY


def test_the_ledger_and_the_wait_for_a_flush_are_older(services: Services) -> None:
    count_events(services, event())
    services.flush()
    count_events(services, event())
    grow_older(services, HOUR)
    assert services.claims.oldest_pending_s() in range(3_600, 3_660)
    since = "SELECT count(*) FROM flush_batches WHERE stored_at > now() - interval '1 hour'"
    assert execute(services, since) == [(0,)]


def test_every_time_in_postgres_is_moved_save_those_of_events(make_services: MakeServices) -> None:
    services = make_services(
        count_by={"page_view": ["path"]}, sum={"page_view": {"n": 0}}, event_log=["page_view"]
    )
    now = datetime.now(UTC)
    count_events(services, Event.create("page_view", "u1", {"path": "/", "n": 5}, now=now))
    count_events(services, Event.create("not_logged", now=now))
    services.counters.apply([message(bad=[BadEvent(b"", "reason")])], now)
    services.flush()
    services.archive_events()
    services.move_dead_letters()
    seal(services.engine, "events", [TODAY], pack_day)
    services.reports.ask(BreakdownQuestion("page_view", TODAY, TODAY))
    Annotations(services.engine).add(now, "a note", "token")
    SavedViews(services.engine).save("a view", "/dashboard", "token")
    grow_older(services, 10 * DAY)
    of_events = ("hour", "quarter", "timestamp")
    looked_at = set[str]()
    for table in metadata.tables:
        for row in execute(services, f"SELECT * FROM {table}"):
            for column, value in row._mapping.items():
                if isinstance(value, datetime):
                    looked_at.add(table)
                    assert (value < now - DAY) == (column not in of_events), (table, column)
    assert looked_at == {
        name
        for name, table in metadata.tables.items()
        if any(isinstance(column.type, DateTime) for column in table.columns)
    }
