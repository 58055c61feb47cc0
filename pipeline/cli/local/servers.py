"""The servers of `analytics up`: private ones where no URL is given, and checks of either."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import server_addresses
from pipeline.errors import AlreadyRunning
from pipeline.system.file_locks import FileLock, read_pid
from pipeline.system.private_files import make_private_directory

if TYPE_CHECKING:
    from config.settings import Settings
    from pipeline.embedded import PrivateServers

LOCK = "up.lock"


def start_private_servers(settings: Settings) -> PrivateServers | None:
    """Start a private server for each URL that the settings do not give; None when both are given.

    Raises `AlreadyRunning` when another process runs them in the data directory.
    """
    from pipeline.embedded import PrivateServers

    redis, postgres = settings.redis_url is None, settings.postgres_url is None
    if not redis and not postgres:
        return None
    data_dir = settings.data_dir.absolute()
    servers = PrivateServers.start(
        data_dir, redis=redis, postgres=postgres, appendfsync=settings.appendfsync
    )
    if servers.attached:
        addresses = server_addresses.read(data_dir)
        raise _explain_holder(data_dir, addresses.pid if addresses else None)
    return servers


def lock_data_dir(data_dir: Path) -> FileLock:
    """Keep a second `up` away, also when the servers are not private ones.

    Raises `AlreadyRunning`.
    """
    make_private_directory(data_dir, passable=os.geteuid() == 0)
    lock = FileLock.try_acquire(data_dir / LOCK)
    if lock is None:
        raise _explain_holder(data_dir, read_pid(data_dir / LOCK))
    lock.write(str(os.getpid()))
    return lock


def prepare_servers(
    redis_url: str, postgres_url: str, settings: Settings, report: Callable[[str], None]
) -> None:
    """Refuse servers that each worker would refuse in its log; bring the tables up to date.

    `report` is given a line on what Redis does not say of itself.
    """
    from pipeline.postgres.engine import postgres_engine
    from pipeline.postgres.fitness import check_postgres
    from pipeline.postgres.ownership import use_prefix
    from pipeline.postgres.schema import migrate
    from pipeline.redis.client import check_redis, redis_client

    with redis_client(redis_url) as client:
        doubt = check_redis(client, settings.appendfsync)
    if doubt is not None:
        report(f"redis: {doubt}")
    engine = postgres_engine(postgres_url, settings.postgres_schema)
    use_prefix(engine, settings.prefix)
    try:
        migrate(engine)
        check_postgres(engine, writes=True)
    finally:
        engine.dispose()


def _explain_holder(data_dir: Path, pid: int | None) -> AlreadyRunning:
    return AlreadyRunning(
        f"`analytics up` already runs on {data_dir} (process {pid or 'unknown'}): "
        "stop it first, or give this one another --data-dir"
    )
