"""What can be wrong with the servers and the settings of an installation, made and mended again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import make_url

from pipeline.cli.commands.care import libraries
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.partitions import make_ahead
from pipeline.upkeep.checkup import postgres_server, redis_server


@dataclass(frozen=True)
class Bench:
    """Servers on which nothing is wrong, and what a fault needs to spoil them."""

    redis_url: str
    postgres_url: str
    client: redis.Redis
    patch: pytest.MonkeyPatch
    directory: Path

    def run_sql(self, *statements: str, database: str = "analytics") -> None:
        url = make_url(self.postgres_url).set(drivername="postgresql", database=database)
        address = url.render_as_string(hide_password=False)
        writing = "-c default_transaction_read_only=off"
        with psycopg.connect(address, autocommit=True, options=writing) as connection:
            for one in statements:
                connection.execute(one)  # type: ignore[call-overload]

    def use(self, variable: str, url: str, **changes: str | int) -> None:
        """Have the command use a server by another address."""
        changed = make_url(url).set(**changes).render_as_string(hide_password=False)  # type: ignore[arg-type]
        self.patch.setenv(f"ANALYTICS_{variable}", changed)


@contextmanager
def redis_option(bench: Bench, name: str, value: str) -> Iterator[None]:
    before = bench.client.config_get(name)[name]
    bench.client.config_set(name, value)
    try:
        yield
    finally:
        bench.client.config_set(name, before)


@contextmanager
def replica(bench: Bench) -> Iterator[None]:
    bench.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    try:
        yield
    finally:
        bench.client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def full_redis(bench: Bench) -> Iterator[None]:
    with redis_option(bench, "maxmemory", "1"):
        yield


@contextmanager
def redis_user(bench: Bench, *rules: str) -> Iterator[None]:
    base = ("reset", "on", ">secret", "~*", "&*", "+@all")
    bench.client.execute_command("ACL", "SETUSER", "clerk", *base, *rules)
    bench.use("REDIS_URL", bench.redis_url, username="clerk", password="secret")
    try:
        yield
    finally:
        bench.client.acl_deluser("clerk")


@contextmanager
def clock_off(bench: Bench, module: Any) -> Iterator[None]:
    class Late:
        @staticmethod
        def time() -> float:
            return time.time() + 60

    bench.patch.setattr(module, "time", Late)
    yield


@contextmanager
def database(bench: Bench, name: str, how: str) -> Iterator[None]:
    bench.run_sql(f"CREATE DATABASE {name} {how}", database="postgres")
    bench.use("POSTGRES_URL", bench.postgres_url, database=name)
    try:
        yield
    finally:
        bench.run_sql(f"DROP DATABASE {name} WITH (FORCE)", database="postgres")


@contextmanager
def sql(bench: Bench, there: str, back: str) -> Iterator[None]:
    bench.run_sql(there)
    try:
        yield
    finally:
        bench.run_sql(back)


@contextmanager
def setting_off(bench: Bench) -> Iterator[None]:
    reload = "SELECT pg_reload_conf(), pg_sleep(0.1)"
    bench.run_sql("ALTER SYSTEM SET fsync = off", reload)
    try:
        yield
    finally:
        bench.run_sql("ALTER SYSTEM RESET fsync", reload)


@contextmanager
def reader(bench: Bench, rights: str) -> Iterator[None]:
    bench.run_sql(
        "CREATE ROLE reader LOGIN PASSWORD 'secret'",
        f"GRANT {rights} ON ALL TABLES IN SCHEMA public TO reader",
    )
    bench.use("POSTGRES_URL", bench.postgres_url, username="reader", password="secret")
    try:
        yield
    finally:
        bench.run_sql("DROP OWNED BY reader", "DROP ROLE reader")


@contextmanager
def away(bench: Bench, variable: str, url: str) -> Iterator[None]:
    bench.use(variable, url, host="127.0.0.1", port=1)
    yield


@contextmanager
def old_library(bench: Bench) -> Iterator[None]:
    bench.patch.setattr(libraries, "requires", lambda _: ["redis>=99 ; extra == 'server'"])
    yield


@contextmanager
def wrong_setting(bench: Bench) -> Iterator[None]:
    bench.patch.setenv("ANALYTICS_VALUES_CAP", "many")
    yield


@contextmanager
def older_redis(bench: Bench) -> Iterator[None]:
    entry = "'b1', 1, 7, 1, now(), 2"
    there = (
        "INSERT INTO flush_batches (batch_id, epoch, claim, rows, stored_at, form) "
        f"VALUES ({entry})"
    )
    with sql(bench, there, "DELETE FROM flush_batches"):
        yield


@contextmanager
def older_postgres(bench: Bench) -> Iterator[None]:
    bench.client.zadd("analytics:batches", {"of-yesterday": time.time() * 1000})
    try:
        yield
    finally:
        bench.client.delete("analytics:batches")


@contextmanager
def missing_partition(bench: Bench) -> Iterator[None]:
    bench.run_sql(f"DROP TABLE events_{date.today():%Y_%m_%d}")  # noqa: DTZ011
    try:
        yield
    finally:
        engine = postgres_engine(bench.postgres_url)
        make_ahead(engine, date.today(), 1)  # noqa: DTZ011
        engine.dispose()


Fault = Callable[[Bench], AbstractContextManager[None]]
FAULTS: dict[str, tuple[str, Fault, str]] = {
    "settings": ("settings", wrong_setting, "ANALYTICS_VALUES_CAP"),
    "libraries": ("libraries", old_library, "pip install --upgrade"),
    "redis away": (
        "redis",
        lambda bench: away(bench, "REDIS_URL", bench.redis_url),
        "does not answer",
    ),
    "redis eviction": (
        "redis eviction",
        lambda bench: redis_option(bench, "maxmemory-policy", "allkeys-lru"),
        "set maxmemory-policy noeviction",
    ),
    "redis append-only file": (
        "redis append-only file",
        lambda bench: redis_option(bench, "appendonly", "no"),
        "set appendonly yes",
    ),
    "redis role": ("redis role", replica, "give the address of its primary"),
    "redis sync": (
        "redis sync",
        lambda bench: redis_option(bench, "appendfsync", "everysec"),
        "ANALYTICS_APPENDFSYNC=everysec",
    ),
    "redis memory": ("redis memory", full_redis, "`analytics status` says what to do"),
    "redis clock": ("redis clock", lambda bench: clock_off(bench, redis_server), "NTP"),
    "redis rights on a command": (
        "redis rights",
        lambda bench: redis_user(bench, "-getdel"),
        "docs/guides/deploying/redis-rights.md",
    ),
    "redis rights on keys": (
        "redis rights",
        lambda bench: redis_user(bench, "resetkeys", "~analytics:*", "~_kombu*"),
        "docs/guides/deploying/redis-rights.md",
    ),
    "redis rights on channels": (
        "redis rights",
        lambda bench: redis_user(bench, "resetchannels"),
        "docs/guides/deploying/redis-rights.md",
    ),
    "postgres away": (
        "postgres",
        lambda bench: away(bench, "POSTGRES_URL", bench.postgres_url),
        "does not answer",
    ),
    "postgres encoding": (
        "postgres",
        lambda bench: database(bench, "narrow", "ENCODING 'LATIN1' TEMPLATE template0"),
        "ENCODING 'UTF8'",
    ),
    "postgres durability": ("postgres durability", setting_off, "ALTER SYSTEM RESET fsync"),
    "postgres clock": ("postgres clock", lambda bench: clock_off(bench, postgres_server), "NTP"),
    "migrations": (
        "migrations",
        lambda bench: database(bench, "bare", ""),
        "run `analytics migrate`",
    ),
    "a newer version": (
        "migrations",
        lambda bench: sql(
            bench,
            "UPDATE analytics_schema_version SET version_num = '9999'",
            "UPDATE analytics_schema_version SET version_num = '0008'",
        ),
        "upgrade this program",
    ),
    "tables": (
        "tables",
        lambda bench: sql(
            bench,
            "ALTER TABLE dead_letters RENAME TO letters",
            "ALTER TABLE letters RENAME TO dead_letters",
        ),
        "restore it",
    ),
    "owner": (
        "owner of the tables",
        lambda bench: sql(
            bench,
            "COMMENT ON TABLE flush_batches IS 'counts of ANALYTICS_PREFIX=shop:'",
            "COMMENT ON TABLE flush_batches IS NULL",
        ),
        "give each a database",
    ),
    "postgres writes": (
        "postgres writes",
        lambda bench: sql(
            bench,
            "ALTER ROLE analytics SET default_transaction_read_only = on",
            "ALTER ROLE analytics RESET default_transaction_read_only",
        ),
        "RESET default_transaction_read_only",
    ),
    "postgres rights": (
        "postgres rights",
        lambda bench: reader(bench, "SELECT"),
        "GRANT SELECT, INSERT, UPDATE, DELETE",
    ),
    "partitions": (
        "partitions",
        missing_partition,
        "see that a flush worker runs",
    ),
    "a Redis that went back": ("one moment", older_redis, "accept-redis-state"),
    "a Postgres that went back": ("one moment", older_postgres, "restore a newer Postgres"),
}
"""What is spoilt: the line that says so, how, and what its remedy has."""
