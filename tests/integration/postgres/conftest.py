"""Databases and users that differ from what an installation begins with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text

from pipeline.embedded import PrivateServers

Administer = Callable[..., None]


def run_as_owner(url: str, *statements: str) -> None:
    """Run these statements, each in a transaction of its own."""
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def as_user(url: str, user: str) -> str:
    """The URL for another user, whose password is its name."""
    return make_url(url).set(username=user, password=user).render_as_string(hide_password=False)


@pytest.fixture
def user(empty_postgres_url: str) -> Iterator[str]:
    """A user with a password of the same name, and without rights but to connect."""
    name = f"user_{uuid4().hex[:12]}"
    run_as_owner(empty_postgres_url, f"CREATE ROLE {name} LOGIN PASSWORD '{name}'")
    yield name
    run_as_owner(empty_postgres_url, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


@pytest.fixture
def make_database(servers: PrivateServers) -> Iterator[Callable[[str], str]]:
    """Makes databases: `make_database("ENCODING 'LATIN1'")` returns the URL of one."""
    made: list[str] = []
    assert servers.postgres_url is not None
    server_url = servers.postgres_url

    def make(options: str) -> str:
        made.append(f"odd_{uuid4().hex}")
        run_as_owner(
            server_url,
            f"CREATE DATABASE {made[-1]} {options} TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'",
        )
        return make_url(server_url).set(database=made[-1]).render_as_string(hide_password=False)

    yield make
    for name in made:
        run_as_owner(server_url, f"DROP DATABASE {name} WITH (FORCE)")
