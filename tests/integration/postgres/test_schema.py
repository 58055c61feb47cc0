"""Migrations make the tables of `tables.py`; partitions are made ahead of need."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from pipeline.days import begin_next_month
from pipeline.postgres import partitions, schema
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import VERSION_TABLE, current_version
from pipeline.postgres.tables import PARTITIONED_BY_DAY, PARTITIONED_BY_MONTH, metadata, user_daily
from pipeline.services import Services
from tests.helpers.aging import grow_older
from tests.helpers.support import (
    NOW,
    ROOT,
    count_events,
    environment_without_settings,
    event,
    execute,
    rows,
)

_PARTITION = re.compile(r"_(default|\d{4}_\d{2}(_\d{2})?)$")


@pytest.fixture
def engine(empty_postgres_url: str) -> Iterator[Engine]:
    """An empty database."""
    engine = postgres_engine(empty_postgres_url)
    yield engine
    engine.dispose()


def differences(engine: Engine) -> list[Any]:
    def ours(name: str | None, kind: str, _: object) -> bool:
        is_table = kind == "table" and name is not None
        return not (is_table and (_PARTITION.search(name) or name == VERSION_TABLE))

    options = {"include_name": ours, "compare_type": True, "compare_server_default": True}
    with engine.connect() as connection:
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)


def downgrade(engine: Engine, revision: str) -> None:
    config = schema._config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)


def partition_names(engine: Engine) -> set[str]:
    return {name for name in inspect(engine).get_table_names() if _PARTITION.search(name)}


# Migrations


def test_the_migrations_make_exactly_the_tables_of_the_code(engine: Engine) -> None:
    assert schema.migrate(engine) == schema.newest_version()
    partitions.make_ahead(engine, date(2025, 3, 14), 2)
    assert differences(engine) == []


def test_the_comparison_would_notice_a_difference(engine: Engine) -> None:
    schema.migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE analytics_daily ALTER count TYPE integer"))
        connection.execute(text("DROP INDEX ix_flush_batches_stored_at"))
    assert len(differences(engine)) == 2


def test_the_tables_are_partitioned_as_the_code_says(engine: Engine) -> None:
    schema.migrate(engine)
    with engine.connect() as connection:
        found = connection.execute(
            text(
                "SELECT partrelid::regclass::text, pg_get_partkeydef(partrelid) "
                "FROM pg_partitioned_table"
            )
        )
        assert dict(map(tuple, found)) == {
            **{table.name: "RANGE (date)" for table in PARTITIONED_BY_MONTH},
            **{table.name: 'RANGE ("timestamp")' for table in PARTITIONED_BY_DAY},
        }


def test_a_migration_repeated_changes_nothing(services: Services) -> None:
    count_events(services, event(user_id="u1"))
    services.flush()
    before = rows(services, "analytics_user_daily")
    assert schema.migrate(services.engine) == schema.newest_version()
    assert rows(services, "analytics_user_daily") == before


def test_migrations_from_several_places_at_once_are_one(
    engine: Engine, empty_postgres_url: str
) -> None:
    program = (
        "import sys\n"
        "from pipeline.postgres import schema\n"
        "from pipeline.postgres.engine import postgres_engine\n"
        "engine = postgres_engine(sys.argv[1])\n"
        "engine.connect().close()\n"
        "import alembic.command\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(schema.migrate(engine))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, empty_postgres_url],
            cwd=ROOT,
            env=environment_without_settings(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    versions = [process.communicate(timeout=60)[0] for process in processes]
    assert versions == [f"{schema.newest_version()}\n"] * 3
    assert differences(engine) == []


def test_the_schema_can_be_taken_down_and_built_again(engine: Engine) -> None:
    schema.migrate(engine)
    partitions.make_ahead(engine, date(2025, 3, 14), 1)
    downgrade(engine, "base")
    assert inspect(engine).get_table_names() == [VERSION_TABLE]
    with engine.connect() as connection:
        assert current_version(connection) is None
    schema.migrate(engine)
    assert differences(engine) == []


def test_a_migration_beside_other_tables_leaves_them_alone(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num text)"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('theirs')"))
        connection.execute(text("CREATE TABLE users (id int)"))
    schema.migrate(engine)
    with engine.connect() as connection:
        theirs = connection.execute(text("SELECT version_num FROM alembic_version")).scalars()
        assert list(theirs) == ["theirs"]
    assert "users" in inspect(engine).get_table_names()


# Partitions


def test_this_month_and_those_after_it_are_made_ahead(engine: Engine) -> None:
    schema.migrate(engine)
    for _ in range(2):
        partitions.make_ahead(engine, date(2025, 11, 30), 3)
    by_month = {
        f"{table.name}_{month}"
        for table in PARTITIONED_BY_MONTH
        for month in ("default", "2025_11", "2025_12", "2026_01", "2026_02")
    }
    days = ("default", "2025_11_30", *(f"2025_12_0{day}" for day in range(1, 8)))
    assert partition_names(engine) == by_month | {f"events_{day}" for day in days}


def test_partitions_made_from_several_places_at_once_are_made_once(engine: Engine) -> None:
    schema.migrate(engine)
    days = {f"2015-{month:02}-28": 1 for month in range(1, 7)}
    today = date(2015, 7, 1)
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(lambda _: partitions.ensure_months(engine, user_daily, days, today), range(4))
        )
    months = {name for name in partition_names(engine) if "_2015_" in name}
    assert months == {f"analytics_user_daily_2015_{month:02}" for month in range(1, 7)}


@pytest.mark.parametrize(
    ("day", "following"),
    [
        (date(2025, 1, 31), date(2025, 2, 1)),
        (date(2024, 2, 29), date(2024, 3, 1)),
        (date(2025, 12, 31), date(2026, 1, 1)),
    ],
    ids=str,
)
def test_the_month_after(day: date, following: date) -> None:
    assert begin_next_month(day) == following


# Maintenance


def test_maintenance_makes_partitions_and_forgets_old_ledger_entries(services: Services) -> None:
    for _ in range(3):
        count_events(services, event())
        services.flush()
    execute(
        services,
        "UPDATE flush_batches SET stored_at = stored_at - claim * interval '40 days'",
    )
    for _ in range(2):
        services.maintain(datetime.now(UTC))
    assert claims(services) == [1, 2, 3], "Redis lists them for a day"

    grow_older(services, timedelta(days=2))
    count_events(services, event())
    services.flush()  # takes what is too old off that list
    services.maintain(datetime.now(UTC))
    assert claims(services) == [1, 2, 4], "older than 90 days: the third"
    this_month = f"analytics_user_daily_{datetime.now(UTC):%Y_%m}"
    assert this_month in partition_names(services.engine)


def claims(services: Services) -> list[int]:
    return [
        claim for [claim] in execute(services, "SELECT claim FROM flush_batches ORDER BY claim")
    ]


def test_events_of_a_month_that_has_its_partition_already_are_stored_there(
    services: Services,
) -> None:
    services.maintain(NOW)
    tomorrow = NOW + timedelta(hours=24)
    count_events(services, event(user_id="u1"), event(user_id="u1", timestamp=tomorrow))
    assert services.flush() == 6
    [[partition]] = execute(
        services, "SELECT DISTINCT tableoid::regclass::text FROM analytics_user_daily"
    )
    assert partition == "analytics_user_daily_2025_03"
