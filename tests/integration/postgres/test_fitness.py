"""A database that is not ours, or not of our version, is refused in one line that names what was
found and what to do; and nothing is lost or buried meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from pipeline.errors import InvalidConfiguration, PipelineError
from pipeline.event_log.archive import Archive
from pipeline.event_log.archiving import ArchiveOptions, archive_entries
from pipeline.flushing.flush import flush
from pipeline.flushing.store import Store
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import NEWEST_VERSION, VERSION_TABLE, check_postgres
from pipeline.services import Services
from tests.helpers.support import TODAY, count_events, event, execute
from tests.integration.postgres.conftest import as_user, run_as_owner

OWN_SCHEMA = "set ANALYTICS_POSTGRES_SCHEMA to a schema of its own"
THEIRS = "CREATE TABLE events (id SERIAL PRIMARY KEY, title TEXT NOT NULL, timestamp INT)"
"""What many programs have under this name."""
LATER = f"{int(NEWEST_VERSION) + 1:04}"


@pytest.fixture
def engine(empty_postgres_url: str) -> Iterator[Engine]:
    """An empty database."""
    engine = postgres_engine(empty_postgres_url)
    yield engine
    engine.dispose()


def refusal(act: Callable[[], object]) -> str:
    """The one line with which `act` is refused."""
    with pytest.raises(InvalidConfiguration) as refused:
        act()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def list_relations(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        found = text(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1"
        )
        return list(connection.execute(found).scalars())


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_the_newest_version_is_that_of_the_migrations() -> None:
    assert schema.newest_version() == NEWEST_VERSION


# What belongs to other programs


@pytest.mark.parametrize(
    ("theirs", "named"),
    [
        (THEIRS, "public.events has no column event_type"),
        ("CREATE TABLE pruned (table_name TEXT, before INT)", "has a column before of type"),
        (
            "CREATE TABLE flush_batches (batch_id TEXT, epoch INT, claim BIGINT, rows INT, "
            "stored_at TIMESTAMPTZ, form INT, shop INT NOT NULL)",
            "public.flush_batches has a column shop that needs a value",
        ),
        ("CREATE VIEW dead_letters AS SELECT 1 AS id", "public.dead_letters is a view"),
        ("CREATE MATERIALIZED VIEW events AS SELECT 1 AS id", "public.events is a materialised"),
        ("CREATE SEQUENCE analytics_daily", "public.analytics_daily is a sequence"),
        ("CREATE TYPE events AS ENUM ('a')", 'type "events" already exists'),
        ("CREATE TYPE events AS (id INT)", "public.events is a type"),
        ("CREATE TABLE events_default (id INT)", 'relation "events_default" already exists'),
        (
            "CREATE TABLE shop (t INT); CREATE INDEX ix_events_timestamp ON shop (t)",
            'relation "ix_events_timestamp" already exists',
        ),
    ],
)
def test_what_has_a_name_of_ours_is_named_and_left_alone(
    engine: Engine, theirs: str, named: str
) -> None:
    run(engine, *theirs.split("; "))
    before = list_relations(engine)

    line = refusal(lambda: schema.migrate(engine))

    assert named in line
    assert OWN_SCHEMA in line
    assert list_relations(engine) == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (f"DROP TABLE events; {THEIRS}", "public.events has no column event_type"),
        ("ALTER TABLE events RENAME COLUMN user_id TO visitor", "events has no column user_id"),
        (
            "ALTER TABLE analytics_daily ALTER date TYPE TEXT",
            "analytics_daily has a column date of type text, not date",
        ),
        ("ALTER TABLE dead_letters ADD shop INT NOT NULL", "a column shop that needs a value"),
        (
            "ALTER TABLE pruned RENAME TO kept; CREATE VIEW pruned AS SELECT * FROM kept",
            "public.pruned is a view",
        ),
        ("DROP TABLE event_log_gaps", "the table event_log_gaps is missing"),
    ],
)
def test_tables_that_are_not_ours_any_more_are_named_at_the_start(
    services: Services, change: str, named: str
) -> None:
    for statement in change.split("; "):
        execute(services, statement)

    line = refusal(lambda: check_postgres(services.engine))

    assert named in line
    assert OWN_SCHEMA in line


@pytest.mark.parametrize(
    "theirs",
    [
        "INSERT INTO {table} VALUES ('a1b2c3d4e5f6')",
        "INSERT INTO {table} VALUES ('0001'), ('0002')",
        "ALTER TABLE {table} RENAME COLUMN version_num TO version",
    ],
)
def test_a_version_table_of_another_program_is_named(engine: Engine, theirs: str) -> None:
    run(
        engine,
        f"CREATE TABLE {VERSION_TABLE} (version_num TEXT)",
        theirs.format(table=VERSION_TABLE),
    )
    for act in (lambda: schema.migrate(engine), lambda: check_postgres(engine)):
        line = refusal(act)
        assert f"public.{VERSION_TABLE} in the database" in line
        assert "belongs to another program" in line
        assert OWN_SCHEMA in line


def test_columns_that_an_administrator_added_or_widened_are_no_fault(services: Services) -> None:
    execute(services, "ALTER TABLE events ADD note TEXT, ADD at TIMESTAMPTZ DEFAULT now() NOT NULL")
    execute(services, "ALTER TABLE events ALTER properties TYPE JSONB USING properties::JSONB")
    check_postgres(services.engine, writes=True)


# Encodings


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1", "EUC_JP", "WIN1251"])
def test_a_database_that_cannot_hold_every_text_is_refused(
    make_database: Callable[[str], str], encoding: str
) -> None:
    engine = postgres_engine(make_database(f"ENCODING '{encoding}'"))
    for act in (lambda: schema.migrate(engine), lambda: check_postgres(engine)):
        line = refusal(act)
        assert f"has the encoding {encoding}" in line
        assert "ENCODING 'UTF8' TEMPLATE template0" in line
    engine.dispose()


def test_the_encoding_of_the_environment_changes_nothing(
    services: Services, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    count_events(services, event("caffè ☕", "用户"))
    services.flush()
    services.archive_events()
    assert services.stats.count("caffè ☕", TODAY, TODAY) == 1
    assert execute(services, "SELECT user_id FROM events") == [("用户",)]


# Rights


def test_a_user_who_may_not_make_tables_is_told_which_right_is_missing(
    empty_postgres_url: str, user: str
) -> None:
    engine = postgres_engine(as_user(empty_postgres_url, user))
    line = refusal(lambda: schema.migrate(engine))
    assert f'GRANT CREATE, USAGE ON SCHEMA "public" TO "{user}"' in line

    run_as_owner(empty_postgres_url, f'GRANT CREATE, USAGE ON SCHEMA "public" TO "{user}"')
    assert schema.migrate(engine) == NEWEST_VERSION
    engine.dispose()


def test_a_user_without_a_schema_is_told_so(empty_postgres_url: str, user: str) -> None:
    run_as_owner(empty_postgres_url, f"ALTER ROLE {user} SET search_path = nowhere")
    engine = postgres_engine(as_user(empty_postgres_url, user))
    assert "leads to no schema" in refusal(lambda: schema.migrate(engine))
    engine.dispose()


@pytest.mark.parametrize(
    ("rights", "setting"),
    [
        ("SELECT", "client_min_messages = notice"),
        ("SELECT, INSERT, UPDATE, DELETE", "default_transaction_read_only = on"),
        ("SELECT, INSERT, UPDATE", "client_min_messages = notice"),
    ],
)
def test_a_user_who_may_only_read_reads_and_does_not_flush(
    empty_postgres_url: str, user: str, rights: str, setting: str
) -> None:
    owner = postgres_engine(empty_postgres_url)
    schema.migrate(owner)
    owner.dispose()
    run_as_owner(
        empty_postgres_url,
        f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO {user}",
        f"ALTER ROLE {user} SET {setting}",
    )
    engine = postgres_engine(as_user(empty_postgres_url, user))

    check_postgres(engine)
    line = refusal(lambda: check_postgres(engine, writes=True))

    assert user in line
    assert "run" in line
    engine.dispose()


def test_a_user_who_does_not_own_the_tables_stores_in_the_default_partitions(
    services: Services, postgres_url: str
) -> None:
    name = "writer_of_rows"
    run_as_owner(
        postgres_url,
        f"CREATE ROLE {name} LOGIN PASSWORD '{name}'",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}",
    )
    writer = postgres_engine(as_user(postgres_url, name))
    check_postgres(writer, writes=True)
    try:
        count_events(services, event(user_id="u1"))
        assert flush(services.claims, Store(writer, services.keys), 1_000) == 3
        assert archive_entries(services.event_log, Archive(writer)) == 1
        services.maintain(event().timestamp)  # the owner's
    finally:
        writer.dispose()
        run_as_owner(postgres_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    assert services.stats.user_count("u1", "page_view", TODAY, TODAY) == 1


# Programs and tables of different versions


@pytest.mark.parametrize("version", [LATER, "0010", "9999"])
def test_a_database_that_is_newer_than_the_program_is_said(
    services: Services, version: str
) -> None:
    execute(services, f"UPDATE {VERSION_TABLE} SET version_num = '{version}'")
    for act in (
        lambda: check_postgres(services.engine),
        lambda: schema.migrate(services.engine),
    ):
        line = refusal(act)
        assert line.startswith(f"the database is at version {version}, newer than this program")
        assert "upgrade this program" in line


@pytest.mark.parametrize(
    ("upgraded", "back"),
    [
        (
            "ALTER TABLE analytics_daily RENAME COLUMN count TO events",
            "ALTER TABLE analytics_daily RENAME COLUMN events TO count",
        ),
        (
            "ALTER TABLE flush_batches RENAME TO ledger",
            "ALTER TABLE ledger RENAME TO flush_batches",
        ),
        (
            "ALTER TABLE analytics_hourly ADD zone TEXT NOT NULL",
            "ALTER TABLE analytics_hourly DROP zone",
        ),
        (
            "ALTER TABLE analytics_daily ALTER date TYPE INT USING 1",
            "ALTER TABLE analytics_daily ALTER date TYPE DATE USING now()",
        ),
    ],
)
def test_counts_wait_while_the_tables_are_of_a_newer_program(
    services: Services, upgraded: str, back: str
) -> None:
    """An old worker goes on beside tables that were upgraded first."""
    count_events(services, event(user_id="u1"))
    execute(services, upgraded)
    execute(services, f"UPDATE {VERSION_TABLE} SET version_num = '{LATER}'")

    for _ in range(2):
        count_events(services, event(user_id="u1"))
        with pytest.raises(PipelineError, match="newer than this program"):
            services.flush()

    execute(services, back)
    execute(services, f"UPDATE {VERSION_TABLE} SET version_num = '{NEWEST_VERSION}'")
    services.flush()
    assert services.claims.open_batches() == []
    assert services.stats.count("page_view", TODAY, TODAY) == 3
    assert services.status()["dead_letters"] == 0
    assert execute(services, "SELECT count FROM analytics_daily") == [(3,)]


@pytest.mark.parametrize(
    ("upgraded", "back"),
    [
        (
            "ALTER TABLE events RENAME COLUMN user_id TO visitor",
            "ALTER TABLE events RENAME COLUMN visitor TO user_id",
        ),
        (
            f"ALTER TABLE events RENAME TO ours; {THEIRS}",
            "DROP TABLE events; ALTER TABLE ours RENAME TO events",
        ),
        ("ALTER TABLE events ADD zone TEXT NOT NULL", "ALTER TABLE events DROP zone"),
        (
            "ALTER TABLE events ALTER user_id TYPE INT USING 1",
            "ALTER TABLE events ALTER user_id TYPE TEXT",
        ),
    ],
)
def test_raw_events_wait_while_the_table_is_not_ours(
    services: Services, upgraded: str, back: str
) -> None:
    options = ArchiveOptions(idle_s=0, tries=1)
    count_events(services, event(user_id="u1"))
    for statement in upgraded.split("; "):
        execute(services, statement)

    assert "public.events has" in refusal(services.archive_events)
    for _ in range(2):
        with pytest.raises((InvalidConfiguration, DBAPIError)):
            archive_entries(services.event_log, services.archive, options)

    for statement in back.split("; "):
        execute(services, statement)
    assert archive_entries(services.event_log, services.archive, options) == 1
    assert services.status()["dead_letters"] == 0
    assert execute(services, "SELECT user_id FROM events") == [("u1",)]
