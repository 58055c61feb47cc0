"""Archiving: every logged event reaches the table `events` once, whatever step a crash falls on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from pipeline.counting.log_entries import pack
from pipeline.errors import ServerUnavailable
from pipeline.event_log.archive import KEPT_DAYS, Archive
from pipeline.event_log.archiving import ArchiveOptions, archive_entries
from pipeline.event_log.streams import GROUP, Entry, EventLog
from pipeline.postgres.engine import postgres_engine
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.conftest import MakeServices
from tests.helpers.aging import grow_older
from tests.helpers.interruptions import Crash, Crashing
from tests.helpers.support import NOW, count_events, event, execute

AT_ONCE = ArchiveOptions(idle_s=0)
"""Entries of others are taken over at once."""
STREAM = "analytics:events:0"


class CrashingLog(Crashing, EventLog):
    """Ends the process before or after a step in Redis."""

    def read(self, partition: int, consumer: str, count: int) -> list[Entry]:
        self.reached("before read")
        found = super().read(partition, consumer, count)
        self.reached("after read")
        return found

    def finish(self, entries: Sequence[Entry]) -> None:
        self.reached("before finish")
        super().finish(entries)
        self.reached("after finish")


class CrashingArchive(Crashing, Archive):
    """Ends the process before or after the commit."""

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        with super().transaction() as connection:
            yield connection
            self.reached("before commit")
        self.reached("after commit")


def crashing_archive(services: Services, step: str) -> None:
    log = CrashingLog(services.redis, services.keys)
    store = CrashingArchive(services.engine)
    log.step = store.step = step
    with pytest.raises(Crash):
        archive_entries(log, store, AT_ONCE)


def archived(services: Services) -> list[tuple[Any, ...]]:
    """The archived events in the order of their time."""
    statement = (
        "SELECT event_type, timestamp, user_id, properties::text, event_id FROM events "
        "ORDER BY timestamp, user_id"
    )
    return [tuple(row) for row in execute(services, statement)]


def users(services: Services) -> list[str]:
    return [row[2] for row in archived(services)]


def run(services: Services, options: ArchiveOptions = AT_ONCE) -> int:
    return archive_entries(services.event_log, services.archive, options)


def test_events_are_archived_as_they_came(services: Services) -> None:
    odd = 'a\\b\t"c"\né\u2028 \\N'
    name = 'a\\b "c" é\u2028 \\N'  # of types and users, a control character is no part
    before_2000 = NOW.replace(year=1987)
    count_events(
        services,
        event("sale", name, properties={"n": 10**30, "odd": odd, "deep": [{}]}, event_id=odd),
        event(name, timestamp=before_2000),
    )
    assert services.archive_events() == 2
    [old, new] = archived(services)
    assert old == (name, before_2000, None, None, None)
    assert new[:3] == ("sale", NOW, name)
    assert '"n":1000000000000000000000000000000' in new[3]
    assert execute(
        services, "SELECT properties->>'odd', event_id FROM events LIMIT 1 OFFSET 1"
    ) in (
        [(odd, odd)],
        [(None, None)],
    )
    assert execute(services, "SELECT event_id FROM events WHERE event_id IS NOT NULL") == [(odd,)]


def test_what_is_archived_leaves_the_stream_and_the_ledger_knows_it(services: Services) -> None:
    for _ in range(3):
        count_events(services, event(), event())
    assert services.archive_events() == 6
    assert services.archive_events() == 0
    assert services.redis.xlen(STREAM) == 0
    assert services.redis.hgetall(services.keys.events_sizes) == {
        b"0:bytes": b"0",
        b"0:events": b"0",
    }
    assert execute(services, "SELECT count(*), sum(events) FROM archived_entries") == [(3, 6)]
    assert services.redis.xinfo_consumers(STREAM, GROUP) == []


def test_all_partitions_are_archived(make_services: MakeServices) -> None:
    services = make_services(event_log_partitions=5)
    count_events(services, *(event(f"type{n}") for n in range(30)))
    assert services.archive_events() == 30
    assert len({row[0] for row in archived(services)}) == 30


@pytest.mark.parametrize(
    "step",
    ["before read", "after read", "before commit", "after commit", "before finish", "after finish"],
)
def test_a_crash_at_any_step_archives_each_event_once(services: Services, step: str) -> None:
    for n in range(6):
        count_events(services, event(user_id=f"{n}"), event(user_id=f"{n}+"))
    crashing_archive(services, step)
    count_events(services, event(user_id="later"))
    run(services)
    assert sorted(users(services)) == sorted(
        [f"{n}{ending}" for n in range(6) for ending in ("", "+")] + ["later"]
    )
    assert services.redis.xlen(STREAM) == 0


def test_without_the_ledger_a_crash_before_the_end_archives_twice(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archive, "enter", lambda self, _, read: {one.name for one in read})
    count_events(services, event(user_id="u1"))
    crashing_archive(services, "before finish")
    run(services)
    assert users(services) == ["u1", "u1"]


def test_what_a_consumer_holds_is_left_to_it_until_it_has_been_idle(services: Services) -> None:
    count_events(services, event(user_id="held"))
    services.event_log.open()
    services.event_log.read(0, "other", 10)
    count_events(services, event(user_id="free"))
    assert run(services, ArchiveOptions(idle_s=1_000)) == 1
    assert users(services) == ["free"]
    assert run(services) == 1
    assert sorted(users(services)) == ["free", "held"]


def test_a_dead_consumer_is_removed_once_it_holds_nothing(services: Services) -> None:
    count_events(services, event())
    services.event_log.open()
    services.event_log.read(0, "dead", 10)
    run(services, ArchiveOptions(idle_s=1_000))
    assert [one["name"] for one in services.redis.xinfo_consumers(STREAM, GROUP)] == [b"dead"]
    run(services)
    assert services.redis.xinfo_consumers(STREAM, GROUP) == []


def test_several_consumers_at_once_archive_each_event_once(services: Services) -> None:
    for n in range(200):
        count_events(services, event(user_id=f"{n}"))
    options = ArchiveOptions(idle_s=0, entries_at_once=3, events_at_once=5)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: run(services, options), range(4)))
    run(services)
    assert sorted(users(services)) == sorted(str(n) for n in range(200))


def test_many_entries_take_several_transactions(services: Services) -> None:
    for n in range(50):
        count_events(services, event(user_id=f"{n}"))
    run(services, ArchiveOptions(idle_s=0, entries_at_once=4, events_at_once=8))
    found = execute(services, "SELECT count(DISTINCT xmin::text::bigint) FROM archived_entries")
    assert found == [(7,)]
    assert len(users(services)) == 50


# What goes wrong


def test_while_postgres_is_away_nothing_is_taken(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    count_events(services, event(user_id="u1"))
    away = postgres_engine("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(OperationalError):
        archive_entries(services.event_log, Archive(away), AT_ONCE)
    assert services.redis.xpending(STREAM, GROUP)["pending"] == 0
    monkeypatch.setattr(services.archive, "engine", away)
    with pytest.raises(ServerUnavailable):
        services.archive_events()
    monkeypatch.undo()
    assert services.archive_events() == 1


def test_an_entry_that_cannot_be_read_becomes_a_dead_letter_after_some_tries(
    services: Services, caplog: pytest.LogCaptureFixture
) -> None:
    count_events(services, event(user_id="before"))
    bad = services.redis.xadd(
        STREAM, {"name": uuid4().hex, "events": 1, "format": "1", "blob": "?"}
    )
    services.redis.xadd(STREAM, {"somebody": "else's"})
    count_events(services, event(user_id="after"))
    tries = ArchiveOptions(idle_s=0, tries=3)
    for _ in range(2):
        run(services, tries)
        assert users(services) == ["after", "before"]
        assert services.redis.xlen(STREAM) == 2
    run(services, tries)
    assert services.redis.xlen(STREAM) == 0
    letters = dead_letters.list_stored(services.engine)
    [letter] = [one for one in letters if one.body == b"?"]
    assert letter.kind == "entry"
    assert letter.id.startswith(f"event-log-0-{bad.decode()}-")
    assert len(letters) == 2
    assert "becomes a dead letter" in caplog.text


def test_an_entry_of_a_later_version_waits_for_it(services: Services) -> None:
    fields = {"name": uuid4().hex, "events": 1, "format": "2", "blob": pack([event()])}
    services.redis.xadd(STREAM, fields)
    assert run(services) == 0
    assert services.redis.xlen(STREAM) == 1


def test_an_event_that_postgres_refuses_holds_up_no_other_entry(services: Services) -> None:
    refused = event(user_id="u" * 200)
    execute(services, "ALTER TABLE events ADD CHECK (length(user_id) < 100)")
    for one in (event(user_id="1"), refused, event(user_id="2")):
        count_events(services, one)
    run(services, ArchiveOptions(idle_s=0, tries=2))
    assert users(services) == ["1", "2"]
    assert services.redis.xlen(STREAM) == 1
    run(services, ArchiveOptions(idle_s=0, tries=2))
    [letter] = dead_letters.list_stored(services.engine)
    assert "Postgres refuses" in letter.reason
    assert services.redis.xlen(STREAM) == 0


def test_entries_of_a_redis_put_back_to_an_older_state_are_recognised(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    state = services.redis.dump(STREAM)
    services.archive_events()
    services.redis.delete(STREAM)
    services.redis.restore(STREAM, 0, state)
    count_events(services, event(user_id="u2"))
    assert services.archive_events() == 1
    assert users(services) == ["u1", "u2"]


def test_a_stream_made_anew_may_use_ids_again(services: Services) -> None:
    """A server that took over with a slower clock gives out ids that the lost one has used."""
    count_events(services, event(user_id="u1"))
    [(entry_id, _)] = services.redis.xrange(STREAM)
    services.archive_events()
    services.redis.delete(STREAM)
    fields = {"name": uuid4().hex, "events": 1, "format": "1", "blob": pack([event(user_id="u2")])}
    services.redis.xadd(STREAM, fields, id=entry_id)
    assert services.archive_events() == 1
    assert users(services) == ["u1", "u2"]


def test_a_stream_deleted_while_it_is_read_ends_the_run(services: Services) -> None:
    class Deleting(EventLog):
        def read(self, partition: int, consumer: str, count: int) -> list[Entry]:
            self.client.delete(STREAM)
            return super().read(partition, consumer, count)

    count_events(services, event())
    assert archive_entries(Deleting(services.redis, services.keys), services.archive) == 0


# The ledger


def test_the_ledger_forgets_what_is_old_and_gone_from_the_stream(services: Services) -> None:
    for _ in range(2):
        count_events(services, event())
    crashing_archive(services, "before finish")
    grow_older(services, timedelta(days=KEPT_DAYS + 1))
    services.maintain(datetime.now(UTC))
    assert execute(services, "SELECT count(*) FROM archived_entries") == [(2,)]
    run(services)
    services.maintain(datetime.now(UTC))
    assert execute(services, "SELECT count(*) FROM archived_entries") == [(0,)]
    assert len(archived(services)) == 2


def test_gaps_are_stored_once_by_type_hour_and_reason(make_services: MakeServices) -> None:
    services = make_services(event_log=["sale"])
    count_events(services, event(), event("sale"), event(timestamp=NOW - timedelta(hours=1)))
    services.flush()
    count_events(services, event())
    services.flush()
    statement = "SELECT event_type, reason, hour, count FROM event_log_gaps ORDER BY hour"
    hour = NOW.replace(minute=0, second=0)
    assert [tuple(row) for row in execute(services, statement)] == [
        ("page_view", "off", hour - timedelta(hours=1), 1),
        ("page_view", "off", hour, 2),
    ]
