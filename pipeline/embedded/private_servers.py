"""Starting, attaching to and stopping the private servers of a data directory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Self

from pipeline import server_addresses
from pipeline.embedded import postgres as private_postgres
from pipeline.embedded import redis as private_redis
from pipeline.embedded.locks import try_lock
from pipeline.embedded.server import STOP_LIMIT_S, Program, Readiness, Server
from pipeline.errors import EmbeddedServerFailed, InvalidConfiguration
from pipeline.server_addresses import Addresses
from pipeline.system.file_locks import FileLock, read_pid
from pipeline.system.ports import is_port_free
from pipeline.system.private_files import make_private_directory

LOCK = "lock"
# Another process that is just starting may be making a Postgres cluster on a slow disk.
STARTING_LIMIT_S = 60.0
SILENT_LIMIT_S = 5.0
_POLL_S = 0.05
_PORT_TRIES = 3


class PrivateServers:
    """A private Redis and a private Postgres with their files in one directory.

    A context manager: its end stops them.
    `attached` is True when another live process runs them: then `redis` and `postgres` are None,
    and `stop` leaves them alone. They end with the process that started them, also after `kill -9`;
    the data stays, and the ports with it.
    """

    def __init__(
        self, addresses: Addresses, servers: Sequence[Server] = (), lock: FileLock | None = None
    ) -> None:
        """Use `start`. Without a `lock` the servers at `addresses` belong to another process."""
        self.redis_url = addresses.redis_url
        self.postgres_url = addresses.postgres_url
        self.redis = _find_server(private_redis.NAME, servers)
        self.postgres = _find_server(private_postgres.NAME, servers)
        self.attached = lock is None
        self._lock = lock
        self._owner_pid = os.getpid()

    @classmethod
    def start(
        cls,
        data_dir: Path,
        *,
        redis: bool = True,
        postgres: bool = True,
        appendfsync: str = "always",
        redis_binary: Path | None = None,
        postgres_bin_dir: Path | None = None,
    ) -> Self:
        """Start the servers asked for, or attach to those that a live process runs in `data_dir`.

        `appendfsync` is "always" or "everysec" (see redis.conf); `redis_binary` and
        `postgres_bin_dir` name the programs, which are found otherwise. The directory is made when
        absent. A repeat in the same process attaches to the first. Raises EmbeddedServerFailed;
        nothing that was started is left then.
        """
        servers: list[Server] = []
        lock: FileLock | None = None
        try:
            # Where root runs this, Postgres runs as another user, who has to pass; what lies inside
            # is closed to all others.
            make_private_directory(data_dir, passable=os.geteuid() == 0)
            data_dir = data_dir.resolve()
            held = _lock_or_attach(data_dir, redis=redis, postgres=postgres)
            if isinstance(held, Addresses):
                return cls(held)
            lock = held
            lock.write(str(os.getpid()))
            if redis:
                prepare = partial(private_redis.prepare, redis_binary, data_dir, appendfsync)
                servers.append(_start(prepare, data_dir))
            if postgres:
                prepare = partial(private_postgres.prepare, postgres_bin_dir, data_dir)
                servers.append(_start(prepare, data_dir))
            addresses = _collect_addresses(servers)
            server_addresses.write(data_dir, addresses)
            return cls(addresses, servers, lock)
        except BaseException as error:
            _stop(servers)
            if lock is not None:
                lock.close()
            if isinstance(error, OSError):
                raise EmbeddedServerFailed(
                    f"the data directory {data_dir} cannot be used ({error}): give one on a local "
                    "disk that this user may write"
                ) from error
            raise

    def check(self) -> list[Server]:
        """Those of our own servers that do not run; `start` of each runs it again."""
        return [server for server in self._servers() if not server.alive()]

    def stop(self) -> None:
        """Stop our own servers, cleanly within 5 s, else by force, and free the directory.

        A repeat does nothing, nor does a call in a process that attached or was forked from the
        owner.
        """
        if self._lock is None or os.getpid() != self._owner_pid:
            return
        _stop(self._servers())
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _servers(self) -> list[Server]:
        return [server for server in (self.redis, self.postgres) if server is not None]


def _lock_or_attach(data_dir: Path, *, redis: bool, postgres: bool) -> FileLock | Addresses:
    """The lock of a free directory, or the addresses at which the servers of its owner answer."""
    began = time.monotonic()
    started_at: float | None = None
    while True:
        lock = try_lock(data_dir / LOCK)
        if lock is not None:
            return lock
        now = time.monotonic()
        owner = read_pid(data_dir / LOCK)
        addresses = _read(data_dir)
        if addresses is not None and addresses.pid == owner:
            wanted = Addresses(
                addresses.redis_url if redis else None,
                addresses.postgres_url if postgres else None,
                addresses.pid,
            )
            if (redis and not wanted.redis_url) or (postgres and not wanted.postgres_url):
                raise _explain_holder(data_dir, owner, "and runs only one of the servers there")
            if _are_ready(wanted):
                return wanted
            started_at = started_at or now
            if now - started_at > SILENT_LIMIT_S:
                raise _explain_holder(
                    data_dir, owner, f"and its servers do not answer for {SILENT_LIMIT_S:.0f} s"
                )
        elif now - began > STARTING_LIMIT_S:
            raise _explain_holder(
                data_dir, owner, f"and has not started its servers for {STARTING_LIMIT_S:.0f} s"
            )
        time.sleep(_POLL_S)


def _read(data_dir: Path) -> Addresses | None:
    try:
        return server_addresses.read(data_dir)
    except InvalidConfiguration as error:
        raise EmbeddedServerFailed(str(error)) from error


def _are_ready(addresses: Addresses) -> bool:
    readiness = []
    if addresses.redis_url is not None:
        readiness.append(private_redis.probe(addresses.redis_url))
    if addresses.postgres_url is not None:
        readiness.append(private_postgres.probe(addresses.postgres_url))
    return all(one is Readiness.READY for one in readiness)


def _explain_holder(data_dir: Path, owner: int | None, what: str) -> EmbeddedServerFailed:
    return EmbeddedServerFailed(
        f"process {owner or '(unknown)'} holds the data directory {data_dir} {what}: stop that "
        "process, or give another directory with ANALYTICS_DATA_DIR"
    )


def _start(prepare: Callable[[], Program], data_dir: Path) -> Server:
    """A server that answers: on another port where a program took its own before it listened."""
    tries_left = _PORT_TRIES
    while True:
        server = Server(prepare(), data_dir)
        try:
            server.start()
        except EmbeddedServerFailed:
            tries_left -= 1
            if not tries_left or is_port_free(server.port):
                raise
        else:
            return server


def _collect_addresses(servers: Sequence[Server]) -> Addresses:
    urls = {server.name: server.url for server in servers}
    return Addresses(urls.get(private_redis.NAME), urls.get(private_postgres.NAME), os.getpid())


def _find_server(name: str, servers: Sequence[Server]) -> Server | None:
    return next((server for server in servers if server.name == name), None)


def _stop(servers: Sequence[Server]) -> None:
    """Stop all of them at the same time, which takes no longer than the slowest."""
    for server in servers:
        server.ask_to_stop()
    deadline = time.monotonic() + STOP_LIMIT_S
    for server in servers:
        server.wait_until_stopped(deadline)
