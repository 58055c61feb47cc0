"""Raw events from the command line to the archive, with a real log, and without Postgres for long.

`ANALYTICS_TEST_OUTAGE_EVENTS` says how many events come while Postgres is away (1,200,000 are ten
minutes at 2,000 a second), `ANALYTICS_TEST_ARCHIVE_ROWS` how large the table of the queries is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from celery import Celery

from config.options import pipeline_options
from config.settings import Settings
from pipeline import track_event
from pipeline.embedded import PrivateServers
from pipeline.errors import ServerUnavailable
from pipeline.event.model import Event
from pipeline.event_log import queries
from pipeline.event_log.queries import EventFilter
from pipeline.postgres import partitions, schema
from pipeline.postgres.tables import events
from pipeline.services import Services, connect
from tests.acceptance.data.test_access_log import COUNT_BY, DATA, LOG
from tests.conftest import MakeServices
from tests.helpers.processes import run_python
from tests.helpers.support import NOW, Workers, count_events, eventually, execute, rows

OUTAGE_EVENTS = int(os.environ.get("ANALYTICS_TEST_OUTAGE_EVENTS", "20000"))
ROWS = int(os.environ.get("ANALYTICS_TEST_ARCHIVE_ROWS", "50000"))
EVENTS_AN_ENTRY = 500
TABLES = (
    "analytics_daily",
    "analytics_hourly",
    "analytics_user_daily",
    "analytics_dimension_daily",
)
BROKEN_DAY = date(2015, 5, 18)


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    """What a correct import must show."""
    if not LOG.exists():
        pytest.skip(f"the real input is not here: {LOG}")
    return dict(json.loads((DATA / "access.expected.json").read_text()))


def analytics(workers: Workers, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = workers.environment | {"ANALYTICS_COUNT_BY": json.dumps(COUNT_BY)}
    return run_python("-m", "pipeline.cli", *arguments, "--json", environment=environment)


def books(services: Services) -> Mapping[str, int]:
    return services.status()["books"]["by_type"].get("page_view", {})


@pytest.mark.parametrize("with_ids", [True, False], ids=["with ids", "without ids"])
def test_the_log_imported_twice_is_counted_and_archived_alike(
    make_services: MakeServices, workers: Workers, expected: dict[str, Any], *, with_ids: bool
) -> None:
    services = make_services(count_by=COUNT_BY)
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY))
    once = expected["events"]
    for _ in range(2):
        done = analytics(workers, "import", str(LOG), *(["--event-ids"] if with_ids else []))
        assert done.returncode == 0, done.stderr
    eventually(lambda: books(services).get("consumed") == 2 * once, what="not all was consumed")

    archived = json.loads(analytics(workers, "archive").stdout)["archived"]

    counted, duplicate = (once, once) if with_ids else (2 * once, 0)
    assert books(services)["counted"] == counted
    assert books(services).get("duplicate", 0) == duplicate
    assert archived == counted
    assert execute(services, "SELECT count(*) FROM events") == [(counted,)]
    assert services.stats.count("page_view", date(2015, 5, 17), date(2015, 5, 20)) == counted
    assert services.audit(date(2015, 5, 17), date(2015, 5, 20)) == []


def test_counters_deleted_for_a_day_are_named_and_rebuilt_while_traffic_runs(
    make_services: MakeServices, workers: Workers, expected: dict[str, Any]
) -> None:
    services = make_services(count_by=COUNT_BY)
    workers.start("events", COUNT_BY=json.dumps(COUNT_BY))
    assert analytics(workers, "import", str(LOG)).returncode == 0
    eventually(lambda: books(services).get("counted") == expected["events"])
    services.flush()
    services.archive_events()
    before = {table: rows(services, table) for table in TABLES}
    for table in TABLES:
        where = "timezone('UTC', hour)::date" if table == "analytics_hourly" else "date"
        execute(services, f"DELETE FROM {table} WHERE {where} = '{BROKEN_DAY}'")

    days = ["--from", "2015-05-17", "--to", "2015-05-20"]
    with _late_events(services) as late:
        found = analytics(workers, "audit", *days)
        assert found.returncode == 1
        differences = json.loads(found.stdout)["differences"]
        assert {(one["event_type"], one["day"]) for one in differences} == {
            ("page_view", f"{BROKEN_DAY}")
        }
        hours = {int(hour[-2:]) for hour in expected["hourly"] if hour.startswith(f"{BROKEN_DAY}")}
        assert {one["hour"] for one in differences} == {None, *hours}

        rebuilt = analytics(
            workers, "rebuild", *["--from", f"{BROKEN_DAY}"], "--to", f"{BROKEN_DAY}"
        )

        assert rebuilt.returncode == 0, rebuilt.stderr
        assert analytics(workers, "audit", *days).returncode == 0

    assert late
    assert services.stats.daily_count("page_view", BROKEN_DAY) == (
        expected["daily"][f"{BROKEN_DAY}"] + len(late)
    )
    services.flush()
    after = {table: rows(services, table) for table in TABLES}
    of_the_day = [row for row in before["analytics_user_daily"] if row[0] == BROKEN_DAY]
    assert {*of_the_day} < {*after["analytics_user_daily"]}
    assert services.audit(date(2015, 5, 17), date(2015, 5, 20)) == []


class _late_events:  # noqa: N801 - reads as a function
    """Counts events of the broken day, by users of their own, until the block ends."""

    def __init__(self, services: Services) -> None:
        self._services, self._over = services, threading.Event()
        self._counted: list[Event] = []
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        at = datetime(2015, 5, 18, 12, tzinfo=UTC)
        while not self._over.wait(0.01):
            late = Event("page_view", at, f"late {len(self._counted)}", {"path": "/late"})
            count_events(self._services, late)
            self._counted.append(late)

    def __enter__(self) -> list[Event]:
        self._thread.start()
        eventually(lambda: self._counted)
        return self._counted

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


@pytest.fixture
def alone(own_servers: PrivateServers) -> Iterator[Services]:
    """Services on servers that the test may stop."""
    assert own_servers.redis_url is not None
    assert own_servers.postgres_url is not None
    services = connect(
        pipeline_options(Settings()), own_servers.redis_url, own_servers.postgres_url
    )
    schema.migrate(services.engine)
    yield services
    services.close()


@pytest.mark.timeout(180 + OUTAGE_EVENTS // 1_000)
def test_while_postgres_is_away_events_wait_within_the_bound_and_none_is_lost(
    own_servers: PrivateServers, alone: Services
) -> None:
    assert own_servers.postgres is not None
    count(alone, EVENTS_AN_ENTRY)
    alone.archive_events()
    own_servers.postgres.stop()
    used_before = alone.redis.info("memory")["used_memory"]

    count(alone, OUTAGE_EVENTS)
    with pytest.raises(ServerUnavailable):
        alone.archive_events()

    log = alone.status()["event_log"]
    assert log["events"] == OUTAGE_EVENTS
    assert log["bytes"] < alone.options.counters.event_log.max_bytes
    used = alone.redis.info("memory")["used_memory"] - used_before
    print(f"\n{OUTAGE_EVENTS:,} events wait in {log['bytes']:,} bytes; Redis grew by {used:,}")

    own_servers.postgres.start()
    assert alone.archive_events() == OUTAGE_EVENTS
    assert execute(alone, "SELECT count(*) FROM events") == [(OUTAGE_EVENTS + EVENTS_AN_ENTRY,)]
    assert execute(alone, "SELECT count(*) FROM event_log_gaps") == [(0,)]


def test_past_the_bound_events_are_counted_and_the_gap_is_known(
    make_services: MakeServices,
) -> None:
    services = make_services(event_log_max_bytes=20_000)
    count(services, 10_000)
    logged = services.event_log.read_status()["events"]
    assert 0 < logged < 10_000
    services.flush()
    services.archive_events()
    assert services.stats.daily_count("page_view", NOW.date()) == 10_000
    assert execute(services, "SELECT sum(count) FROM event_log_gaps") == [(10_000 - logged,)]
    assert services.audit(NOW.date(), NOW.date()) == []


def test_a_worker_says_that_the_log_is_full_and_a_flush_worker_makes_room(
    services: Services, workers: Workers, sending: None, redis_url: str
) -> None:
    worker = workers.start("events", EVENT_LOG_MAX_ENTRIES="1")
    for n in range(2):
        track_event.delay("page_view", user_id=f"u{n}")
        eventually(lambda n=n: books(services).get("counted") == n + 1)
    eventually(
        lambda: "the event log is full: 1 events were counted and not logged" in worker.said()
    )

    workers.start("flush")
    with Celery("stock", broker=redis_url, set_as_current=False) as stock:
        for task, queue in (
            ("archive_events", "flush"),
            ("prune", "maintenance"),
            ("audit", "flush"),
        ):
            stock.send_task(f"analytics.{task}", queue=f"analytics.{queue}")
    eventually(lambda: execute(services, "SELECT count(*) FROM events") == [(1,)])
    eventually(lambda: execute(services, "SELECT count(*) FROM pruned") == [(4,)])
    eventually(lambda: services.redis.hget(services.keys.totals, "audit_drift") == b"0")


def count(services: Services, how_many: int) -> None:
    for first in range(0, how_many, EVENTS_AN_ENTRY):
        count_events(
            services,
            *(
                Event("page_view", NOW, f"u{n % 5_000}", {"path": f"/{n % 300}", "n": n})
                for n in range(first, min(first + EVENTS_AN_ENTRY, how_many))
            ),
        )


DAYS = 10


@pytest.fixture
def filled(services: Services) -> Services:
    """A table of many rows over ten days, made by Postgres itself."""
    days = [NOW.date() - timedelta(days=n) for n in range(DAYS)]
    for day in days:
        partitions.ensure_days(services.engine, events, {f"{day}": 1}, NOW.date())
    execute(
        services,
        "INSERT INTO events SELECT 'type' || n % 20, "
        f"timestamptz '{NOW.isoformat()}' - make_interval(secs => n * {DAYS * 86_400 - 60_000.0} "
        f"/ {ROWS}.0), 'u' || n % 10007, json_build_object('path', '/' || n % 1000), NULL "
        f"FROM generate_series(0, {ROWS - 1}) AS n",
    )
    execute(services, "ANALYZE events")
    return services


QUERIES = (
    EventFilter(),
    EventFilter(event_type="type7"),
    EventFilter(user_id="u77"),
    EventFilter(event_type="type7", user_id="u77"),
    EventFilter(first=NOW - timedelta(days=5), end=NOW - timedelta(days=4)),
    EventFilter("type7", None, NOW - timedelta(days=5), NOW - timedelta(days=1)),
    EventFilter("type7", "u77", NOW - timedelta(days=5), NOW - timedelta(days=1)),
    EventFilter("no such type"),
    EventFilter(user_id="nobody"),
)
MOST_PAGES = 2_500
"""Of 8 KiB, that a query may look at, however large the table is."""


@pytest.mark.timeout(120 + ROWS // 10_000)
def test_queries_look_at_little_of_the_table_and_a_day_is_pruned_by_detaching(
    filled: Services,
) -> None:
    for wanted in QUERIES:
        statement = queries.select_newest(wanted, 100)
        compiled = statement.compile(filled.engine, compile_kwargs={"literal_binds": True})
        explain = f"EXPLAIN (ANALYZE, BUFFERS) {compiled}".replace("%%", "%")
        plan = [line for [line] in execute(filled, explain)]
        print("\n".join(["", f"{wanted}", *plan]))
        pages = next(line for line in plan if "Buffers:" in line)
        assert sum(map(int, re.findall(r"(?:hit|read)=(\d+)", pages))) <= MOST_PAGES, wanted
        scanned = [line for line in plan if "Seq Scan" in line and "events_default" not in line]
        assert not scanned, wanted

    oldest = NOW.date() - timedelta(days=DAYS - 1)
    began = time.perf_counter()
    found = filled.prune(oldest + timedelta(days=filled.options.events_retention_days + 1))
    print(f"{ROWS // DAYS:,} events pruned in {time.perf_counter() - began:.3f} s")
    assert found.dropped == [f"events_{oldest:%Y_%m_%d}"]
    [[first]] = execute(filled, "SELECT min(timestamp) FROM events")
    assert first.astimezone(UTC).date() == oldest + timedelta(days=1)
