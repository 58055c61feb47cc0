"""Several processes that start private servers in one directory."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import server_addresses
from pipeline.embedded import (
    PrivateServers,
    private_servers,
)
from pipeline.errors import EmbeddedServerFailed
from pipeline.system.file_locks import FileLock
from tests.integration.embedded.support import (
    Owner,
    eventually,
)


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
    held = FileLock.try_acquire(data_dir / "lock")
    assert held is not None
    held.write("4711")
    if announced:
        with socket.socket() as unanswered:
            unanswered.bind(("127.0.0.1", 0))
            url = f"redis://127.0.0.1:{unanswered.getsockname()[1]}/0"
        server_addresses.write(data_dir, server_addresses.Addresses(url, None, 4711))
    try:
        with pytest.raises(EmbeddedServerFailed) as caught:
            PrivateServers.start(data_dir, postgres=False)
    finally:
        held.close()

    assert "process 4711" in str(caught.value)
    assert str(data_dir) in str(caught.value)
    assert "stop that process" in str(caught.value)


def test_an_owner_that_runs_only_one_server_cannot_lend_the_other(data_dir: Path) -> None:
    with (
        PrivateServers.start(data_dir, postgres=False),
        pytest.raises(EmbeddedServerFailed, match=f"process {os.getpid()} .* only one"),
    ):
        PrivateServers.start(data_dir)
