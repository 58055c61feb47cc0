"""A database that others use too: our tables are in a schema of their own, and theirs are theirs.

The user has no rights outside that schema, so what would name a table without it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import text

from config.options import pipeline_options
from config.settings import Settings
from pipeline.counting.batch import BadEvent, Delivery
from pipeline.errors import InvalidConfiguration
from pipeline.event.model import Event
from pipeline.event_log.queries import EventFilter, count_events, read_newest, read_page
from pipeline.postgres import partitions, schema
from pipeline.postgres.fitness import NEWEST_VERSION, check_postgres
from pipeline.postgres.locks import hold_transfers
from pipeline.postgres.tables import events, metadata, user_daily
from pipeline.services import Services, connect
from pipeline.upkeep import dead_letters
from tests.helpers.support import message
from tests.integration.postgres.conftest import as_user, run_as_owner

OWN = "Web Analytics-2"
"""In which everything must be quoted."""
NOW = datetime.now(UTC)
TODAY, YESTERDAY = NOW.date(), NOW.date() - timedelta(days=1)
Connect = Callable[[str | None], Services]


@pytest.fixture
def open_schema(redis_url: str, empty_postgres_url: str, user: str) -> Iterator[Connect]:
    """Makes services of a user whose right is to make schemas, for a schema."""
    run_as_owner(
        empty_postgres_url,
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f"DO $$ BEGIN EXECUTE format('GRANT CREATE ON DATABASE %I TO {user}', current_database()); "
        "END $$",
    )
    made: list[Services] = []

    def make(name: str | None) -> Services:
        settings = Settings(postgres_schema=name, count_by={"page_view": ["path"]})
        url = as_user(empty_postgres_url, user)
        made.append(connect(pipeline_options(settings), redis_url, url))
        return made[-1]

    yield make
    for services in made:
        services.close()


@contextmanager
def others_tables(url: str) -> Iterator[None]:
    """Tables of all our names, and of Alembic's, which are other programs'; they stay as they
    are."""
    names = [*metadata.tables, "events_default", "alembic_version"]
    run_as_owner(
        url,
        *(f"CREATE TABLE {name} (id INT, title TEXT NOT NULL)" for name in names),
        *(f"INSERT INTO {name} VALUES (1, 'theirs')" for name in names),
    )
    yield
    found = "SELECT string_agg(title, ',') FROM {} WHERE id = 1 HAVING count(*) = 1"
    engine = schema_free_engine(url)
    with engine.connect() as connection:
        for name in names:
            assert connection.execute(text(found.format(name))).scalar_one() == "theirs", name
        strangers = connection.execute(
            text(
                "SELECT relname FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace "
                "WHERE nspname = 'public'"
            )
        )
        assert set(strangers.scalars()) == set(names)
    engine.dispose()


def schema_free_engine(url: str) -> Any:
    from pipeline.postgres.engine import postgres_engine

    return postgres_engine(url)


def of(day: datetime, user_id: str, event_type: str = "page_view") -> Event:
    return Event(event_type, day, user_id, {"path": "/a"})


def test_everything_works_in_a_schema_beside_tables_of_the_same_names(
    open_schema: Connect, empty_postgres_url: str
) -> None:
    services = open_schema(OWN)
    with others_tables(empty_postgres_url):
        assert schema.migrate(services.engine) == NEWEST_VERSION
        assert schema.migrate(services.engine) == NEWEST_VERSION
        check_postgres(services.engine, writes=True)
        use_all(services)


def use_all(services: Services) -> None:
    """What workers, commands and the web server do with Postgres, each once or more."""
    yesterday = NOW - timedelta(days=1)
    bad = BadEvent(b"{}", "event_type: is missing")
    many = [of(NOW, "u1"), of(NOW, "u2"), of(yesterday, "u1"), of(NOW, "u1", "junk")]
    services.counters.apply([message(*many), Delivery((), (bad,), task_id="t")], NOW)
    assert services.flush() > 0
    assert services.archive_events() == len(many)
    services.maintain(NOW)
    assert services.move_dead_letters() == 1
    [letter] = dead_letters.list_stored(services.engine, 10)
    assert dead_letters.drop(services.engine, [letter.id]) == 1

    stats = services.stats
    assert stats.count("page_view", YESTERDAY, TODAY) == 3
    assert sum(stats.hourly_counts("page_view", TODAY)) == 2
    assert stats.property_count("page_view", "path", "/a", TODAY, TODAY) == 2
    assert stats.user_counts("u1")["page_view"] == {TODAY: 1, YESTERDAY: 1}
    assert stats.top("page_view", "path").top == [("/a", 3)]
    assert stats.top("page_view", "user").as_of is not None
    assert {one.event_type for one in services.list_types(TODAY, 10)[0]} == {"page_view", "junk"}

    page_views = EventFilter(event_type="page_view")
    assert len(read_newest(services.engine, page_views, 10)) == 3
    first, position = read_page(services.engine, page_views, 2)
    rest, end = read_page(services.engine, page_views, 2, position)
    assert (len(first), len(rest), end) == (2, 1, None)
    assert count_events(services.engine, page_views) == 3

    assert services.audit(YESTERDAY, TODAY) == []
    assert [one.changed for one in services.rebuild([YESTERDAY], NOW)] == [{}]
    assert services.remove_types(["junk"], TODAY).events == 1
    assert services.erase_user("u2").events == 1
    partitions.ensure_months(services.engine, user_daily, {f"{TODAY - timedelta(40)}": 1}, TODAY)
    prune_all(services)
    assert services.status()["dead_letters"] == 0
    assert services.accept_redis_state() == 1


def prune_all(services: Services) -> None:
    """Drop partitions and replace the default ones."""
    with services.engine.connect() as connection:
        made = partitions.existing(connection, events)
    partitions.drop(services.engine, events, made[0])
    partitions.prune_default(services.engine, events, TODAY)
    assert not partitions.holds_older(services.engine, events, TODAY)
    services.prune(TODAY)


def test_two_installations_in_one_database_do_not_see_each_other(
    open_schema: Connect, redis_url: str
) -> None:
    one, other = open_schema("one"), open_schema("other")
    for services in (one, other):
        schema.migrate(services.engine)
    one.counters.apply([message(of(NOW, "u1"))], NOW)
    with hold_transfers(one.engine):
        other.archive.wait_until_ready()
    one.flush()
    assert one.stats.count("page_view", TODAY, TODAY) == 1
    assert other.stats.count("page_view", TODAY, TODAY) == 0


@pytest.mark.parametrize("name", ["analytics", "Größen$1", "select", "a b-c"])
def test_a_schema_may_have_any_usual_name(open_schema: Connect, name: str) -> None:
    services = open_schema(name)
    schema.migrate(services.engine)
    services.counters.apply([message(of(NOW, "u1"))], NOW)
    services.flush()
    assert services.archive_events() == 1
    assert services.stats.count("page_view", TODAY, TODAY) == 1


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ('"quoted"', "without quotes"),
        ("it's", "without quotes"),
        ("a.b", "without quotes"),
        ("1st", "a letter or '_' first"),
        ("é" * 32, "at most 63 bytes"),
        ("50%", "without quotes"),
        ("pg_toast", "a schema of Postgres itself"),
        ("information_schema", "a schema of Postgres itself"),
        ("", "must not be empty"),
    ],
)
def test_what_cannot_be_a_schema_is_refused_by_its_setting(name: str, rule: str) -> None:
    with pytest.raises(ValidationError, match=rule):
        Settings(postgres_schema=name)


def test_a_schema_written_in_other_capitals_is_named(
    open_schema: Connect, empty_postgres_url: str
) -> None:
    run_as_owner(empty_postgres_url, "CREATE SCHEMA MyStats")  # which Postgres calls mystats

    with pytest.raises(InvalidConfiguration, match="set ANALYTICS_POSTGRES_SCHEMA=mystats"):
        schema.migrate(open_schema("MyStats").engine)


def test_a_schema_that_this_user_may_not_make_is_said_with_the_statement_that_makes_it(
    open_schema: Connect, empty_postgres_url: str, user: str
) -> None:
    run_as_owner(
        empty_postgres_url,
        f"DO $$ BEGIN EXECUTE format('REVOKE CREATE ON DATABASE %I FROM {user}', "
        "current_database()); END $$",
    )
    services = open_schema("stats")
    with pytest.raises(InvalidConfiguration) as refused:
        schema.migrate(services.engine)
    statement = str(refused.value).partition("run ")[2]
    assert statement == f'CREATE SCHEMA "stats" AUTHORIZATION "{user}"'

    run_as_owner(empty_postgres_url, statement)
    assert schema.migrate(services.engine) == NEWEST_VERSION


def test_where_the_schema_was_not_named_it_is_found_and_said(
    open_schema: Connect, empty_postgres_url: str
) -> None:
    schema.migrate(open_schema("stats").engine)

    with pytest.raises(InvalidConfiguration, match="set ANALYTICS_POSTGRES_SCHEMA=stats"):
        check_postgres(open_schema(None).engine)
