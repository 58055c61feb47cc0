"""What is left of a visitor when an event has gone all its way: no address, no user agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import redis

from pipeline.contract import PAGE_PROPERTIES
from pipeline.services import Services
from tasks.consumer.messages import read_message
from tests.helpers.support import arguments, everything, execute, fetch, sent
from tests.helpers.web_server import WebServer

ADDRESS = "198.51.100.213"
MARK = "Xylophone/47.11"
AGENT = f"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0.0.0 {MARK}"
SECRETS = (ADDRESS, MARK, "Xylophone")
BROWSER = {"Origin": "https://shop.example", "User_Agent": AGENT, "X_Forwarded_For": ADDRESS}


@pytest.fixture
def web(make_web: Callable[..., WebServer]) -> WebServer:
    return make_web(page_properties=PAGE_PROPERTIES, sessions=True, trusted_proxies=["127.0.0.1"])


def send_all(web: WebServer) -> None:
    """A visitor's event in each format, and the same by a server that says who it was."""
    view = {"type": "page", "userId": "u1", "properties": {"path": "/a"}}
    plausible = {"n": "pageview", "u": "https://shop.example/b"}
    posthog = {"event": "$pageview", "distinct_id": "u1", "properties": {"$pathname": "/c"}}
    bodies = {
        "/v1/batch": {"batch": [view]},
        "/batch": {"batch": [posthog]},
        "/api/event": plausible,
        "/track": {"event_type": "page_view", "user_id": "u1"},
    }
    for path, body in bodies.items():
        assert web.post(path, body, **BROWSER).status in (200, 202)
    headers = {"Sec-Fetch-Mode": "no-cors", "User-Agent": AGENT, "X-Forwarded-For": ADDRESS}
    assert web.send("GET", f"/pixel.gif?key={web.key}", headers=headers).status == 200
    key = web.dependencies.access_keys.create("write", "")[1]
    call = {**view, "context": {"ip": ADDRESS, "userAgent": AGENT}}
    assert web.post("/v1/batch", {"batch": [call]}, key).status == 200


def check_redis(client: redis.Redis) -> None:
    """Nothing in Redis names the visitor; a text that is searched for must not be compressed."""
    compressed = client.config_get("rdbcompression")["rdbcompression"]
    client.config_set("rdbcompression", "no")
    try:
        held = b"".join(name + value for name, value in everything(client).items())
        events = json.dumps([arguments(message)[0] for message in sent(client)])
    finally:
        client.config_set("rdbcompression", compressed)
    for secret in SECRETS:
        assert secret.encode() not in held
        assert secret not in events


def check_postgres(services: Services) -> int:
    """Nothing in Postgres does; returns how many rows there are."""
    tables = execute(
        services,
        "SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema()",
    )
    rows = [
        row for (table,) in tables for (row,) in execute(services, f"SELECT t::text FROM {table} t")
    ]
    assert not [row for row in rows for secret in SECRETS if secret in row]
    return len(rows)


def count_queued(services: Services) -> None:
    now = datetime.now(UTC)
    reads = [read_message(tag, raw, now) for tag, raw in fetch(services)]
    services.counters.apply([read.delivery for read in reads if read], now)


def test_neither_address_nor_user_agent_reaches_redis_postgres_or_a_log(
    web: WebServer,
    make_services: Callable[..., Services],
    client: redis.Redis,
    caplog: pytest.LogCaptureFixture,
) -> None:
    services = make_services(count_by={"page_view": ["browser", "entry_page", "session_id"]})
    send_all(web)
    check_redis(client)
    count_queued(services)
    check_redis(client)
    services.flush()
    services.archive_events()
    check_redis(client)
    assert check_postgres(services) > 10
    assert not any(secret in caplog.text for secret in SECRETS)
    found = execute(
        services,
        "SELECT value, sum(count) FROM analytics_dimension_daily "
        "WHERE property = 'browser' GROUP BY value",
    )
    assert found == [("Chrome", 6)]


def test_archived_events_of_a_user_who_is_forgotten_have_no_session(
    web: WebServer, services: Services, client: redis.Redis
) -> None:
    send_all(web)
    count_queued(services)
    services.flush()
    services.archive_events()
    archived = "SELECT count(*) FROM events WHERE properties::text LIKE '%session_id%'"
    assert execute(services, archived) == [(6,)]

    services.erase_user("u1", "a test")

    # Those without a user stay.
    assert execute(services, archived) == [(2,)]
