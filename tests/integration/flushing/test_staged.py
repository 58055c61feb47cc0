"""Batches of more rows than a flusher sorts itself: Postgres sorts them, in temporary tables."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Table, text

from pipeline.event.model import Event
from pipeline.flushing import store as store_module
from pipeline.flushing.claims import Claim, Claims, Fields
from pipeline.flushing.flush import flush
from pipeline.flushing.store import FlushTransaction
from pipeline.postgres.tables import COUNTER_TABLES
from pipeline.redis.counters import ValueSumCounter
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.conftest import MakeServices
from tests.helpers.support import (
    NOW,
    TODAY,
    count_events,
    event,
    execute,
    field_place,
    rows,
    stored_total,
)

IN_MEMORY, STAGED = 150_000, 0
USERS = 120


@pytest.fixture(autouse=True)
def small_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    """All batches are staged, and by a few rows at a time."""
    monkeypatch.setattr(store_module, "SORTED_IN_MEMORY", STAGED)
    monkeypatch.setattr(store_module, "_STAGED_AT_ONCE", 25)
    monkeypatch.setattr(store_module, "_STREAMED", {"yield_per": 25})
    monkeypatch.setattr("pipeline.flushing.claims.FIELDS_AT_ONCE", 10)


@pytest.fixture
def staged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows were staged, portion by portion."""
    found: list[int] = []
    stage = FlushTransaction._stage

    def noting(self: FlushTransaction, pages: Iterator[Fields]) -> object:
        answer = stage(self, pages)
        for staging in store_module.STAGINGS.values():
            name = str(staging.insert).split()[2]
            found.append(self.connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one())
        return answer

    monkeypatch.setattr(FlushTransaction, "_stage", noting)
    return found


def some_events(services: Services) -> None:
    events = [
        event(user_id=f"u {n}", properties={"path": f"/{n % 40}", "price": 0.25})
        for n in range(USERS)
    ]
    count_events(services, *events)


def expected(times: int = 1) -> dict[str, list[tuple[object, ...]]]:
    hour = NOW.replace(minute=0, second=0)
    return {
        "analytics_daily": [("page_view", TODAY, USERS * times)],
        "analytics_hourly": [("page_view", hour, USERS * times)],
        "analytics_quarter_hourly": [("page_view", hour, USERS * times)],
        "analytics_user_daily": sorted((TODAY, "page_view", f"u {n}", times) for n in range(USERS)),
        "analytics_dimension_daily": sorted(
            (TODAY, "page_view", "path", f"/{n}", 3 * times) for n in range(40)
        ),
    }


def expected_sums(times: int) -> dict[str, list[tuple[object, ...]]]:
    """Of `price`, with two decimals kept: in all, and of each path."""
    hour = NOW.replace(minute=0, second=0)
    of = ("page_view", "price", hour)
    return {
        "analytics_sums": [(*of, "count", USERS * times), (*of, "e-2", 25 * USERS * times)],
        "analytics_value_sums": sorted(
            (TODAY, "page_view", "price", "path", f"/{n}", part, 3 * times * each)
            for n in range(40)
            for part, each in (("count", 1), ("e-2", 25))
        ),
    }


def stored(services: Services) -> dict[str, list[tuple[object, ...]]]:
    return {table: rows(services, table) for table in expected()}


def letters(services: Services) -> list[tuple[bytes, str]]:
    return sorted((one.body, one.reason) for one in dead_letters.list_stored(services.engine))


class EachPageTwice(Claims):
    """Redis gives fields again while it resizes their table."""

    def read_buckets(self, claim: Claim) -> Iterator[Fields]:
        pages = list(super().read_buckets(claim))
        yield from pages
        yield from reversed(pages)


@pytest.mark.parametrize("in_memory", [IN_MEMORY, STAGED])
def test_what_is_staged_is_stored_as_what_is_sorted_in_memory(
    make_services: MakeServices,
    in_memory: int,
    staged: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_module, "SORTED_IN_MEMORY", in_memory)
    services = make_services(count_by={"page_view": ["path"]}, sum={"page_view": {"price": 2}})
    for times in (1, 2, 3):  # new rows, and again
        some_events(services)
        assert services.flush() == 2 + USERS + 40 + 2 + 1 + 80, "sums, a bin, sums by path"
        assert stored(services) == expected(times)
        sums = expected_sums(times)
        assert {table: rows(services, table) for table in sums} == sums
        assert [row[-1] for row in rows(services, "analytics_distributions")] == [USERS * times]
    assert staged[:-3:] == staged[3:], "the first time, partitions are made and it is staged anew"
    assert set(staged) == ({USERS, 40, 80} if in_memory == STAGED else set())
    assert (letters(services), services.claims.open_batches()) == ([], [])


def test_a_batch_is_staged_when_it_has_more_counters_than_are_sorted_in_memory(
    services: Services, staged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in (2 + USERS + 40, 2 + USERS + 39):
        monkeypatch.setattr(store_module, "SORTED_IN_MEMORY", limit)
        some_events(services)
        services.flush()
        assert bool(staged) == (limit < 2 + USERS + 40)
    assert stored(services) == expected(times=2)


@pytest.mark.parametrize("in_memory", [IN_MEMORY, STAGED])
def test_a_field_that_redis_gives_twice_is_counted_once(
    services: Services, in_memory: int, staged: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "SORTED_IN_MEMORY", in_memory)
    claims = EachPageTwice(services.redis, services.keys)
    for times in (1, 2):
        some_events(services)
        assert flush(claims, services.store, 1_000) == 2 + USERS + 40
        assert stored(services) == expected(times)
    assert not staged or min(staged[::3]) > USERS, "in several portions, a field comes twice"
    assert bool(staged) == (in_memory == STAGED)


@pytest.mark.parametrize("in_memory", [IN_MEMORY, STAGED])
@pytest.mark.parametrize("claims_of", [Claims, EachPageTwice])
def test_rows_that_postgres_refuses_are_set_apart_and_the_rest_is_stored(
    make_services: MakeServices,
    in_memory: int,
    claims_of: type[Claims],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A row too long for its index, one whose count passes the largest number, one whose count is
    none, and one that is no counter."""
    monkeypatch.setattr(store_module, "SORTED_IN_MEMORY", in_memory)
    long = "".join(chr(0x4E00 + n) for n in range(3_000))  # hard to compress
    services = make_services(count_by={"page_view": ["path", long]})
    some_events(services)
    services.flush()
    execute(services, f"UPDATE analytics_user_daily SET count = {2**63 - 1} WHERE user_id = 'u 7'")
    some_events(services)
    count_events(services, event("click", user_id="u 7"))
    too_long = services.keys.value("page_view", long, "x", f"{TODAY}")
    for name, count in {
        too_long: b"5",
        "analytics:user:u1:a:2025-03-14": b"none",
        "analytics:user:u1:b:2025-03-14": b"9" * 19,
        "analytics:user:u1:b:2025-02-30": b"6",
    }.items():
        services.redis.hset(*field_place(services, name), count)

    claims = claims_of(services.redis, services.keys)
    assert flush(claims, services.store, 10_000) == 2 + 2 + USERS - 1 + 1 + 40
    found = letters(services)
    assert [body for body, _ in found] == sorted(
        [
            f"{too_long} 5".encode(),
            b"analytics:user:u%207:page_view:2025-03-14 1",
            b"analytics:user:u1:a:2025-03-14 none",
            b"analytics:user:u1:b:2025-03-14 9999999999999999999",
            b"analytics:user:u1:b:2025-02-30 6",
        ]
    )
    assert all(reason for _, reason in found)
    now = dict(expected(times=2))
    users = dict.fromkeys((row[2] for row in now["analytics_user_daily"]), 2)
    users["u 7"] = 2**63 - 1
    of_page_view = [row for row in rows(services, "analytics_user_daily") if row[1] == "page_view"]
    assert {row[2]: row[3] for row in of_page_view} == users
    assert rows(services, "analytics_dimension_daily") == now["analytics_dimension_daily"]
    assert stored_total(services) == 2 * USERS + 1
    assert services.claims.open_batches() == []


def test_partitions_are_made_before_what_is_staged_is_stored(services: Services) -> None:
    now = datetime.now(UTC)
    own = [now - timedelta(days=40), now - timedelta(days=300)]
    old = now - timedelta(days=900)
    events = [Event("page_view", at, f"u{n}") for at in (*own, old) for n in range(30)]
    count_events(services, *events)
    services.flush()
    found = execute(
        services,
        "SELECT date, tableoid::regclass::text, count(*) FROM analytics_user_daily GROUP BY 1, 2",
    )
    assert {day: (name, n) for day, name, n in found} == {
        **{at.date(): (f"analytics_user_daily_{at:%Y_%m}", 30) for at in own},
        old.date(): ("analytics_user_daily_default", 30),
    }


def test_a_flusher_stages_in_bounded_memory(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And so where Postgres refuses a row, and the rest is read from it again."""
    monkeypatch.setattr(store_module, "_STAGED_AT_ONCE", 2_000)
    monkeypatch.setattr(store_module, "_STREAMED", {"yield_per": 2_000})
    pages, of_page = 120, 500
    long = "".join(chr(0x4E00 + n) for n in range(3_000))
    too_long = services.keys.field_of(services.keys.value("a", long, "x", f"{TODAY}"))
    assert too_long is not None

    def read() -> Iterator[Fields]:
        yield {too_long[1].encode(): b"1"}
        for page in range(pages):
            yield {b"user%d-%d:a:2025-03-14" % (page, n): b"1" for n in range(of_page)}
            yield {b"a:p:value%d-%d:2025-03-14" % (page, n): b"1" for n in range(of_page)}

    counters = 2 * pages * of_page + 1
    claim = Claim("b1", 0, 1, {}, [counters], size=counters)
    with services.store.transaction() as warm_up:
        warm_up.newest_claim()
    tracemalloc.start()
    with services.store.transaction() as transaction:
        assert transaction.save(claim, read()) == counters - 1
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 6_000_000, "50 bytes a counter; in memory it takes 200"
    assert len(rows(services, "analytics_user_daily")) == pages * of_page
    assert len(rows(services, "analytics_dimension_daily")) == pages * of_page


@pytest.mark.parametrize("in_memory", [IN_MEMORY, STAGED])
def test_every_flush_adds_to_the_tables_in_one_order(
    services: Services, in_memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that add to the same rows in another order wait for each other for ever."""
    monkeypatch.setattr(store_module, "SORTED_IN_MEMORY", in_memory)
    keys, added = services.keys, list[Table]()
    upserts = {name: table for table in COUNTER_TABLES for name in [table.name]}
    add = FlushTransaction._add

    def noting(self: FlushTransaction, table: Table, columns: object, statement: object) -> object:
        if statement is store_module.UPSERTS[table.name]:
            added.append(upserts[table.name])
        return add(self, table, columns, statement)  # type: ignore[arg-type]

    monkeypatch.setattr(FlushTransaction, "_add", noting)
    named = [
        keys.value_sum(ValueSumCounter("a", "n", "p", "v", "count", TODAY)),
        keys.bin("a", "n", 7, f"{TODAY}"),
        keys.sum("a", "n", "e-2", f"{TODAY}:15:00"),
        keys.quarterly("a", f"{TODAY}:15:00"),
        keys.value("a", "p", "v", f"{TODAY}"),
        keys.user("u", "a", f"{TODAY}"),
        keys.gap("a", "full", f"{TODAY}:15"),
        keys.hourly("a", f"{TODAY}:15"),
        keys.daily("a", f"{TODAY}"),
    ]
    fields = [{b"a:p:w:2025-03-14": b"1"}, {b"u:z:2025-03-14": b"1"}]
    for number, names in enumerate((named, named[::-1]), start=1):
        claim = Claim(f"b{number}", 0, number, dict.fromkeys(names, 1), [2], size=11)
        with services.store.transaction() as transaction:
            assert transaction.save(claim, iter(fields)) == 11
        order = [COUNTER_TABLES.index(table) for table in added]
        assert order == sorted(order)
        assert set(order) == set(range(len(COUNTER_TABLES)))
        added.clear()
