"""Private servers whose owner was killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import server_addresses
from pipeline.embedded import (
    PrivateServers,
    locks,
)
from pipeline.errors import EmbeddedServerFailed
from pipeline.system.file_locks import FileLock
from tests.helpers.processes import runs
from tests.integration.embedded.support import (
    Owner,
    eventually,
    linux_only,
    sql,
)


@linux_only
def test_servers_end_cleanly_with_their_killed_owner_and_the_next_start_goes_on(
    data_dir: Path, owner: Callable[..., Owner]
) -> None:
    other = owner(data_dir, postgres=True)
    pids = other.started()
    before = server_addresses.read(data_dir)
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
        before = server_addresses.read(data_dir)
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
    held = FileLock.try_acquire(data_dir / "redis.lock")
    assert held is not None
    held.write(str(stranger.pid))
    try:
        with pytest.raises(EmbeddedServerFailed, match=f"still in use.*process {stranger.pid}"):
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
