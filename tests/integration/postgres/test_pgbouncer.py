"""Postgres through pgbouncer in transaction mode: two transactions of a client may meet two
sessions, and there may be fewer sessions than clients. A stall ends after 20 s, as an error."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from pipeline.errors import InvalidConfiguration
from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, stream_events
from pipeline.postgres import schema
from pipeline.postgres.engine import Reader, postgres_engine
from pipeline.postgres.fitness import check_postgres
from pipeline.reading.journeys.breakdown import BreakdownQuestion
from pipeline.reading.journeys.funnels import FunnelQuestion
from pipeline.services import Services, connect
from pipeline.sharing.annotations import Annotations
from tests.conftest import MakeServices
from tests.helpers.postgres.pgbouncer import pgbouncer
from tests.helpers.support import TODAY, count_events, event, execute, stored_total

POOLS = pytest.mark.parametrize("pool_size", [2, 3, 20])
NOW = datetime.now(UTC)
BREAKDOWN = BreakdownQuestion("page_view", TODAY, TODAY)


def through(services: Services, redis_url: str, url: str, **more: int) -> Services:
    return connect(services.options, redis_url, url)


@POOLS
def test_reads_of_many_threads_are_right(
    services: Services, redis_url: str, postgres_url: str, tmp_path: Path, pool_size: int
) -> None:
    """One read in six failed: a prepared statement was there already, or was that of another."""
    types = [f"type {n}" for n in range(6)]
    for n, name in enumerate(types):
        count_events(services, *[event(name, "u1")] * (n + 1))
    services.flush()

    def read(n: int) -> None:
        stats, wanted, name = pooled.stats, n % 6 + 1, types[n % 6]
        assert stats.daily_count(name, TODAY) == wanted
        assert sum(stats.hourly_counts(name, TODAY)) == wanted
        assert stats.user_count("u1", name, TODAY, TODAY) == wanted
        assert stats.top(name, "user").top == [("u1", wanted)]
        assert stats.property_count(name, "path", "/", TODAY, TODAY) == 0

    with (
        pgbouncer(tmp_path, postgres_url, pool_size) as url,
        closing(through(services, redis_url, url)) as pooled,
        ThreadPoolExecutor(8) as threads,
    ):
        for done in [threads.submit(read, n) for n in range(120)]:
            done.result()


@POOLS
def test_flushes_reads_audits_and_the_rest_side_by_side_are_exact(
    make_services: MakeServices,
    redis_url: str,
    postgres_url: str,
    tmp_path: Path,
    pool_size: int,
) -> None:
    services = make_services(flush_batch_size=7, count_by={"page_view": ["path"]})

    def produce(part: int, _: Services) -> None:
        for n in range(8):
            properties = {"path": f"/{part}"}
            one = Event("page_view", NOW, f"u{n}", properties)
            count_events(services, *[one] * 5)

    def flush(_: int, pooled: Services) -> None:
        for _ in range(4):
            pooled.flush()

    def audit(_: int, pooled: Services) -> None:
        assert pooled.audit(NOW.date(), NOW.date()) == []

    def look(_: int, pooled: Services) -> None:
        for _ in range(3):
            pooled.list_types(NOW.date(), 5)
            pooled.status()

    def upkeep(_: int, pooled: Services) -> None:
        pooled.archive_events()
        pooled.move_dead_letters()
        pooled.maintain(NOW)
        pooled.prune(NOW.date())
        pooled.erase_user("unknown")

    works: list[Callable[[int, Services], None]] = [produce, flush, audit, look, upkeep]
    with pgbouncer(tmp_path, postgres_url, pool_size) as url:
        made = [through(services, redis_url, url) for _ in range(2)]
        with ThreadPoolExecutor(10) as threads:
            doing = [
                threads.submit(work, n, pooled) for work in works for n, pooled in enumerate(made)
            ]
            for done in doing:
                done.result()
        made[0].flush()
        made[0].archive_events()
        assert made[0].audit(NOW.date(), NOW.date()) == []
        for pooled in made:
            assert pooled.stats.daily_count("page_view", NOW.date()) == 80
            pooled.close()
    assert stored_total(services) == 80
    assert execute(services, "SELECT count(*) FROM events") == [(80,)]
    of_month = f"analytics_user_daily_{NOW:%Y_%m}"
    assert len(execute(services, f"SELECT * FROM {of_month}")) == 8, "the month has a partition"


def test_two_flushes_that_need_partitions_share_a_pool_of_one(
    services: Services, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    for n in range(2):
        count_events(services, Event("page_view", NOW, f"u{n}"))
        services.claims.claim(f"b{n}", 1_000, (0, 0))
    with (
        pgbouncer(tmp_path, postgres_url, 1) as url,
        closing(through(services, redis_url, url)) as pooled,
        ThreadPoolExecutor(2) as threads,
    ):
        for done in [threads.submit(pooled.flush) for _ in range(2)]:
            done.result()
    assert stored_total(services) == 2


def test_days_are_rebuilt_types_removed_and_events_exported(
    services: Services, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Server-side cursors, COPY and temporary tables, each within a transaction."""
    count_events(services, *[event(user_id="u1") for _ in range(3)], event("junk"))
    with (
        pgbouncer(tmp_path, postgres_url) as url,
        closing(through(services, redis_url, url)) as pooled,
    ):
        pooled.flush()
        assert pooled.archive_events() == 4
        assert sum(map(len, stream_events(pooled.engine, EventFilter()))) == 4
        [rebuilt] = pooled.rebuild([TODAY], NOW)
        assert rebuilt.changed == {}
        assert pooled.remove_types(["junk"], NOW.date()).events == 1
        assert pooled.erase_user("u1").events == 3


def test_questions_seals_and_reports_are_answered(
    services: Services, redis_url: str, postgres_url: str, tmp_path: Path
) -> None:
    """Temporary tables and limits of a transaction, and what the dashboard asks."""
    count_events(services, *[event(user_id=f"u{n}") for n in range(3)])
    with (
        pgbouncer(tmp_path, postgres_url) as url,
        closing(through(services, redis_url, url)) as pooled,
    ):
        pooled.flush()
        pooled.archive_events()
        assert pooled.seal_users(NOW)
        assert pooled.seal_events(NOW)
        funnel = FunnelQuestion(("page_view", "sale"), TODAY, TODAY, "1h")
        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(pooled.answer, funnel, lambda _: None) for _ in range(12)]
            assert {one.result()["steps"][0]["users"] for one in asked} == {3}
        pooled.reports.ask(BREAKDOWN)
        assert pooled.make_next_report() is None
        report = pooled.reports.find_current(BREAKDOWN)
        assert report is not None
        assert report.state == "done"
        Annotations(pooled.engine).add(NOW, "a pooler", "t1")
        assert Annotations(pooled.engine).count() == 1
        assert pooled.stats.active_users(TODAY).dau == 3


def test_tables_are_made_and_checked(empty_postgres_url: str, tmp_path: Path) -> None:
    with pgbouncer(tmp_path, empty_postgres_url) as url:
        engine = postgres_engine(url)
        with ThreadPoolExecutor(2) as threads:
            versions = list(threads.map(schema.migrate, [engine, engine]))
        assert versions == [schema.newest_version()] * 2
        check_postgres(engine)
        engine.dispose()


@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_nothing_is_left_in_a_session_for_its_next_client(
    postgres_url: str, tmp_path: Path, mode: str
) -> None:
    with pgbouncer(tmp_path, postgres_url, 1, pool_mode=mode, server_reset_query="") as url:
        engine = postgres_engine(url)
        reader = Reader(engine)
        for _ in range(10):
            assert reader.rows("SELECT %(n)s", {"n": 1}) == [(1,)]
        engine.dispose()
        other = postgres_engine(url)
        with other.connect() as connection:
            kept = "SELECT name FROM pg_prepared_statements"
            assert connection.execute(text(kept)).all() == []
            assert connection.execute(text("SHOW plan_cache_mode")).scalar() == "auto"
        other.dispose()


def test_a_session_of_postgres_itself_prepares_what_is_read_often(postgres_url: str) -> None:
    engine = postgres_engine(postgres_url)
    reader = Reader(engine)
    for _ in range(10):
        reader.rows("SELECT %(n)s + 1", {"n": 1})
    assert reader.rows("SELECT count(*) FROM pg_prepared_statements", {}) == [(1,)]
    assert reader.rows("SHOW plan_cache_mode", {}) == [("force_generic_plan",)]
    engine.dispose()


def test_statement_mode_is_refused_with_one_line(postgres_url: str, tmp_path: Path) -> None:
    with pgbouncer(tmp_path, postgres_url, pool_mode="statement") as url:
        engine = postgres_engine(url)
        with pytest.raises(InvalidConfiguration) as refused:
            check_postgres(engine)
        engine.dispose()
    said = str(refused.value)
    assert "\n" not in said
    assert "gives every statement to another session" in said
    assert said.endswith("set its pool_mode to transaction or session")


def test_an_option_that_the_pooler_does_not_take_is_said_with_the_ways_out(
    postgres_url: str, tmp_path: Path
) -> None:
    option = "options=-csearch_path%3Dpublic"
    with pgbouncer(tmp_path, postgres_url) as url:
        engine = postgres_engine(f"{url}?{option}")
        with pytest.raises(InvalidConfiguration, match="ignore_startup_parameters"):
            check_postgres(engine)
        engine.dispose()
    with pgbouncer(tmp_path, postgres_url, ignore_startup_parameters="options") as url:
        engine = postgres_engine(f"{url}?{option}")
        check_postgres(engine)
        engine.dispose()


def test_a_read_whose_prepared_statement_is_gone_is_made_on_another_connection(
    postgres_url: str,
) -> None:
    """As behind a pooler that shows the process id of Postgres itself."""
    engine = postgres_engine(postgres_url)
    reader = Reader(engine)
    for _ in range(10):
        reader.rows("SELECT %(n)s", {"n": 1})
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION lose_statements() RETURNS int LANGUAGE plpgsql "
                "AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN 0; END $$"
            )
        )
    assert reader.rows("SELECT lose_statements()", {}) == [(0,)]
    for _ in range(10):
        assert reader.rows("SELECT %(n)s", {"n": 1}) == [(1,)]
    engine.dispose()
