"""A backup: a directory with a copy of Redis, one of Postgres, and what they are, written last.

Both copies are of one moment. Flushes and archive runs, which move data from one to the other, are
held off while Redis is copied and Postgres gives a snapshot; then they go on, and pg_dump reads
that snapshot for as long as it needs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import redis
from sqlalchemy import Engine, text

from pipeline.errors import CannotBackUp, CannotRestore
from pipeline.postgres import fitness
from pipeline.postgres.locks import hold_transfers
from pipeline.redis.keys import Keys
from pipeline.server_errors import report_errors
from pipeline.system.private_files import make_private_directory, sync_directory, write_private
from pipeline.upkeep.backups import postgres_copy, redis_copy
from pipeline.upkeep.backups.postgres_copy import PostgresPrograms
from pipeline.upkeep.condition.ledgers import read_claims

MANIFEST, REDIS, POSTGRES = "backup.json", "redis.dump", "postgres.dump"
_FORM = 1
_EXPORT = text("SELECT pg_export_snapshot()")


class Backup(msgspec.Struct):
    """What a backup is: when it was made (UTC), of which installation, and how far that was."""

    made_at: datetime
    prefix: str
    tables_version: str
    epoch: int
    claims: int
    redis_keys: int
    form: int = _FORM


@dataclass(frozen=True)
class Installation:
    """The servers of an installation, as they are copied: Redis up to `most_bytes`."""

    client: redis.Redis
    keys: Keys
    engine: Engine
    programs: PostgresPrograms
    most_bytes: int = redis_copy.MOST_BYTES


def make_backup(source: Installation, directory: Path) -> Backup:
    """Back up the installation into `directory`, which is made, or is empty.

    Raises `CannotBackUp`, and `ServerUnavailable` when a server is away; what is in the directory
    then is no backup.
    """
    client, keys, engine = source.client, source.keys, source.engine
    make_private_directory(directory)
    if any(directory.iterdir()):
        raise CannotBackUp(f"{directory} is not empty: name a new directory for each backup")
    with (
        report_errors(redis=client, postgres=engine),
        engine.connect().execution_options(isolation_level="REPEATABLE READ") as reading,
    ):
        with hold_transfers(engine):
            snapshot = str(reading.execute(_EXPORT).scalar_one())
            made_at = datetime.now(UTC)
            epoch, claims = read_claims(client, keys)
            copied = redis_copy.copy_keys(client, keys, source.most_bytes)
        redis_copy.write_copy(directory / REDIS, copied)
        tables = postgres_copy.find_tables(reading)
        path = directory / POSTGRES
        path.touch(mode=0o600)
        postgres_copy.dump_tables(source.programs, tables, snapshot, path)
    made = Backup(made_at, keys.prefix, fitness.NEWEST_VERSION, epoch, claims, len(copied))
    write_private(directory / MANIFEST, msgspec.json.encode(made).decode())
    sync_directory(directory)
    return made


def read_backup(directory: Path, prefix: str) -> Backup:
    """What the backup in `directory` is. Raises `CannotRestore` where it is none, or one of another
    installation, or of a later program."""
    try:
        found = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=Backup)
    except FileNotFoundError:
        raise CannotRestore(
            f"{directory} is no backup, or one that was not finished: it has no {MANIFEST}"
        ) from None
    except msgspec.DecodeError as error:
        raise CannotRestore(f"{directory / MANIFEST} is damaged ({error}): use another") from error
    if found.form > _FORM or fitness.is_newer(found.tables_version):
        raise CannotRestore(
            f"{directory} was made by a later version of this program: upgrade this one first"
        )
    if found.prefix != prefix:
        raise CannotRestore(
            f"{directory} is of the installation {found.prefix}, and this one is {prefix}: set "
            f"ANALYTICS_PREFIX={found.prefix}"
        )
    return found


def restore_redis(client: redis.Redis, keys: Keys, directory: Path) -> int:
    """Restore the copy of Redis; returns how many keys. Raises `CannotRestore`."""
    copied = redis_copy.read_copy(directory / REDIS)
    with report_errors(redis=client):
        return redis_copy.restore_keys(client, keys, copied)


def restore_postgres(engine: Engine, programs: PostgresPrograms, directory: Path) -> None:
    """Restore the copy of Postgres. Raises `CannotRestore`."""
    postgres_copy.restore_tables(programs, engine, directory / POSTGRES)
