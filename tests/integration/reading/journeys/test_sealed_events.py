"""Seals of raw events: what was packed of a closed day is what a funnel would find in its rows, at
every instant, whatever comes late, is killed or goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import date, timedelta
from threading import Event as Flag
from threading import Thread

from sqlalchemy import Connection

from pipeline.postgres.sealing.events import pack_day, prune_day_events, seal_events
from pipeline.postgres.sealing.seals import read_sealed, seal
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.services import Services
from pipeline.upkeep.audits.packed_events import EventsDifference
from tests.conftest import MakeServices
from tests.helpers.journeys.archive import Row, put
from tests.helpers.support import NOW, TODAY, count_events, event, execute

ROWS: list[Row] = [
    ("a", NOW, "u1", None),
    ("b", NOW + timedelta(seconds=3), "u1", None),
    ("a", NOW, "u2", None),
]
FUNNEL = FunnelQuestion(("a", "b"), TODAY, TODAY, "1h")


def sealed(services: Services) -> set[date]:
    with services.engine.connect() as connection:
        return read_sealed(connection, "events")


def users(services: Services) -> list[int]:
    return [step.users for step in services.stats.funnel(FUNNEL).steps]


def come_late(services: Services, *names: str) -> None:
    """Have events of a closed day come now."""
    count_events(
        services, *(event(name, "u2", timestamp=NOW + timedelta(seconds=5)) for name in names)
    )
    services.archive_events()


def test_maintenance_seals_the_days_that_are_over(services: Services) -> None:
    put(services, ROWS)

    services.maintain(NOW + timedelta(hours=9))  # today still, and tomorrow for an hour
    assert sealed(services) == set()
    services.maintain(NOW + timedelta(hours=10))

    assert sealed(services) == {TODAY}
    execute(services, "DELETE FROM events")  # so that the rows cannot be what is read
    assert users(services) == [2, 1]


def test_late_events_unseal_their_day(services: Services) -> None:
    put(services, ROWS)
    seal(services.engine, "events", [TODAY], pack_day)

    come_late(services, "b")

    assert sealed(services) == set()
    assert users(services) == [2, 2]
    seal_events(services.engine, TODAY + timedelta(days=1))
    assert sealed(services) == {TODAY}
    assert users(services) == [2, 2]


def test_events_that_come_during_a_sealing_unseal_the_day(services: Services) -> None:
    put(services, ROWS)

    def pack_slowly(connection: Connection, day: date) -> None:
        pack_day(connection, day)
        come_late(services, "b")

    assert seal(services.engine, "events", [TODAY], pack_slowly) == []
    assert sealed(services) == set()
    assert users(services) == [2, 2]
    assert execute(services, "SELECT count(*) FROM analytics_day_events") == [(0,)]


def test_an_archive_run_that_began_before_a_sealing_is_waited_for(services: Services) -> None:
    put(services, ROWS)
    count_events(services, event("b", "u2", timestamp=NOW + timedelta(seconds=5)))
    entries = [
        entry
        for stream in services.event_log.open()
        for entry in services.event_log.read(stream.partition, "mine", 10)
    ]
    done = Flag()

    def seal_beside() -> None:
        seal(services.engine, "events", [TODAY], pack_day)
        done.set()

    with services.archive.transaction() as connection:
        services.archive.save(connection, entries)
        sealing = Thread(target=seal_beside)
        sealing.start()
        assert not done.wait(0.3)
    sealing.join()

    assert sealed(services) == {TODAY}
    assert users(services) == [2, 2]


def test_a_removed_type_unseals_its_days(services: Services) -> None:
    put(services, ROWS)
    seal(services.engine, "events", [TODAY], pack_day)

    services.remove_types(["b"], TODAY)

    assert sealed(services) == set()
    assert users(services) == [2, 0]


def test_a_user_who_is_erased_stays_in_the_totals_of_sealed_days(services: Services) -> None:
    put(services, ROWS)
    seal(services.engine, "events", [TODAY], pack_day)

    services.erase_user("u1")

    assert sealed(services) == {TODAY}
    assert users(services) == [2, 1]
    come_late(services, "b")
    seal_events(services.engine, TODAY + timedelta(days=1))
    assert users(services) == [2, 2]
    assert services.audit_packed(TODAY, TODAY) == []


def test_an_audit_finds_what_is_packed_and_is_no_row(services: Services) -> None:
    put(services, ROWS)
    seal(services.engine, "events", [TODAY], pack_day)
    assert services.audit_packed(TODAY, TODAY) == []

    execute(services, "DELETE FROM events WHERE event_type = 'b'")
    execute(services, "UPDATE analytics_day_events SET count = 9 WHERE event_type = 'a'")

    assert services.audit_packed(TODAY, TODAY) == [
        EventsDifference("a", TODAY, -1, 2),
        EventsDifference("b", TODAY, 1, 0),
    ]
    assert services.seal_events(NOW + timedelta(days=2), [TODAY]) == [TODAY]
    assert services.audit_packed(TODAY, TODAY) == []


def test_pruned_days_keep_nothing(services: Services) -> None:
    put(services, ROWS)
    seal(services.engine, "events", [TODAY], pack_day)

    prune_day_events(services.engine, TODAY)
    assert sealed(services) == {TODAY}
    prune_day_events(services.engine, TODAY + timedelta(days=1))

    assert sealed(services) == set()
    assert execute(services, "SELECT count(*) FROM analytics_day_events") == [(0,)]


def test_pruning_raw_events_prunes_what_was_packed(make_services: MakeServices) -> None:
    services = make_services(events_retention_days=30)
    put(services, ROWS)
    seal(services.engine, "events", [TODAY], pack_day)

    services.prune(TODAY + timedelta(days=31))

    assert sealed(services) == set()
    assert users(services) == [0, 0]


SEALING = """
import os, signal, sys
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.sealing import events, seals
from datetime import date

def die(connection, day):
    events.pack_day(connection, day)
    if sys.argv[2] == "after packing":
        os.kill(os.getpid(), signal.SIGKILL)

if sys.argv[2] == "before packing":
    events.pack_day = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
seals.seal(postgres_engine(sys.argv[1]), "events", [date(2025, 3, 14)], die)
"""


def test_a_sealing_that_is_killed_changes_nothing_and_is_made_again(
    services: Services, postgres_url: str
) -> None:
    put(services, ROWS)
    for step in ("before packing", "after packing"):
        killed = subprocess.run(
            [sys.executable, "-c", SEALING, postgres_url, step], check=False, timeout=60
        )
        assert killed.returncode == -signal.SIGKILL
        assert sealed(services) == set()
        assert users(services) == [2, 1]

    come_late(services, "b")
    assert users(services) == [2, 2]
    assert seal_events(services.engine, TODAY + timedelta(days=1)) == [TODAY]
    assert users(services) == [2, 2]
