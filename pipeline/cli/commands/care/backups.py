"""`analytics backup` and `analytics restore`: Redis and Postgres, both of one moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.cli.context import find_postgres_url, find_redis_url, load_settings, open_services
from pipeline.cli.options import Json
from pipeline.cli.output import print_json, say, warn
from pipeline.errors import BatchesLeft
from pipeline.server_errors import report_errors

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from config.settings import Settings
    from pipeline.upkeep.backups.postgres_copy import PostgresPrograms

Bin = Annotated[
    Path | None,
    typer.Option(
        "--postgres-bin", metavar="DIR", help="Directory of pg_dump and pg_restore; found if unset."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(epilog="Example: analytics backup backups/2026-01-31")(backup)
    app.command(epilog="Example: analytics restore backups/2026-01-31")(restore)


def backup(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory.")],
    postgres_bin: Bin = None,
    redis_mib: Annotated[
        int, typer.Option(min=1, help="Most MiB copied of Redis, which is held 20 ms for each.")
    ] = 64,
    as_json: Json = False,
) -> None:
    """Copy Redis and Postgres into a new directory, both as they are at one moment.

    Flushes and archives first, so that Redis holds little; counting goes on meanwhile. The copies
    hold user ids and raw events: only their owner can read them.
    """
    from pipeline.upkeep.backups.backup import Installation, make_backup

    with open_services() as services:
        programs = _find_programs(services.engine, postgres_bin)
        with suppress(BatchesLeft):
            services.flush()
        services.archive_events()
        most_bytes = redis_mib * 1024 * 1024
        source = Installation(services.redis, services.keys, services.engine, programs, most_bytes)
        made = make_backup(source, directory)
    if as_json:
        print_json({"directory": f"{directory}", "made_at": made.made_at.isoformat()})
        return
    say(f"Backed up into {directory}, as of {made.made_at:%Y-%m-%d %H:%M:%S} UTC.")
    if services.broker_url is not None:
        warn("what waits in RabbitMQ is not in the backup: copy its definitions and queues there")


def restore(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `backup` made.")],
    only: Annotated[
        Literal["redis", "postgres"] | None,
        typer.Option(help="Restore this server alone; the other one is as it is."),
    ] = None,
    postgres_bin: Bin = None,
    as_json: Json = False,
) -> None:
    """Restore what `analytics backup` copied, into servers that hold nothing of the installation.

    End all processes of the pipeline before; private servers that do not run are started for it.
    Afterwards it is said whether both are of one moment, and what to do where they are not.
    """
    from pipeline.postgres.engine import postgres_engine
    from pipeline.redis.client import redis_client
    from pipeline.redis.keys import Keys
    from pipeline.upkeep.backups.backup import read_backup, restore_postgres, restore_redis
    from pipeline.upkeep.checkup.one_moment import check_moment

    settings = load_settings()
    keys, restored_keys = Keys(settings.prefix), 0
    with _private_servers(settings), redis_client(find_redis_url(settings)) as client:
        engine = postgres_engine(find_postgres_url(settings), settings.postgres_schema)
        try:
            with report_errors(redis=client):  # before Postgres is restored
                client.ping()
            programs = _find_programs(engine, postgres_bin)
            found = read_backup(directory, settings.prefix)
            if only != "redis":
                restore_postgres(engine, programs, directory)
            if only != "postgres":
                restored_keys = restore_redis(client, keys, directory)
            moment = check_moment(client, keys, engine)
        finally:
            engine.dispose()
    if as_json:
        of_moment = moment.state == "fine"
        print_json({"redis_keys": restored_keys, "of_one_moment": of_moment, "what": moment.what})
    else:
        say(f"Restored {only or 'Redis and Postgres'} as of {found.made_at:%Y-%m-%d %H:%M:%S} UTC.")
    if moment.state != "fine":
        warn(f"{moment.what}: {moment.remedy}")


@contextmanager
def _private_servers(settings: Settings) -> Iterator[None]:
    """Run the private servers of the data directory meanwhile, where they are meant and do not run.
    Raises `EmbeddedServerFailed`."""
    redis, postgres = settings.redis_url is None, settings.postgres_url is None
    if not redis and not postgres:
        yield
        return
    from pipeline.embedded import PrivateServers

    data_dir = settings.data_dir.absolute()
    with PrivateServers.start(
        data_dir, redis=redis, postgres=postgres, appendfsync=settings.appendfsync
    ):
        yield


def _find_programs(engine: Engine, given: Path | None) -> PostgresPrograms:
    """The programs whose version is that of the server, else the next later one."""
    from pipeline.embedded.postgres import find_client_programs
    from pipeline.upkeep.backups.postgres_copy import PostgresPrograms

    with report_errors(postgres=engine), engine.connect() as connection:
        major = connection.connection.driver_connection.info.server_version // 10_000  # type: ignore[union-attr]
    return PostgresPrograms(
        given or find_client_programs(major), find_postgres_url(load_settings())
    )
