"""Whether the process lives, can serve, and which version it is; told without a token."""

from __future__ import annotations

import dataclasses
import os
import signal

import httpx
import pytest

from config.options import pipeline_options
from config.settings import Settings
from pipeline.embedded import PrivateServers
from pipeline.postgres.schema import migrate
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.services import Services, connect
from pipeline.upkeep import heartbeats
from tests.helpers.api_server import NO_TLS, served
from tests.helpers.support import Workers, eventually, execute
from tests.integration.web.api.conftest import Api, make_dependencies


def test_a_process_that_answers_lives(api: Api) -> None:
    response = api.stranger.get("/livez")

    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_the_version_is_that_of_the_package_and_of_the_schema(services: Services, api: Api) -> None:
    found = api.stranger.get("/version").json()

    stored = execute(services, "SELECT version_num FROM analytics_schema_version")[0][0]
    assert found["schema"] == stored
    assert found["version"]


def test_it_is_ready_when_a_worker_was_seen(services: Services, api: Api) -> None:
    before = api.stranger.get("/readyz")
    heartbeats.beat(services.redis, services.keys, "events", "worker@here")
    eventually(lambda: api.stranger.get("/readyz").status_code == 200)

    assert before.status_code == 503
    assert before.json()["status"] == "not ready"
    assert before.json()["checks"] == {
        "redis": "ok",
        "worker": "no event worker was seen for 45 s; start one",
        "postgres": "ok",
        "migrations": "ok",
    }
    assert before.headers["retry-after"]


def test_a_worker_that_was_not_seen_for_long_does_not_count(services: Services, api: Api) -> None:
    now_s = services.redis.time()[0]
    services.redis.zadd(services.keys.workers, {"events:old": now_s - 46, "flush:new": now_s})
    services.redis.expire(services.keys.workers, 60)

    assert heartbeats.measure_silence_s(services.redis, services.keys)["events"] >= 46
    assert api.stranger.get("/readyz").status_code == 503


def test_workers_say_that_they_live(services: Services, workers: Workers) -> None:
    workers.start("events")
    workers.start("flush")

    seen = eventually(
        lambda: (
            found
            if len(found := heartbeats.measure_silence_s(services.redis, services.keys)) == 2
            else None
        )
    )

    assert set(seen) == {"events", "flush"}
    assert max(seen.values()) < 30


def test_a_database_that_was_not_migrated_is_not_ready(services: Services, api: Api) -> None:
    execute(services, "UPDATE analytics_schema_version SET version_num = '0001'")

    checks = api.stranger.get("/readyz").json()["checks"]

    assert checks["migrations"] == "not at this version; run `analytics migrate`"


@pytest.mark.parametrize("which", ["redis", "postgres"])
def test_a_server_that_hangs_is_told_within_seconds_and_hides_no_other(
    own_servers: PrivateServers, which: str
) -> None:
    assert own_servers.redis_url is not None
    assert own_servers.postgres_url is not None
    services = connect(
        pipeline_options(Settings()), own_servers.redis_url, own_servers.postgres_url
    )
    migrate(services.engine)
    configure(ProducerSettings(redis_url=own_servers.redis_url))
    heartbeats.beat(services.redis, services.keys, "events", "worker@here")
    dependencies = make_dependencies(services, own_servers.redis_url)
    server = getattr(own_servers, which)
    with served(dependencies) as origin:
        assert httpx.get(f"{origin}/readyz", verify=NO_TLS).status_code == 200
        os.kill(server.pid, signal.SIGSTOP)
        if which == "postgres":
            services.engine.dispose()  # its own processes still answer on connections they have
        try:
            response = eventually(
                lambda: (
                    found
                    if (
                        found := httpx.get(f"{origin}/readyz", timeout=10, verify=NO_TLS)
                    ).status_code
                    == 503
                    else None
                )
            )
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert httpx.get(f"{origin}/livez", verify=NO_TLS).status_code == 200
        eventually(
            lambda: httpx.get(f"{origin}/readyz", timeout=10, verify=NO_TLS).status_code == 200
        )
    services.close()
    dependencies.redis.close()

    checks = response.json()["checks"]
    others = {"redis", "postgres"} - {which}
    assert checks[which] != "ok"
    assert all(checks[one] == "ok" for one in others)
    assert "127.0.0.1" not in response.text


def test_without_postgres_and_workers_it_collects_and_without_workers_it_reads(
    own_servers: PrivateServers,
) -> None:
    assert own_servers.redis_url is not None
    options = pipeline_options(Settings())
    services = connect(options, own_servers.redis_url, "postgresql://127.0.0.1:1/none")
    configure(ProducerSettings(redis_url=own_servers.redis_url))
    dependencies = make_dependencies(services, own_servers.redis_url)
    with served(dependencies) as origin:
        collecting = httpx.get(f"{origin}/readyz?for=collecting", verify=NO_TLS)
        reading = httpx.get(f"{origin}/readyz?for=reading", verify=NO_TLS)
        everything = httpx.get(f"{origin}/readyz", verify=NO_TLS)
    services.close()
    dependencies.redis.close()

    assert (collecting.status_code, collecting.json()["checks"]) == (200, {"redis": "ok"})
    assert reading.status_code == everything.status_code == 503
    assert reading.json()["checks"] == {
        "redis": "ok",
        "postgres": "does not answer",
        "migrations": "unknown",
    }


def test_reading_needs_no_event_worker(api: Api) -> None:
    assert api.stranger.get("/readyz?for=reading").status_code == 200
    assert api.stranger.get("/readyz?for=collecting").status_code == 200
    assert api.stranger.get("/readyz").status_code == 503


def test_with_rabbitmq_away_nothing_is_collected(services: Services, redis_url: str) -> None:
    url = "amqp://analytics@127.0.0.1:1//"
    dependencies = make_dependencies(dataclasses.replace(services, broker_url=url), redis_url)
    with served(dependencies) as origin:
        collecting = httpx.get(f"{origin}/readyz?for=collecting", verify=NO_TLS)
        reading = httpx.get(f"{origin}/readyz?for=reading", verify=NO_TLS)
    dependencies.redis.close()

    assert collecting.status_code == 503
    checks = collecting.json()["checks"]
    assert checks.keys() == {"redis", "broker"}
    assert checks["broker"] != checks["redis"] == "ok"
    assert reading.status_code == 200


@pytest.mark.parametrize("purpose", ["", "writing", "Collecting"])
def test_a_probe_for_something_else_is_named(api: Api, purpose: str) -> None:
    response = api.stranger.get("/readyz", params={"for": purpose})

    assert response.status_code == 422
    assert response.json()["error"]["field"] == "for"
