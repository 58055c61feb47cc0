"""What Postgres refuses for a while, by SQLSTATE: nothing is set aside for good, nothing becomes a
dead letter, and it is stored once the reason is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import make_url, text

from pipeline.errors import (
    BatchesLeft,
    InvalidConfiguration,
    ServerUnavailable,
)
from pipeline.postgres import engine as engine_module
from pipeline.postgres.engine import postgres_engine
from pipeline.services import Services, connect
from pipeline.upkeep import dead_letters
from tests.helpers.support import (
    TODAY,
    count_events,
    event,
    eventually,
    execute,
    stored_total,
)

SERVER = ["25006", "53100", "53200", "57P03", "08006", "58030"]
"""What every transaction meets."""
MOMENT = ["40001", "40P01", "55P03", "57014"]
"""What this one met."""
RIGHTS = ["28P01", "3D000"]


@contextmanager
def refusing(services: Services, table: str, sqlstate: str) -> Iterator[None]:
    """Every INSERT into a table fails in this way."""
    execute(
        services,
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
        f"BEGIN RAISE 'not now' USING ERRCODE = '{sqlstate}'; END $$",
    )
    execute(
        services,
        f"CREATE TRIGGER refuse BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()",
    )
    try:
        yield
    finally:
        services.engine.dispose()
        execute(services, f"DROP TRIGGER refuse ON {table}")


def assert_stored(services: Services, events: int) -> None:
    status = services.status()
    assert (status["pending_counters"], status["inflight_batches"]) == (0, 0)
    assert dead_letters.list_stored(services.engine) == []
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) == events


@pytest.mark.parametrize("sqlstate", [*SERVER, *RIGHTS])
def test_what_every_flush_would_meet_stops_it_before_more_is_claimed(
    services: Services, sqlstate: str
) -> None:
    count_events(services, event())
    kind = InvalidConfiguration if sqlstate in RIGHTS else ServerUnavailable
    with refusing(services, "analytics_daily", sqlstate):
        for _ in range(3):
            count_events(services, event())
            with pytest.raises(kind, match="not now"):
                services.flush()
        assert len(services.claims.open_batches()) == 1
        assert services.stats.daily_count("page_view", TODAY) == 4
    services.flush()
    assert_stored(services, 4)


@pytest.mark.parametrize("sqlstate", MOMENT)
def test_a_batch_that_met_another_transaction_holds_up_no_other_and_is_said(
    services: Services, sqlstate: str
) -> None:
    count_events(services, event())
    services.claims.claim("b1", 1_000, (0, 0))
    with refusing(services, "analytics_daily", sqlstate):
        with pytest.raises(BatchesLeft, match=r"^1 batch of counters .*not now"):
            services.flush()
        count_events(services, event())
        with pytest.raises(ServerUnavailable, match="was not free in time"):
            services.flush()
    services.flush()
    assert_stored(services, 2)


def test_a_batch_that_met_a_deadlock_is_stored_by_the_same_flush(services: Services) -> None:
    count_events(services, event())
    services.claims.claim("b1", 1_000, (0, 0))
    execute(services, "CREATE SEQUENCE tries")
    execute(
        services,
        "CREATE FUNCTION refuse_once() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('tries') = 1 THEN RAISE 'deadlock detected' USING ERRCODE = '40P01'; END IF; "
        "RETURN NEW; END $$",
    )
    execute(
        services,
        "CREATE TRIGGER refuse_once BEFORE INSERT ON analytics_daily "
        "FOR EACH ROW EXECUTE FUNCTION refuse_once()",
    )
    assert services.flush() == 2
    assert_stored(services, 1)


@pytest.mark.parametrize("sqlstate", [*SERVER, *MOMENT])
def test_the_archive_waits_for_a_server_that_refuses(services: Services, sqlstate: str) -> None:
    count_events(services, event(), event())
    with refusing(services, "events", sqlstate):
        for _ in range(7):  # more often than an entry that cannot be read is tried
            with pytest.raises(ServerUnavailable, match="not now"):
                services.archive_events()
    assert services.archive_events() == 2
    assert dead_letters.list_stored(services.engine) == []


@pytest.fixture
def limited(services: Services, postgres_url: str) -> Iterator[str]:
    """The URL of a user who owns nothing, may have one connection, and whose password changes."""
    role = str(make_url(postgres_url).database)
    execute(services, f"CREATE ROLE {role} LOGIN PASSWORD 'first' CONNECTION LIMIT 1")
    for privilege in (
        "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public",
        "USAGE ON SCHEMA public",
    ):
        execute(services, f"GRANT {privilege} TO {role}")
    url = make_url(postgres_url).set(username=role, password="first")
    yield url.render_as_string(hide_password=False)
    execute(services, f"DROP OWNED BY {role}")
    execute(services, f"DROP ROLE {role}")


def test_too_many_connections_are_said_as_such_and_pass(
    services: Services, redis_url: str, limited: str
) -> None:
    count_events(services, event())
    engine = postgres_engine(limited)
    other = connect(services.options, redis_url, limited)
    with engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with pytest.raises(ServerUnavailable, match=r"has no room .*too many connections"):
            other.flush()
    engine.dispose()
    assert services.claims.pending() == 2
    assert other.flush() == 2
    other.close()
    assert_stored(services, 1)


def test_a_rotated_password_is_said_and_then_read_from_its_file(
    services: Services,
    redis_url: str,
    limited: str,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine_module, "_IDLE_S", 0)  # as if connections had been idle for longer
    passwords = tmp_path_factory.mktemp("secrets") / "pgpass"
    url = make_url(limited)
    place = f"{url.username}@{url.host}:{url.port}/{url.database}"
    address = f"postgresql://{place}?passfile={passwords}"
    passwords.write_text("*:*:*:*:first\n")
    passwords.chmod(0o600)
    other = connect(services.options, redis_url, address)
    count_events(services, event())
    assert other.flush() == 2
    execute(services, f"ALTER ROLE {url.username} PASSWORD 'second'")
    execute(
        services,
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{url.username}'",
    )
    theirs = f"SELECT pid FROM pg_stat_activity WHERE usename = '{url.username}'"
    eventually(lambda: not execute(services, theirs))  # they end a moment later
    count_events(services, event())
    with pytest.raises(InvalidConfiguration, match=r"refuses the connection .*password"):
        other.flush()
    assert services.claims.pending() == 2
    passwords.write_text("*:*:*:*:second\n")
    assert other.flush() == 2
    other.close()
    assert_stored(services, 2)
