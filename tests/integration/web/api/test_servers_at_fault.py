"""An answer names the server that is at fault, whatever the words of its error are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import httpx
import pytest
from sqlalchemy import make_url

from config.options import pipeline_options
from config.settings import Settings
from pipeline.access.key_store import AccessKeyStore
from pipeline.redis.client import redis_client
from pipeline.services import Services, connect
from pipeline.web.api import archive_questions, threads
from pipeline.web.dependencies import WebDependencies, WebOptions
from tests.helpers.api_server import NO_TLS, served
from tests.helpers.support import count_events, event, eventually, execute
from tests.integration.web.api.conftest import Api

NOBODY_LISTENS = 1

pytestmark = pytest.mark.usefixtures("sending")


def check_named(response: httpx.Response, message: str) -> None:
    assert response.status_code == 503
    assert response.json()["error"] == {"code": "unavailable", "message": message}
    assert int(response.headers["retry-after"]) >= 1


@contextmanager
def reading_from(redis_url: str, services: Services, keys_at: str) -> Iterator[httpx.Client]:
    """A client of an API which reads counters from `redis_url`, and its access keys elsewhere."""
    with redis_client(keys_at) as keys, redis_client(redis_url, 1.0) as counters:
        access = AccessKeyStore(keys, services.keys)
        _, token = access.create("read", "reader")
        headers = {"Authorization": f"Bearer {token}"}
        with (
            served(WebDependencies(services, counters, access, WebOptions())) as origin,
            httpx.Client(base_url=origin, headers=headers, timeout=30, verify=NO_TLS) as client,
        ):
            yield client


def test_a_fresh_ranking_from_a_redis_that_went_back_names_redis(
    services: Services, api: Api
) -> None:
    for _ in range(3):
        count_events(services, event())
        services.flush()
    services.redis.hset(services.keys.totals, "claims", 1)

    response = api.reader.get("/api/stats/top?event_type=page_view&fresh=true")

    check_named(response, "Redis cannot be used now; try again shortly")
    assert api.reader.get("/api/stats/top?event_type=page_view").status_code == 200
    assert api.reader.get("/api/events?fresh=true").status_code == 200  # needs no claim
    assert api.forgetter.delete("/api/users/u1").status_code == 200


def test_a_redis_that_is_away_is_named_although_its_host_reads_like_a_database(
    services: Services, redis_url: str
) -> None:
    away = f"redis://database.invalid:{NOBODY_LISTENS}/0"

    with reading_from(away, services, redis_url) as client:
        response = client.get("/api/stats/count?event_type=page_view")

    check_named(response, "Redis does not answer; try again shortly")


def test_a_database_number_that_redis_does_not_have_names_redis(
    services: Services, redis_url: str
) -> None:
    with reading_from(redis_url.removesuffix("/0") + "/99999", services, redis_url) as client:
        response = client.get("/api/stats/count?event_type=page_view")

    check_named(response, "Redis cannot be used now; try again shortly")


def test_a_database_without_our_tables_names_postgres(
    redis_url: str, empty_postgres_url: str
) -> None:
    with (
        closing(connect(pipeline_options(Settings()), redis_url, empty_postgres_url)) as services,
        reading_from(redis_url, services, redis_url) as client,
    ):
        response = client.get("/api/stats/count?event_type=page_view")

    check_named(response, "Postgres cannot be used now; try again shortly")


def test_a_postgres_that_is_away_is_named_although_its_host_reads_like_redis(
    redis_url: str, postgres_url: str
) -> None:
    away = make_url(postgres_url).set(host="redis.invalid").render_as_string(hide_password=False)

    with (
        closing(connect(pipeline_options(Settings()), redis_url, away)) as services,
        reading_from(redis_url, services, redis_url) as client,
    ):
        response = client.get("/api/stats/count?event_type=page_view")

    check_named(response, "Postgres does not answer; try again shortly")


@pytest.mark.parametrize(
    "path",
    [
        "users?by=day&from=2025-01-01&to=2025-02-01",
        "active",
        "retention?start=a&return=b",
        "retention?start=a[p=1]&return=b",
        "funnel?step=a&step=b",
        "breakdown?event_type=a",
        "properties?event_type=a",
        "top?event_type=a",
    ],
)
def test_no_statement_goes_on_for_a_client_who_was_refused(
    services: Services, api: Api, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(threads, "SCAN_TIMEOUT_S", 0.5)
    monkeypatch.setattr(archive_questions, "TIMEOUT_S", 0.5)
    tables = "analytics_user_daily, analytics_dimension_daily, events, archived_entries"
    with services.engine.begin() as connection:
        connection.exec_driver_sql(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")

        assert api.reader.get(f"/api/stats/{path}").status_code in (422, 503)

        eventually(lambda: not execute(services, _WAITING))
    assert api.reader.get(f"/api/stats/{path}").status_code == 200


_WAITING = (
    "SELECT query FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND datname = current_database()"
)
