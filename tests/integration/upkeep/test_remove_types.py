"""Removing junk event types: what was counted of them becomes part of the rest, and totals stay."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from pipeline.counting.batch import BadEvent, Delivery
from pipeline.errors import CannotRemoveType, InvalidEvent
from pipeline.event.model import Event
from pipeline.event_log.archive import Archive
from pipeline.services import Services
from pipeline.upkeep.event_types.books import forget_rare_types
from pipeline.upkeep.event_types.removal import TypeRemover
from tests.conftest import MakeServices
from tests.helpers.support import count_events, execute, message, rows

CLOCK = datetime.now(UTC)
TODAY = CLOCK.date()
YESTERDAY = TODAY - timedelta(days=1)
JUNK = ("junk", "odd:ju%nk")


def some(n: int = 1, user_id: str | None = None) -> list[Event]:
    """Events of junk and of a real type, today and yesterday."""
    return [
        Event(name, at, user_id, {"path": f"/{n}", "x": 1})
        for name in (*JUNK, "page_view")
        for at in (CLOCK, CLOCK - timedelta(days=1))
        for _ in range(n)
    ]


@pytest.fixture
def counted(services: Services) -> Services:
    """Events that are stored, claimed, live, archived and waiting."""
    count_events(services, *some(2, "u1"))
    services.flush()
    services.archive_events()
    count_events(services, *some(3, "u1"))
    services.claims.claim("of types", 7, (0, 0))
    services.claims.claim("open", 1_000, (0, 0))
    count_events(services, *some(4, "u2"), *some(1))
    return services


def remove(services: Services, *names: str) -> tuple[int, int]:
    found = services.remove_types(names or JUNK, TODAY)
    return found.events, found.archived


def of_type(services: Services, event_type: str) -> int:
    return services.stats.count(event_type, YESTERDAY, TODAY)


def books(services: Services) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = services.status()["books"]["by_type"]
    return found


def assert_removed(services: Services, other: int) -> None:
    """All of junk is part of the rest, wherever one may look."""
    for name in JUNK:
        assert of_type(services, name) == 0
    assert of_type(services, "__other__") == other
    services.flush()
    services.archive_events()
    assert {row[0] for row in rows(services, "analytics_hourly")} == {"__other__", "page_view"}
    assert {row[1] for row in rows(services, "analytics_user_daily")} <= {"__other__", "page_view"}
    names = [name for name in services.redis.scan_iter() if b"junk" in name or b"ju%25nk" in name]
    assert names == []
    assert services.audit(YESTERDAY, TODAY) == []
    assert not services.rebuild([YESTERDAY], CLOCK, dry_run=True)[0].changed
    found = services.status()["books"]
    assert found["balanced"]
    assert found["by_type"]["__other__"] == {"consumed": other, "counted": other}


def test_all_that_was_counted_of_junk_is_part_of_the_rest(counted: Services) -> None:
    assert remove(counted) == (40, 40)
    assert_removed(counted, 40)
    assert of_type(counted, "page_view") == 20
    assert counted.stats.user_counts("u1")["__other__"] == {YESTERDAY: 10, TODAY: 10}
    assert counted.stats.user_counts("u2")["__other__"] == {YESTERDAY: 8, TODAY: 8}


def test_a_repeat_does_nothing(counted: Services) -> None:
    remove(counted)
    assert remove(counted) == (0, 0)
    assert_removed(counted, 40)


def test_the_archive_keeps_the_name_and_the_properties_as_they_came(services: Services) -> None:
    odd = ["{}", " { } ", '{"a": 1.0e5, "a": {"}": 2}}', "null", None]
    for text in odd:
        written = "NULL" if text is None else f"'{text}'"
        execute(
            services,
            "INSERT INTO events (event_type, timestamp, properties) "
            f"VALUES ('junk', now(), {written})".replace(":", "\\:"),
        )
    assert remove(services)[1] == len(odd)
    found = [row[0] for row in execute(services, "SELECT CAST(properties AS TEXT) FROM events")]
    name = '"__event_type__":"junk"'
    plain = "{" + name + "}"
    assert sorted(found) == sorted([plain] * 4 + ["{" + name + ',"a": 1.0e5, "a": {"}": 2}}'])


def test_what_comes_later_is_part_of_the_rest_until_the_type_is_restored(
    counted: Services, make_services: MakeServices
) -> None:
    remove(counted)
    count_events(counted, *some(1))
    count_events(make_services(), *some(1))
    assert [of_type(counted, name) for name in ("junk", "__other__")] == [0, 48]
    assert counted.restore_types(["junk", "never removed"], TODAY) == 1
    count_events(counted, *some(1))
    assert [of_type(counted, name) for name in (*JUNK, "__other__")] == [2, 0, 50]
    assert counted.audit(YESTERDAY, TODAY) == []


def test_entries_that_a_dead_consumer_holds_are_renamed_too(counted: Services) -> None:
    [stream] = counted.event_log.open()
    assert counted.event_log.read(stream.partition, "dead", 100)
    remove(counted)
    found = execute(counted, "SELECT DISTINCT event_type FROM events ORDER BY 1")
    assert [row[0] for row in found] == ["__other__", "page_view"]
    assert counted.audit(YESTERDAY, TODAY) == []


def test_values_of_a_junk_type_are_dropped(make_services: MakeServices) -> None:
    before = make_services(count_by={"junk": ["path"]})
    count_events(before, *some(1))
    before.flush()
    count_events(before, *some(1))
    services = make_services()
    remove(services)
    services.flush()
    assert rows(services, "analytics_dimension_daily") == []
    assert of_type(services, "__other__") == 8


def test_types_that_the_settings_name_are_not_removed(counted: Services) -> None:
    for name in ("page_view", "__other__", "__unknown__"):
        with pytest.raises(CannotRemoveType, match="settings"):
            remove(counted, "junk", name)
    with pytest.raises(InvalidEvent):
        remove(counted, "")
    assert of_type(counted, "junk") == 20


def test_counting_and_flushing_go_on_meanwhile(make_services: MakeServices) -> None:
    """Workers count and flush while junk is removed again and again: nothing is lost or doubled."""
    made = [make_services() for _ in range(4)]
    over = threading.Event()
    sent = [0, 0]

    def work(at: int) -> None:
        while not over.is_set():
            count_events(made[at], *some(1, f"u{sent[at] % 5}"))
            sent[at] += 1

    def move() -> None:
        while not over.is_set():
            made[2].flush()
            made[2].archive_events()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
    threads.append(threading.Thread(target=move))
    for one in threads:
        one.start()
    services = made[3]
    for _ in range(4):
        before = sum(sent)
        remove(services)
        services.restore_types(JUNK, TODAY)
        while sum(sent) < before + 20:
            over.wait(0.02)
    remove(services)
    over.set()
    for one in threads:
        one.join()
    # What the workers counted while the types were restored is folded by the last one.
    assert_removed(services, 4 * sum(sent))
    assert of_type(services, "page_view") == 2 * sum(sent)


class Crash(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    ("part", "after"),
    [
        (TypeRemover._mark, True),
        (Archive.save, True),
        (TypeRemover._fold_redis, True),
        (TypeRemover._fold, True),
    ],
    ids=lambda part: getattr(part, "__qualname__", ""),
)
def test_ended_at_any_point_and_repeated_it_comes_to_the_same_end(
    counted: Services, monkeypatch: pytest.MonkeyPatch, part: Any, after: bool
) -> None:
    [stream] = counted.event_log.open()
    counted.event_log.read(stream.partition, "dead", 100)

    def crash(*args: Any, **named: Any) -> None:
        part(*args, **named)
        raise Crash

    owner = Archive if part is Archive.save else TypeRemover
    with monkeypatch.context() as patched, pytest.raises(Crash):
        patched.setattr(owner, part.__name__, crash)
        TypeRemover(counted.counters, counted.event_log, counted.archive).remove(JUNK, TODAY)
    total = sum(of_type(counted, name) for name in (*JUNK, "__other__"))
    assert total == 40
    count_events(counted, *some(1))
    counted.flush()
    remove(counted)
    for entries in counted.event_log.claim_stale(stream.partition, "next", 0, 100):
        counted.archive.store(entries)
        counted.event_log.finish(entries)
    assert_removed(counted, 44)


def test_the_command_asks_or_wants_to_be_told(counted: Services, analytics: Any) -> None:
    code, _, err = analytics("types", "remove", *JUNK)
    assert (code, "--yes" in err) == (2, True)
    code, out, _ = analytics("types", "remove", *JUNK, "--yes", "--json")
    assert (code, json.loads(out)) == (0, {"events": 40, "archived": 40})
    code, out, _ = analytics("types", "restore", *JUNK, "--json")
    assert (code, json.loads(out)) == (0, {"restored": 2})


# The books


def test_books_keep_large_and_recent_types_and_sums(
    make_services: MakeServices, client: redis.Redis
) -> None:
    services = make_services(event_types_cap=3, count_by={"named": ["x"]})
    old = {f"{row}:t{n:03}": n for n in range(500) for row in ("consumed", "counted")}
    whole = sum(range(500))
    client.hset(services.keys.totals, mapping=old | {"consumed": whole, "counted": whole})
    client.hset(services.keys.totals, mapping={"consumed:named": 0, "counted:named": 0})
    count_events(services, Event("t001", CLOCK))
    services.counters.apply([Delivery((), [BadEvent(b"", "bad")]), message()], CLOCK)
    assert forget_rare_types(services.counters, TODAY) == 2 * 496
    found = services.status()["books"]
    assert set(found["by_type"]) == {
        *("t499", "t498", "t001", "named", "__unknown__", "__other__"),
        "t497",
    }
    assert found["balanced"]
    for row in ("consumed", "counted", "dead"):
        assert sum(one.get(row, 0) for one in found["by_type"].values()) == found[row]
    assert forget_rare_types(services.counters, TODAY) <= 2


def test_an_installation_with_ten_thousand_types_in_its_books_goes_on(
    services: Services, client: redis.Redis
) -> None:
    """As versions before the cap have left them."""
    names = [f"t{n:05}" for n in range(10_000)]
    rows_of_books = {f"{row}:{name}": 1 for name in names for row in ("consumed", "counted")}
    sums = {"consumed": 10_000, "counted": 10_000}
    client.hset(services.keys.totals, mapping=rows_of_books | sums)
    execute(
        services,
        "INSERT INTO analytics_daily (event_type, date, count) "
        "SELECT 't' || lpad(CAST(n AS TEXT), 5, '0'), current_date, 1 "
        "FROM generate_series(0, 9999) AS n",
    )
    count_events(services, *[Event("page_view", CLOCK)] * 7, Event("t09999", CLOCK))

    services.maintain(CLOCK)

    found = services.status()["books"]
    assert (found["counted"], found["balanced"]) == (10_008, True)
    assert 1_000 <= found["types"] <= 1_002
    assert found["by_type"]["__other__"]["counted"] == pytest.approx(9_000, abs=2)
    assert found["by_type"]["t09999"]["counted"] == 2
    listed, how_many = services.list_types(TODAY, 2)
    assert how_many == 10_001
    assert [(one.event_type, one.total) for one in listed] == [("page_view", 7), ("t09999", 2)]
    assert services.types.count_largest(TODAY, 2) == {"page_view": 7, "t09999": 2}
