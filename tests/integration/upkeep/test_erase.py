"""Erasing a user: nothing names them any more, every total stays, and the books balance."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from threading import Event as Flag
from threading import Thread

import pytest
import redis
from sqlalchemy import text

from pipeline.counting import erased_users
from pipeline.counting.batch import BadEvent, Delivery
from pipeline.errors import InvalidEvent
from pipeline.event.model import Event
from pipeline.event_log.archiving import ArchiveOptions, archive_entries
from pipeline.event_log.queries import EventFilter, read_newest
from pipeline.event_log.streams import GROUP
from pipeline.redis.client import server_time_s
from pipeline.redis.keys import Keys
from pipeline.services import Services
from pipeline.upkeep.erase import SoughtUser, concerns
from tests.helpers.support import (
    NOW,
    TODAY,
    count_events,
    event,
    execute,
    live_counts,
    message,
    rows,
)

ANN = "ann:%é/1"  # nothing else here contains it, and keys escape it
DAYS = (TODAY - timedelta(days=1), TODAY)


def traces(services: Services, client: redis.Redis, user_id: str) -> list[str]:
    """Where the user is still named: keys, members, values, rows."""
    services.archive_events()
    forms = [form.encode() for form in (user_id, user_id.replace("%", "%25").replace(":", "%3A"))]
    found = []
    for key in client.scan_iter():
        kind = client.type(key)
        content: Iterable[object] = {
            b"string": lambda key=key: [client.get(key)],
            b"set": lambda key=key: client.smembers(key),
            b"zset": lambda key=key: client.zrange(key, 0, -1),
            b"hash": lambda key=key: [
                part for pair in client.hgetall(key).items() for part in pair
            ],
            b"stream": lambda key=key: [repr(client.xrange(key)).encode()],
            b"list": lambda key=key: client.lrange(key, 0, -1),
        }[kind]()
        texts = b"\n".join([key, *(part for part in content if isinstance(part, bytes))])
        found += [f"Redis: {key.decode()}" for form in forms if form in texts]
    for table in ("analytics_user_daily", "analytics_user_numbers", "events", "dead_letters"):
        for row in execute(services, f"SELECT * FROM {table}"):
            if user_id in repr(tuple(row)) or user_id in str(
                [bytes(one).decode() for one in row if isinstance(one, bytes)]
            ):
                found.append(f"{table}: {tuple(row)}")
    return found


def a_life(services: Services, user_id: str = ANN) -> None:
    """Events of the user everywhere: stored, claimed, live, archived, logged; and of another."""
    both = [user_id, "bob"]
    count_events(services, *[event(user_id=one, properties={"path": "/a"}) for one in both])
    services.flush()
    services.archive_events()
    for n in range(3):
        count_events(services, *[event(user_id=one, event_id=f"{one}{n}") for one in both])
    services.claims.claim("left", 1_000, (0, 0))  # by a flush that died
    yesterday = NOW - timedelta(days=1)
    private = {"path": "/b", "email": "a@b.example", "n": 1.50}
    count_events(
        services,
        *[event("page_view", one, timestamp=yesterday, properties=private) for one in both],
        *[event("signup", one) for one in both],
    )


def totals(services: Services) -> dict[str, object]:
    """All numbers that are no user's."""
    found: dict[str, object] = {
        event_type: services.stats.series(event_type, *DAYS, "hour")
        for event_type in ("page_view", "signup")
    }
    for value in ("/a", "/b"):
        found[value] = services.stats.property_count("page_view", "path", value, *DAYS)
    return found | {"bob": services.stats.user_counts("bob")}


def agree(services: Services) -> bool:
    """Whether archive and counters agree, and a rebuild would change nothing."""
    rebuilt = services.rebuild(DAYS, datetime.now(UTC), dry_run=True)
    return services.audit(*DAYS) == [] and all(not one.changed for one in rebuilt)


def test_nothing_names_the_user_and_every_total_stays(
    services: Services, client: redis.Redis
) -> None:
    a_life(services)
    before = totals(services)
    assert traces(services, client, ANN)

    removed = services.erase_user(ANN)

    assert services.stats.user_counts(ANN) == {}
    assert totals(services) == before
    assert traces(services, client, ANN) == []
    assert removed.counters >= 4
    assert removed.events == 6
    assert agree(services)


def test_archived_events_keep_what_is_counted_and_nothing_else(services: Services) -> None:
    a_life(services)

    services.erase_user(ANN)

    erased_events = execute(
        services,
        "SELECT event_type, event_id, properties::text FROM events WHERE user_id IS NULL",
    )
    assert sorted(map(repr, map(tuple, erased_events))) == sorted(
        map(
            repr,
            [
                ("page_view", None, '{ "path" : "/a" }'),
                ("page_view", None, '{ "path" : "/b" }'),
                *[("page_view", None, None)] * 3,
                ("signup", None, None),
            ],
        )
    )


def test_a_repeat_is_harmless(services: Services, client: redis.Redis) -> None:
    a_life(services)
    services.erase_user(ANN)
    before = totals(services)

    again = services.erase_user(ANN)
    unknown = services.erase_user("nobody")

    assert (again.counters, again.events, again.dead_letters) == (0, 0, 0)
    assert (unknown.counters, unknown.events) == (0, 0)
    assert totals(services) == before
    assert traces(services, client, ANN) == []


def test_events_in_flight_are_dropped_on_arrival_and_kept_in_the_books(
    services: Services, client: redis.Redis
) -> None:
    count_events(services, event(user_id=ANN))
    services.erase_user(ANN)
    waiting = [event(user_id=ANN), event("signup", ANN), event(user_id="bob")]

    applied = count_events(services, *waiting)

    assert (applied.counted, applied.forgotten) == (1, 2)
    books = services.status()["books"]
    assert books["balanced"]
    assert (books["consumed"], books["counted"], books["forgotten"]) == (4, 2, 2)
    assert books["by_type"]["signup"] == {"consumed": 1, "forgotten": 1}
    assert traces(services, client, ANN) == []


def test_a_worker_that_knew_nothing_of_it_finds_out_in_the_same_step(
    make_services: object,
) -> None:
    worker, other = make_services(), make_services()  # type: ignore[operator]
    count_events(worker, event(user_id="bob"))
    other.erase_user(ANN)

    applied = count_events(worker, event(user_id=ANN), event(user_id="bob"))

    assert (applied.counted, applied.forgotten) == (1, 1)


def test_a_user_who_comes_back_is_counted_anew(services: Services) -> None:
    count_events(services, event(user_id=ANN), event(user_id=ANN))
    services.erase_user(ANN)
    later = Event.create("page_view", ANN, now=datetime.now(UTC) + timedelta(seconds=1))

    applied = count_events(services, later, event(user_id=ANN))

    assert (applied.counted, applied.forgotten) == (1, 1)
    assert services.stats.user_counts(ANN) == {"page_view": {later.timestamp.date(): 1}}
    services.archive_events()
    assert execute(services, "SELECT count(*) FROM events WHERE user_id IS NOT NULL")[0][0] == 1


def test_entries_that_another_consumer_held_name_the_user_no_longer_when_archived(
    services: Services, client: redis.Redis
) -> None:
    """A consumer that died before the erasure has taken the entry from others."""
    count_events(services, event(user_id=ANN, properties={"path": "/a", "x": ANN}))
    services.event_log.open()
    client.xreadgroup(GROUP, "died", {services.keys.events(0): ">"})
    removed = services.erase_user(ANN)
    assert agree(services)  # with the entry as it waits

    archived = archive_entries(services.event_log, services.archive, ArchiveOptions(idle_s=0))

    assert (removed.events, archived) == (0, 1)
    assert traces(services, client, ANN) == []
    assert agree(services)


def test_dead_letters_of_the_user_are_dropped_wherever_they_are(
    services: Services, client: redis.Redis
) -> None:
    def bad(user_id: str) -> Delivery:
        raw = json.dumps({"event_type": "x", "user_id": user_id, "properties": 1}).encode()
        return message(bad=[BadEvent(raw, "properties: must be an object", event_type="x")])

    services.counters.apply([bad(ANN), bad("bob")], NOW)
    services.move_dead_letters()
    services.counters.apply([bad(ANN), bad("bob")], NOW)

    removed = services.erase_user(ANN)
    late = services.counters.apply([bad(ANN)], NOW)

    assert removed.dead_letters == 2
    assert (late.dead, late.forgotten) == (0, 1)
    assert services.status()["dead_letters"] == 2
    assert services.status()["books"]["balanced"]
    assert traces(services, client, ANN) == []


def test_an_event_with_a_nul_in_a_value_is_erased_like_any_other(
    services: Services, client: redis.Redis
) -> None:
    kept = {"path": "/\x00a", "email": "a\x00@b.example", "\\u0000": "\\u0000"}
    count_events(services, event(user_id=ANN, properties=kept), event(user_id=ANN))
    count_events(services, event(user_id="bob", properties=kept))
    services.flush()
    services.archive_events()

    assert services.erase_user(f"{ANN}\n").events == 2

    assert traces(services, client, ANN) == []
    archived = {
        one.user_id: one.properties for one in read_newest(services.engine, EventFilter(), 9)
    }
    assert archived["bob"] == kept
    assert services.stats.property_count("page_view", "path", "/\x00a", *DAYS) == 2
    assert agree(services)


@pytest.mark.parametrize("user_id", ["", " \x00", "x" * 257])
def test_what_can_be_no_id_is_refused(services: Services, user_id: str) -> None:
    with pytest.raises(InvalidEvent, match="user_id"):
        services.erase_user(user_id)


@pytest.mark.parametrize(
    ("kind", "body", "is_theirs"),
    [
        ("event", {"event_type": "x", "user_id": "ann"}, True),
        ("event", {"event_type": "ann", "user_id": "bob"}, False),
        ("message", {"body": b64encode(b'[["x", "ann"], {}, {}]').decode()}, True),
        ("message", {"body": b64encode(b'[["x"], {"user_id": "ann"}, {}]').decode()}, True),
        ("message", {"body": b64encode(b'[[[{"user_id": "ann"}]], {}, {}]').decode()}, True),
        ("message", {"body": b64encode(b'[["ann", "bob"], {}, {}]').decode()}, False),
        ("message", {"body": '[["x", "ann"'}, True),
    ],
)
def test_a_dead_letter_is_known_by_the_user_it_names(
    kind: str, body: dict[str, object], is_theirs: bool
) -> None:
    assert concerns(SoughtUser(("ann",)), kind, json.dumps(body).encode(), Keys()) is is_theirs


def test_a_dead_counter_of_the_user_is_known_by_its_name() -> None:
    theirs, other = Keys().user(ANN, "x", "2025-03-14"), Keys().daily(ANN, "2025-03-14")
    assert concerns(SoughtUser((ANN,)), "counter", f"{theirs} 12".encode(), Keys())
    assert not concerns(SoughtUser((ANN,)), "counter", f"{other} 12".encode(), Keys())


def test_entries_leave_after_thirty_days_and_workers_hear_of_it(
    services: Services, client: redis.Redis
) -> None:
    services.erase_user(ANN)
    services.erase_user("bob")
    now_ms = server_time_s(services.redis) * 1000
    old_ms = now_ms - (erased_users.KEPT_DAYS * 86_400_000 + 5_000)
    client.hset(services.keys.forgotten, erased_users.digest_user(ANN), old_ms)
    before = erased_users.read(client, services.keys)

    left = erased_users.expire(client, services.keys)

    after = erased_users.read(client, services.keys)
    assert left == 1
    assert set(after.at_ms) == {erased_users.digest_user("bob")}
    assert after.version > before.version
    assert erased_users.expire(client, services.keys) == 0
    assert erased_users.read(client, services.keys) == after


@pytest.mark.parametrize("seed", range(3))
def test_erasing_under_traffic_flushes_and_archive_runs_stays_exact(
    services: Services, client: redis.Redis, seed: int
) -> None:
    """Whatever moves meanwhile: afterwards nothing names the user, and all else adds up."""
    stop, failed = Flag(), []

    def repeat(work: object) -> Thread:
        def run() -> None:
            try:
                while not stop.is_set():
                    work()  # type: ignore[operator]
            except Exception as error:  # told below
                failed.append(error)
                stop.set()

        thread = Thread(target=run)
        thread.start()
        return thread

    counted = [0]

    def traffic() -> None:
        some = [event(user_id=one, properties={"path": "/a"}) for one in (ANN, "bob")]
        counted[0] += count_events(services, *some).counted

    threads = [repeat(work) for work in (traffic, services.flush, services.archive_events)]
    try:
        while counted[0] < 20 + 10 * seed and not stop.is_set():
            stop.wait(0.005)
        services.erase_user(ANN)
        here = counted[0]
        while counted[0] < here + 20 and not stop.is_set():
            stop.wait(0.005)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed

    services.flush()
    assert services.stats.user_counts(ANN) == {}
    assert services.stats.count("page_view", TODAY, TODAY) == counted[0]
    assert services.stats.property_count("page_view", "path", "/a", *DAYS) == counted[0]
    assert services.status()["books"]["balanced"]
    assert services.status()["books"]["forgotten"] > 0
    assert agree(services)
    assert traces(services, client, ANN) == []
    assert all(row[2] == "bob" for row in rows(services, "analytics_user_daily"))
    with services.engine.connect() as connection:
        users = connection.execute(text("SELECT DISTINCT user_id FROM events")).scalars()
        assert set(users) == {None, "bob"}


def test_a_user_with_the_name_of_an_event_type_leaves_the_counts_of_its_values(
    services: Services,
) -> None:
    """The fields of both begin with the same text, and some are in the same bucket."""
    paths = [f"/{n}" for n in range(100)]
    user = event(user_id="page_view", properties={"path": "/0"})
    count_events(services, user, *[event(properties={"path": path}) for path in paths])
    before = {name: n for name, n in live_counts(services).items() if ":dim:" in name}
    assert services.stats.user_counts("page_view") == {"page_view": {TODAY: 1}}
    services.erase_user("page_view")
    live = live_counts(services)
    assert {name: n for name, n in live.items() if ":dim:" in name} == before
    assert not [name for name in live if ":user:" in name]
