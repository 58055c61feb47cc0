"""Private servers that are stopped, killed and started again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipeline.embedded import (
    PrivateServers,
    private_servers,
    server,
)
from pipeline.system.file_locks import FileLock
from tests.helpers.processes import runs
from tests.integration.embedded.support import (
    Flavour,
    linux_only,
    processes_naming,
    redis_of,
    sql,
)


def test_a_restart_keeps_urls_and_data(data_dir: Path, flavour: Flavour) -> None:
    with flavour.start(data_dir) as first:
        with redis_of(first) as client:
            client.set("kept", "1")
        sql(first, "CREATE TABLE kept AS SELECT 7 AS number")

    with flavour.start(data_dir) as second:
        assert (second.redis_url, second.postgres_url) == (first.redis_url, first.postgres_url)
        with redis_of(second) as client:
            assert client.get("kept") == "1"
        assert sql(second, "SELECT number FROM kept") == (7,)


def test_killed_servers_start_again_on_the_same_port_with_what_they_acknowledged(
    data_dir: Path, flavour: Flavour
) -> None:
    with flavour.start(data_dir) as servers:
        assert servers.redis is not None
        assert servers.postgres is not None
        before = {one.name: (one.pid, one.port) for one in (servers.redis, servers.postgres)}
        with redis_of(servers) as client:
            client.set("kept", "1")
        sql(servers, "CREATE TABLE kept AS SELECT 7 AS number")

        for one in (servers.redis, servers.postgres):
            one.kill()
            assert not one.alive()
        assert servers.check() == [servers.redis, servers.postgres]
        for one in servers.check():
            one.start()

        assert servers.check() == []
        for one in (servers.redis, servers.postgres):
            assert one.pid != before[one.name][0]
            assert one.port == before[one.name][1]
        with redis_of(servers) as client:
            assert client.get("kept") == "1"
        assert sql(servers, "SELECT number FROM kept") == (7,)


def test_a_busy_postgres_that_was_killed_starts_again(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        assert servers.postgres_url is not None
        sql(servers, "CREATE TABLE numbers (number bigint)")
        url = servers.postgres_url.replace("+psycopg", "")
        with contextlib.closing(psycopg.connect(url)) as connection:
            connection.execute("INSERT INTO numbers SELECT generate_series(1, 200000)")
            servers.postgres.kill()
            servers.postgres.start()

        assert sql(servers, "SELECT count(*) FROM numbers") == (0,)


def test_an_append_only_file_cut_short_by_the_kill_is_accepted(
    data_dir: Path, flavour: Flavour
) -> None:
    with flavour.start(data_dir, postgres=False) as servers:
        assert servers.redis is not None
        with redis_of(servers) as client:
            client.set("first", "1")
            client.set("second", "2" * 100)
        servers.redis.kill()
        (log,) = (data_dir / "redis" / "appendonlydir").glob("*.incr.aof")
        os.truncate(log, log.stat().st_size - 50)

        servers.redis.start()

        with redis_of(servers) as client:
            assert (client.get("first"), client.get("second")) == ("1", None)


def as_user(uid: int, gid: int) -> dict[str, Any]:
    return {"user": uid, "group": gid, "extra_groups": []} if os.geteuid() == 0 else {}


def test_a_process_that_got_the_number_of_the_killed_postgres_is_no_hindrance(
    data_dir: Path,
) -> None:
    with PrivateServers.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        servers.postgres.kill()
        pid_file = data_dir / "postgres" / "postmaster.pid"
        status = pid_file.stat()
        # As the user of the cluster: Postgres takes no notice of other users' processes.
        stranger = subprocess.Popen(["sleep", "60"], **as_user(status.st_uid, status.st_gid))
        try:
            lines = pid_file.read_text().splitlines()
            pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")

            servers.postgres.start()

            assert stranger.poll() is None
        finally:
            stranger.kill()
            stranger.wait()
        assert sql(servers, "SELECT 1") == (1,)


def test_repeats_of_start_kill_and_stop_do_nothing(data_dir: Path) -> None:
    servers = PrivateServers.start(data_dir, postgres=False)
    assert servers.redis is not None
    pid = servers.redis.pid

    servers.redis.start()
    assert servers.redis.pid == pid
    servers.redis.kill()
    servers.redis.kill()
    servers.redis.stop()
    servers.stop()
    servers.stop()

    assert servers.check() == [servers.redis]


@linux_only
def test_a_stop_leaves_no_process_and_frees_the_directory(data_dir: Path) -> None:
    servers = PrivateServers.start(data_dir)

    servers.stop()

    assert processes_naming(data_dir) == []
    for name in ("lock", "redis.lock", "postgres.lock"):
        lock = FileLock.try_acquire(data_dir / name)
        assert lock is not None
        lock.close()
    assert "database system is shut down" in (data_dir / "postgres.log").read_text()
    assert "ready to exit" in (data_dir / "redis.log").read_text()


@linux_only
def test_a_stop_of_servers_that_do_not_react_kills_them(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(private_servers, "STOP_LIMIT_S", 0.2)
    monkeypatch.setattr(server, "ABORT_LIMIT_S", 0.2)
    servers = PrivateServers.start(data_dir)
    assert servers.redis is not None
    assert servers.postgres is not None
    for one in (servers.redis, servers.postgres):
        os.kill(one.pid, signal.SIGSTOP)

    servers.stop()

    assert not runs(servers.redis.pid)
    assert not runs(servers.postgres.pid)


def test_servers_outlive_the_thread_that_started_them(data_dir: Path) -> None:
    started: list[PrivateServers] = []
    thread = threading.Thread(target=lambda: started.append(PrivateServers.start(data_dir)))
    thread.start()
    thread.join()

    with started[0] as servers:
        with redis_of(servers) as client:
            assert client.ping()
        assert sql(servers, "SELECT 1") == (1,)
        assert servers.check() == []


def test_ctrl_c_in_the_owners_terminal_does_not_reach_the_servers(data_dir: Path) -> None:
    with PrivateServers.start(data_dir) as servers:
        for one in (servers.redis, servers.postgres):
            assert one is not None
            assert os.getpgid(one.pid) == one.pid
            assert os.getsid(one.pid) == one.pid
