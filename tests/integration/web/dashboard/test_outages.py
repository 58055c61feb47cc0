"""What viewers see while Redis or Postgres is away: the last numbers, their time, and a retry."""

from __future__ import annotations

from functools import partial

import httpx
import pytest

from config.options import pipeline_options
from config.settings import Settings
from pipeline.access.key_store import AccessKeyStore
from pipeline.embedded import PrivateServers
from pipeline.postgres import schema
from pipeline.postgres.engine import postgres_engine
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.redis.client import redis_client
from pipeline.services import connect
from pipeline.web.dependencies import WebDependencies, WebOptions
from tests.helpers.api_server import NO_TLS, served
from tests.helpers.support import count_events, event, eventually
from tests.integration.web.dashboard.conftest import sign_in

RANGE = "?from=2025-03-01&to=2025-03-31"
_OTHERS = (
    "/dashboard/type?type=page_view",
    "/dashboard/user?user=u1",
    "/dashboard/explore",
    "/dashboard/live",
)


def _find_outage(browser: httpx.Client, path: str) -> str:
    """The page while a server is away; empty before."""
    answer = browser.get(path)
    return answer.text if answer.status_code == 503 else ""


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_the_last_numbers_stay_with_their_time(own_servers: PrivateServers, server: str) -> None:
    assert own_servers.redis_url is not None
    assert own_servers.postgres_url is not None
    engine = postgres_engine(own_servers.postgres_url)
    schema.migrate(engine)
    engine.dispose()
    options = pipeline_options(Settings())
    services = connect(options, own_servers.redis_url, own_servers.postgres_url)
    configure(ProducerSettings(redis_url=own_servers.redis_url))
    client = redis_client(own_servers.redis_url, 1.0)
    access = AccessKeyStore(client, services.keys)
    _, token = access.create("read", "viewer")
    count_events(services, *[event() for _ in range(4_321)])
    dependencies = WebDependencies(services, client, access, WebOptions())
    with (
        served(dependencies) as origin,
        httpx.Client(base_url=origin, timeout=60, verify=NO_TLS) as browser,
        httpx.Client(base_url=origin, timeout=60, verify=NO_TLS) as stranger,
    ):
        sign_in(browser, token)
        assert ">4,321<" in browser.get(f"/dashboard{RANGE}").text
        for path in _OTHERS:
            assert browser.get(path).status_code == 200
        assert own_servers.redis is not None
        assert own_servers.postgres is not None
        if server == "redis":
            own_servers.redis.kill()
        else:
            own_servers.postgres.stop()
        answer = browser.get(f"/dashboard{RANGE}")
        assert answer.status_code == 503
        name = "Redis" if server == "redis" else "Postgres"
        assert f"{name} does not answer, trying again in 5 s." in answer.text
        assert "These are the numbers of" in answer.text
        assert ">4,321<" in answer.text
        assert "last known" in answer.text
        assert '<meta http-equiv="refresh" content="5">' in answer.text
        for path in _OTHERS:
            # Live goes on for the seconds in which it asks Postgres nothing.
            shown = eventually(partial(_find_outage, browser, path), 15)
            assert "These are the numbers of" in shown
            assert '<p class="freshness">exact' not in shown
        other = browser.get("/dashboard?from=2025-02-01&to=2025-02-02")
        assert other.status_code == 503
        assert "No numbers have been read yet" in other.text
        unknown = stranger.get(f"/dashboard{RANGE}")
        assert "4,321" not in unknown.text
    services.close()
    client.close()
