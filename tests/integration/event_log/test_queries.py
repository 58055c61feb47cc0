"""Reading raw events: `analytics events`, `export`, the live tail, and retention."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipeline.counting.log_entries import as_events
from pipeline.event.model import Event
from pipeline.event_log import queries
from pipeline.event_log.queries import EventFilter
from pipeline.event_log.streams import Entry
from pipeline.postgres import partitions
from pipeline.postgres.tables import events, user_daily
from pipeline.services import Services
from tests.helpers.support import NOW, TODAY, count_events, event, eventually, execute

ODD = 'a\\b\t"c"\né\u2028'


@pytest.fixture
def archived(services: Services) -> list[Event]:
    """Events in the archive, oldest first."""
    events = [
        event(
            "sale" if n % 5 == 0 else "page_view",
            f"u{n % 4}",
            properties={"path": f"/{n}", "odd": ODD},
            timestamp=NOW - timedelta(hours=30 - n),
            event_id=f"id {n}",
        )
        for n in range(30)
    ]
    count_events(services, *events)
    services.archive_events()
    return events


# Queries


def test_the_newest_events_come_first(services: Services, archived: list[Event]) -> None:
    assert queries.read_newest(services.engine, EventFilter(), 10) == archived[:-11:-1]


@pytest.mark.parametrize(
    "wanted",
    [
        EventFilter(event_type="sale"),
        EventFilter(user_id="u1"),
        EventFilter(event_type="page_view", user_id="u2"),
        EventFilter(first=NOW - timedelta(hours=12)),
        EventFilter(end=NOW - timedelta(hours=12)),
        EventFilter("page_view", None, NOW - timedelta(hours=20), NOW - timedelta(hours=3)),
        EventFilter("nothing"),
    ],
    ids=repr,
)
def test_only_the_wanted_events_are_found(
    services: Services, archived: list[Event], wanted: EventFilter
) -> None:
    expected = [one for one in archived if wanted.matches(one)]
    assert queries.read_newest(services.engine, wanted, 100) == expected[::-1]
    assert [e for some in queries.stream_events(services.engine, wanted) for e in some] == expected
    assert queries.count_events(services.engine, wanted) == len(expected)


def test_events_of_any_year_are_read(services: Services) -> None:
    old = Event.create("a", now=NOW, timestamp="0001-01-01T00:00:00Z")
    count_events(services, old)
    services.archive_events()
    execute(services, "ALTER ROLE CURRENT_USER SET TimeZone = 'America/New_York'")
    services.engine.dispose()
    try:
        assert queries.read_newest(services.engine, EventFilter(), 1) == [old]
    finally:
        execute(services, "ALTER ROLE CURRENT_USER RESET TimeZone")


# Commands


def test_events_are_shown_as_one_object_or_as_a_table(
    analytics: Any, archived: list[Event]
) -> None:
    code, out, _ = analytics("events", "--type", "sale", "--limit", "2", "--json")
    assert code == 0
    found = json.loads(out)["events"]
    assert [Event.from_dict(one, now=NOW) for one in found] == archived[25:19:-5]
    code, out, _ = analytics("events", "--from", "2025-03-14T14:00:00Z")
    assert code == 0
    assert "/29" in out
    assert "/28" not in out


def test_a_condition_chooses_what_is_shown_and_exported(
    analytics: Any, archived: list[Event], tmp_path: Path
) -> None:
    where = ("--where", 'path in ("/25", "/26")', "--type", "sale")
    [one] = json.loads(analytics("events", *where, "--json")[1])["events"]
    assert one["properties"]["path"] == "/25"
    code, out, _ = analytics("export", "-", *where)
    assert code == 0
    assert [json.loads(line)["event_id"] for line in out.strip().split("\n")] == ["id 25"]


def test_events_that_wait_are_shown_when_they_are_asked_for(
    services: Services, analytics: Any
) -> None:
    count_events(services, event(user_id="u9"))
    assert json.loads(analytics("events", "--json")[1]) == {"events": []}
    [one] = json.loads(analytics("events", "--fresh", "--json")[1])["events"]
    assert one["user_id"] == "u9"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from", "yesterday"], "no day and no moment"),
        (["--from", "2025-03-14T10:00"], "no time zone"),
        (["--from", "2025-03-15", "--to", "2025-03-14"], "not before"),
        (["--limit", "0"], "--limit"),
        (["--where", "path = /29"], "character"),
    ],
)
def test_wrong_options_are_told_in_a_line(analytics: Any, options: list[str], said: str) -> None:
    code, _, err = analytics("events", *options)
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("name", ["a.ndjson", "a.ndjson.gz", "-"])
def test_an_export_is_what_an_import_reads(
    analytics: Any, archived: list[Event], tmp_path: Path, name: str
) -> None:
    target = name if name == "-" else str(tmp_path / name)
    code, out, _ = analytics("export", target, "--from", "2025-03-13", "--to", "2025-03-14")
    assert code == 0
    if name == "-":
        text = out
    elif name.endswith(".gz"):
        text = gzip.decompress(Path(target).read_bytes()).decode()
    else:
        text = Path(target).read_text(encoding="utf-8")
    events = [Event.from_dict(json.loads(line), now=NOW) for line in text.encode().splitlines()]
    assert events == archived
    assert [path.name for path in tmp_path.iterdir()] == ([] if name == "-" else [name])


def test_parquet_holds_the_same_events(
    analytics: Any, archived: list[Event], tmp_path: Path
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `parquet` is not installed")
    target = tmp_path / "a.parquet"
    code, _, err = analytics("export", str(target), "--type", "page_view")
    assert (code, err) == (0, "")
    rows = parquet.read_table(target).to_pylist()
    for row in rows:
        row["properties"] = json.loads(row["properties"])
    assert [Event.from_dict(row, now=NOW) for row in rows] == [
        one for one in archived if one.event_type == "page_view"
    ]


def test_an_export_that_fails_leaves_no_file(
    analytics: Any, archived: list[Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> Iterator[Any]:
        yield archived
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(queries, "stream_events", stop)
    code, _, err = analytics("export", str(tmp_path / "a.ndjson"))
    assert code == 1
    assert "No space left" in err
    assert list(tmp_path.iterdir()) == []


def test_audit_exits_with_one_when_something_differs(services: Services, analytics: Any) -> None:
    now = datetime.now(UTC)
    count_events(services, Event.create("page_view", now=now))
    services.flush()
    assert analytics("audit")[0] == 0
    execute(services, "DELETE FROM analytics_hourly")
    code, out, _ = analytics("audit", "--json")
    assert code == 1
    [one] = json.loads(out)["differences"]
    assert (one["event_type"], one["hour"], one["drift"]) == ("page_view", now.hour, -1)
    assert analytics("audit", "--from", "2020-01-01", "--to", "2020-01-02")[0] == 0


def test_rebuild_is_tried_and_then_done(services: Services, analytics: Any) -> None:
    count_events(services, event())
    services.flush()
    execute(services, "DELETE FROM analytics_daily")
    day = ["--from", f"{TODAY}", "--to", f"{TODAY}"]
    for _ in range(2):
        [found] = json.loads(analytics("rebuild", *day, "--dry-run", "--json")[1])["days"]
        assert found["changed"] == {"analytics:counter:page_view:2025-03-14": [0, 1]}
    assert "1 counters were put right" in analytics("rebuild", *day)[1]
    assert "0 counters" in analytics("rebuild", *day)[1]
    code, _, err = analytics(
        "rebuild", "--from", f"{datetime.now(UTC).date()}", "--to", f"{datetime.now(UTC).date()}"
    )
    assert code == 1
    assert "is not over yet" in err


def test_archive_says_how_many(services: Services, analytics: Any) -> None:
    count_events(services, event(), event())
    assert json.loads(analytics("archive", "--json")[1]) == {"archived": 2}


# The live tail


def test_the_tail_shows_what_is_counted_from_then_on(services: Services) -> None:
    count_events(services, event(user_id="before"))
    tail = services.event_log.follow(pytest.fail, wait_ms=50)
    assert next(tail) is None
    count_events(services, event(user_id="1"), event(user_id="2"))
    services.archive_events()
    count_events(services, event(user_id="3"))
    entry = eventually(lambda: next(tail))
    assert [one.user_id for one in as_events(entry.unpack())] == ["3"]


def test_the_tail_says_what_it_could_not_show(services: Services) -> None:
    told: list[int] = []
    tail = services.event_log.follow(told.append, wait_ms=20)
    assert next(tail) is None
    count_events(services, event())
    services.archive_events()
    for _ in range(3):
        assert next(tail) is None
    assert told == [1]


def test_the_tail_is_quick(services: Services) -> None:
    tail = services.event_log.follow(pytest.fail, wait_ms=10_000)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(lambda: next(tail))
        eventually(lambda: services.redis.info("clients")["blocked_clients"] == 1)
        count_events(services, event(user_id="u1"))
        entry = found.result(5)
    assert isinstance(entry, Entry)


def test_status_says_what_waits_in_the_log(services: Services) -> None:
    empty = services.event_log.read_status()
    assert (empty["entries"], empty["oldest_s"], empty["consumers"]) == (0, 0, [])
    for _ in range(3):
        count_events(services, event(), event())
    services.event_log.open()
    services.event_log.read(0, "slow", 1)
    found = services.status()["event_log"]
    assert {name: found[name] for name in ("entries", "events", "pending", "lag")} == {
        "entries": 3,
        "events": 6,
        "pending": 1,
        "lag": 2,
    }
    assert found["bytes"] > 0
    [consumer] = found["consumers"]
    assert (consumer["name"], consumer["pending"]) == ("slow", 1)


# Retention


def partition_names(services: Services) -> set[str]:
    statement = (
        "SELECT inhrelid::regclass::text FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid "
        "WHERE relkind = 'r'"
    )
    return {name for [name] in execute(services, statement)}


def test_old_partitions_are_dropped_and_totals_kept(services: Services) -> None:
    times = [NOW, NOW - timedelta(days=60), NOW - timedelta(days=500), NOW.replace(year=1995)]
    for at in times[:3]:
        partitions.ensure_days(services.engine, events, {f"{at.date()}": 1}, at.date())
        partitions.ensure_months(services.engine, user_daily, {f"{at.date()}": 1}, at.date())
    count_events(services, *(event(user_id="u", timestamp=at) for at in times))
    services.flush()
    services.archive_events()
    found = services.prune(TODAY + timedelta(days=45), dry_run=True)
    assert found.dropped == [
        "events_2023_10_31",
        "events_2025_01_13",
        "analytics_user_daily_2023_10",
    ]
    before = partition_names(services)
    assert {*found.dropped} < before
    done = services.prune(TODAY + timedelta(days=45))
    assert done == found
    assert done.emptied == ["events_default", "analytics_user_daily_default"]
    assert partition_names(services) == before - {*found.dropped}
    assert execute(services, "SELECT count(*) FROM events") == [(1,)]
    assert execute(services, "SELECT count(*) FROM analytics_user_daily") == [(2,)]
    assert execute(services, "SELECT count(*) FROM analytics_daily") == [(4,)]
    assert services.prune(TODAY + timedelta(days=45)).dropped == []
    count_events(services, event(timestamp=NOW.replace(year=1995)))
    assert services.archive_events() == 1, "the default partition is there again"


def test_a_retention_of_zero_keeps_all(make_services: Any) -> None:
    services = make_services(events_retention_days=0, counters_retention_days=0)
    count_events(services, event(user_id="u", timestamp=NOW.replace(year=2001)))
    services.flush()
    services.archive_events()
    assert services.prune(date(2030, 1, 1)).dropped == []


def test_of_days_that_share_the_default_partition_the_old_ones_are_deleted(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.postgres.partitions._DELETED_AT_ONCE", 3)
    for day in ("1995-01-01", "2024-12-14 23:59", "2024-12-15"):
        execute(services, f"INSERT INTO events SELECT 'a', '{day}Z' FROM generate_series(1, 10)")
    found = services.prune(TODAY + timedelta(days=1))
    assert found.emptied == ["events_default"]
    assert execute(services, "SELECT DISTINCT timestamp::text FROM events") == [
        ("2024-12-15 00:00:00+00",)
    ]
    assert execute(services, "SELECT count(*) FROM events_default") == [(10,)]
    assert services.prune(TODAY + timedelta(days=1)).emptied == []
    services.prune(TODAY + timedelta(days=100))
    assert execute(services, "SELECT count(*) FROM events_default") == [(0,)]


def test_old_rows_that_a_flush_is_adding_to_are_left_for_the_next_time(
    services: Services,
) -> None:
    old, young = NOW.replace(year=1995), NOW - timedelta(days=300)
    users = [event(user_id=f"u{n}", timestamp=old) for n in range(3)]
    count_events(services, *users, event(user_id="u", timestamp=young))
    services.flush()
    with services.engine.begin() as flushing:
        flushing.exec_driver_sql("UPDATE analytics_user_daily SET count = 5 WHERE user_id = 'u1'")
        services.prune(TODAY)
    left = execute(services, "SELECT user_id, count FROM analytics_user_daily ORDER BY user_id")
    assert left == [("u", 1), ("u1", 5)]
    services.prune(TODAY)
    assert execute(services, "SELECT user_id FROM analytics_user_daily") == [("u",)]


def test_what_is_read_for_long_is_left_for_the_next_time(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.postgres.partitions._LOCK_TIMEOUT", "50ms")
    partitions.ensure_days(services.engine, events, {f"{TODAY}": 1}, TODAY)
    count_events(services, event())
    services.archive_events()
    with services.engine.connect() as reading:
        reading.exec_driver_sql("SELECT 1 FROM events")
        found = services.prune(TODAY + timedelta(days=200))
        assert found.dropped == []
        assert found.busy == ["events_2025_03_14"]
    assert services.prune(TODAY + timedelta(days=200)).dropped == ["events_2025_03_14"]
