"""Databases of tests: copies of a migrated one, each handed on until a test has written to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg import sql
from sqlalchemy import make_url

from pipeline.embedded.credentials import FILE
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from tests.helpers.redis_nodes import free_port

_TEMPLATE = "analytics_template"
_ENDS_WITHIN_MS = 5_000
_HAS_SCRAM_ITERATIONS = 160_000


def copy_data_dir(source: Path, target: Path) -> None:
    """Copy the data directory of private servers that are stopped; the copy's port is its own."""
    subprocess.run(["cp", "-a", source, target], check=True)
    credentials = target / FILE
    stored = json.loads(credentials.read_text())
    credentials.write_text(json.dumps({k: {**v, "port": free_port()} for k, v in stored.items()}))


class Databases:
    """The databases of one server, which nothing uses but the tests of this process."""

    def __init__(self, server_url: str) -> None:
        self.server_url = server_url
        self._connection = psycopg.connect(_address(server_url), autocommit=True)
        self._untouched: str | None = None

    def run(self, statement: str, *names: str, values: tuple[str, ...] = ()) -> int:
        """Run a statement as the owner of the server; returns the number that it answers, if any.
        Each `{}` in it is a name."""
        query = sql.SQL(statement).format(*map(sql.Identifier, names))  # type: ignore[arg-type]
        found = self._connection.execute(query, values)
        return int(found.fetchall()[0][0]) if found.description else 0

    def hurry(self) -> None:
        """Make the server faster in what tests do: they copy and drop thousands of databases and
        make as many connections, and none of them cuts the power."""
        for name in ("fsync", "full_page_writes", "autovacuum"):
            self.run("ALTER SYSTEM SET {} = off", name)
        self.run("SELECT pg_reload_conf()")
        if self._connection.info.server_version >= _HAS_SCRAM_ITERATIONS:
            url = make_url(self.server_url)
            assert url.username is not None
            self.run("SET scram_iterations = 1")
            change = sql.SQL("ALTER ROLE {} PASSWORD {}")
            role, password = sql.Identifier(url.username), sql.Literal(url.password)
            self._connection.execute(change.format(role, password))

    def make_template(self) -> None:
        """Make and migrate the database that `copied` copies."""
        self.run("CREATE DATABASE {}", _TEMPLATE)
        engine = postgres_engine(self._url_of(_TEMPLATE))
        schema.migrate(engine)
        engine.dispose()

    @contextmanager
    def empty(self) -> Iterator[str]:
        """A database in which nothing has been set up; yields its URL."""
        name = f"test_{uuid4().hex}"
        self.run("CREATE DATABASE {}", name)
        yield self._url_of(name)
        self._drop(name)

    @contextmanager
    def copied(self) -> Iterator[str]:
        """A copy of the template; yields its URL.

        It is that of the test before where nothing was written on the whole server since it was
        copied: whatever changes a table, a sequence or a setting takes a transaction's number.
        """
        name, self._untouched = self._untouched or self._copy(), None
        before = self._next_transaction()
        yield self._url_of(name)
        left = (
            "SELECT count(pg_terminate_backend(pid, %s)) FROM pg_stat_activity WHERE datname = %s"
        )
        self.run(left, values=(f"{_ENDS_WITHIN_MS}", name))  # with locks and what they began
        if self._next_transaction() == before:
            self._untouched = name
        else:
            self._drop(name)

    def close(self) -> None:
        """Close the connection; the databases end with the server."""
        self._connection.close()

    def _copy(self) -> str:
        name = f"test_{uuid4().hex}"
        # Half the work of the default, which writes every page to the log as well.
        self.run("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, _TEMPLATE)
        return name

    def _drop(self, name: str) -> None:
        self.run("DROP DATABASE {} WITH (FORCE)", name)

    def _next_transaction(self) -> int:
        return self.run("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")

    def _url_of(self, name: str) -> str:
        return make_url(self.server_url).set(database=name).render_as_string(hide_password=False)


def _address(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
