"""Addresses that libpq understands lead to real servers: several hosts, service and password files,
sockets; and a failover from a primary to its standby loses nothing."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import make_url, text

from pipeline.embedded import PrivateServers
from pipeline.errors import ServerUnavailable
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import check_postgres
from pipeline.services import Services, connect
from tests.helpers.postgres.standby import standby
from tests.helpers.support import TODAY, count_events, event, stored_total

AWAY = "127.0.0.1:1"


def check(address: str) -> None:
    engine = postgres_engine(address)
    try:
        check_postgres(engine)
    finally:
        engine.dispose()


def places(url: str) -> dict[str, str]:
    """The parts of the URL of a test's database, to write others with."""
    parts = make_url(url)
    return {
        "user": str(parts.username),
        "password": quote(str(parts.password), safe=""),
        "secret": str(parts.password),
        "host": str(parts.host),
        "port": str(parts.port),
        "database": str(parts.database),
    }


@pytest.mark.parametrize(
    "form",
    [
        f"postgresql://{{user}}:{{password}}@{AWAY},{{host}}:{{port}}/{{database}}",
        "postgres://{user}:{password}@localhost:{port},127.0.0.1:1/{database}"
        "?target_session_attrs=read-write&connect_timeout=2",
        "postgresql://{user}:{password}@/{database}?host={host}&port={port}",
        "postgresql:///{database}?host=127.0.0.1:1&host={host}:{port}&user={user}&password={password}",
        "host={host} port={port} dbname={database} user={user} password='{secret}'",
        f"postgresql+psycopg://{{user}}:{{password}}@{AWAY},{{host}}:{{port}}/{{database}}"
        "?sslmode=prefer&application_name=mine&options=-csearch_path%3Dpublic",
    ],
)
def test_an_address_leads_to_the_server_that_answers(postgres_url: str, form: str) -> None:
    check(form.format_map(places(postgres_url)))


def test_service_and_password_files_are_read(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = places(postgres_url)
    (tmp_path / "services").write_text(
        "[counts]\nhost={host}\nport={port}\ndbname={database}\nuser={user}\n".format_map(parts)
    )
    passwords = tmp_path / "passwords"
    passwords.write_text("{host}:{port}:*:{user}:{secret}\n".format_map(parts))
    passwords.chmod(0o600)
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    for address in ("service=counts", "postgresql://?service=counts"):
        check(address)
    monkeypatch.delenv("PGPASSFILE")
    check(f"postgresql:///?service=counts&passfile={passwords}")
    named = "postgresql://{user}@{host}:{port}/{database}?passfile=".format_map(parts)
    check(f"{named}{passwords}")


def test_where_no_host_answers_each_is_named_with_its_reason() -> None:
    address = "postgresql://me:secret@127.0.0.1:1,nowhere.invalid:2,[::1]:3/counts"
    with pytest.raises(ServerUnavailable) as refused:
        check(address)
    said = str(refused.value)
    assert said.startswith("Postgres at 127.0.0.1:1,nowhere.invalid:2,[::1]:3 does not answer (")
    assert "port 1 failed" in said
    assert "port 3 failed" in said
    assert "secret" not in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("address", "place"),
    [
        ("postgresql://me:secret@/counts?host=/nonexistent", "Postgres at /nonexistent"),
        ("host=/nonexistent dbname=counts password=secret", "Postgres at /nonexistent"),
        ("postgresql://me:secret@[::1]:1/counts", r"Postgres at \[::1\]:1"),
        ("service=unheard-of", "Postgres at service unheard-of"),
    ],
)
def test_a_server_that_is_away_is_named(address: str, place: str) -> None:
    with pytest.raises(ServerUnavailable, match=place) as refused:
        check(address)
    assert "secret" not in str(refused.value)


def test_a_connection_that_a_firewall_forgets_ends_by_itself(postgres_url: str) -> None:
    engine = postgres_engine(postgres_url)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        with socket.socket(fileno=socket.dup(driver.fileno())) as used:
            assert used.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle_s = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            unanswered_ms = used.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert (idle_s, unanswered_ms) == (30, 15_000)
    engine.dispose()


def test_a_failover_to_a_standby_loses_nothing(
    services: Services, redis_url: str, own_servers: PrivateServers
) -> None:
    """The address names both, the standby first; at the end it is the only one."""
    assert own_servers.postgres_url is not None
    assert own_servers.postgres is not None
    engine = postgres_engine(own_servers.postgres_url)
    schema.migrate(engine)
    primary = make_url(own_servers.postgres_url)
    with standby(own_servers.postgres_url) as second:
        hosts = f"127.0.0.1:{second.url.port},127.0.0.1:{primary.port}"
        address = (
            f"postgresql://{primary.username}:{primary.password}@{hosts}/{primary.database}"
            "?target_session_attrs="
        )
        alone = connect(
            services.options, redis_url, second.url.render_as_string(hide_password=False)
        )
        with (
            closing(connect(services.options, redis_url, f"{address}read-write")) as pooled,
            closing(alone),
        ):
            count_events(services, event(), event())
            assert pooled.flush() == 2
            count_events(services, event())
            with pytest.raises(ServerUnavailable, match="takes no changes"):
                alone.flush()
            assert services.claims.pending() == 2, "nothing is claimed for a standby"
            with engine.connect() as connection:
                driver = connection.connection.driver_connection
                assert isinstance(driver, psycopg.Connection)
                second.wait_for(driver)
            engine.dispose()
            own_servers.postgres.kill()
            with pytest.raises(ServerUnavailable):
                pooled.flush()
            second.promote()
            assert pooled.flush() == 2
            assert pooled.stats.daily_count("page_view", TODAY) == stored_total(pooled) == 3
            count_events(services, event())
            assert alone.flush() == 2, "a connection of before the promotion"
            with pooled.engine.connect() as connection:
                assert connection.execute(text("SHOW in_hot_standby")).scalar() == "off"
