"""Two installations with one set of tables: the second is refused, in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from pipeline.errors import InvalidConfiguration
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from pipeline.postgres.fitness import check_postgres
from pipeline.postgres.ownership import use_prefix
from tests.helpers.support import Workers, eventually
from tests.integration.postgres.conftest import run_as_owner

MakeEngine = Callable[..., Engine]
REFUSAL = (
    r"the tables in the database \S+ hold the counts of ANALYTICS_PREFIX=analytics:, not of this "
    r"installation \(a:b:\): give each a database"
)


@pytest.fixture
def make_engine(postgres_url: str) -> Iterator[MakeEngine]:
    made = []

    def make(prefix: str, own_schema: str | None = None) -> Engine:
        made.append(postgres_engine(postgres_url, own_schema))
        use_prefix(made[-1], prefix)
        return made[-1]

    yield make
    for engine in made:
        engine.dispose()


def test_the_tables_are_the_first_installations(make_engine: MakeEngine) -> None:
    first, second = make_engine("analytics:"), make_engine("a:b:")
    check_postgres(second)  # reading claims nothing
    check_postgres(first, writes=True)
    check_postgres(first, writes=True)
    for writes in (False, True):
        with pytest.raises(InvalidConfiguration, match=REFUSAL):
            check_postgres(second, writes=writes)


def test_of_two_that_start_at_once_one_is_refused(make_engine: MakeEngine) -> None:
    def start(engine: Engine) -> bool:
        try:
            check_postgres(engine, writes=True)
        except InvalidConfiguration:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        prefixes = ["a:", "b:", "c:"] * 2
        started = list(pool.map(start, [make_engine(prefix) for prefix in prefixes]))
    assert sum(started) == 2
    assert started[:3] == started[3:]


def test_a_schema_for_each_keeps_them_apart(make_engine: MakeEngine) -> None:
    check_postgres(make_engine("analytics:"), writes=True)
    second = make_engine("a:b:", "second")
    schema.migrate(second)
    check_postgres(second, writes=True)
    check_postgres(make_engine("analytics:"))


def test_the_counts_go_to_another_prefix_when_the_operator_says_so(
    make_engine: MakeEngine, postgres_url: str
) -> None:
    check_postgres(make_engine("analytics:"), writes=True)
    run_as_owner(postgres_url, "COMMENT ON TABLE flush_batches IS NULL")
    check_postgres(make_engine("a:b:"), writes=True)
    with pytest.raises(InvalidConfiguration, match="ANALYTICS_PREFIX=a:b:, not"):
        check_postgres(make_engine("analytics:"))


def test_a_comment_of_the_operators_stays(make_engine: MakeEngine, postgres_url: str) -> None:
    run_as_owner(postgres_url, "COMMENT ON TABLE flush_batches IS 'of the shop'")
    check_postgres(make_engine("a:b:"), writes=True)
    check_postgres(make_engine("analytics:"), writes=True)


def test_flush_workers_commands_and_the_web_server_refuse_the_tables_of_another(
    workers: Workers,
    client: redis.Redis,
    make_engine: MakeEngine,
    analytics: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check_postgres(make_engine("analytics:"), writes=True)
    queues = ("-Q", "a:b.flush,a:b.maintenance")
    worker = workers.celery("second", "worker", *queues, PREFIX="a:b:")
    monkeypatch.setenv("ANALYTICS_PREFIX", "a:b:")
    for command in (("stats", "count", "page_view"), ("web", "--port", "1"), ("flush",)):
        code, _, said = analytics(*command)
        assert code == 1
        assert "hold the counts of ANALYTICS_PREFIX=analytics:" in said.splitlines()[-1]
    eventually(lambda: not worker.alive())
    assert "hold the counts of ANALYTICS_PREFIX=analytics:" in worker.said().splitlines()[-1]
    client.flushdb()
