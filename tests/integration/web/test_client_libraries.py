"""What the client libraries of others send and ask for, each by its own paths and headers."""

from __future__ import annotations

import gzip
import json
import zlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from tests.helpers.support import arguments, sent
from tests.helpers.web_server import BODIES, WebServer, basic

SHOP = "https://shop.example"
TRACK = {"type": "track", "event": "sale", "userId": "u1", "messageId": "m1"}


@pytest.fixture
def shop_key(web: WebServer) -> str:
    """The only key: of the pages of one shop."""
    web.dependencies.access_keys.revoke(web.key)
    return web.dependencies.access_keys.create("write", "shop", [SHOP])[1]


def events(client: redis.Redis) -> list[dict[str, Any]]:
    """The events that wait in the queue, in the order in which they were accepted."""
    return [event for message in sent(client) for event in arguments(message)[0][0]]


# Segment and RudderStack


@pytest.mark.parametrize("path", ["/v1/b", "/beacon/v1/batch", "/v1/b/", "//v1/batch"])
def test_a_batch_is_taken_by_each_path_of_the_libraries(
    web: WebServer, client: redis.Redis, path: str
) -> None:
    answer = web.post(path, {"batch": [TRACK], "sentAt": "2026-01-01T00:00:00Z"})
    assert (answer.status, answer.json) == (200, {"success": True})
    [event] = events(client)
    assert (event["event_type"], event["user_id"], event["event_id"]) == ("sale", "u1", "m1")


def test_a_batch_of_a_browser_has_its_key_in_the_body(web: WebServer, client: redis.Redis) -> None:
    body = json.dumps({"batch": [TRACK], "writeKey": web.key}).encode()
    assert web.send("POST", "/v1/b", body).status == 200
    assert len(events(client)) == 1


def test_a_beacon_has_its_key_in_the_query(web: WebServer, client: redis.Redis) -> None:
    body = json.dumps({"batch": [TRACK]}).encode()
    assert web.send("POST", f"/beacon/v1/batch?writeKey={web.key}", body).status == 200
    assert web.send("POST", "/beacon/v1/batch?writeKey=wk_1_2", body).status == 401
    assert len(events(client)) == 1


def test_the_settings_of_rudderstacks_libraries_let_them_start(web: WebServer) -> None:
    answer = web.send("GET", f"/sourceConfig/?writeKey={web.key}", headers=basic(web.key))
    source = answer.json["source"]
    assert answer.status == 200
    assert answer.headers["cache-control"] == "no-store"
    assert (source["writeKey"], source["enabled"], source["destinations"]) == (web.key, True, [])
    assert web.send("GET", "/sourceConfig/?writeKey=wk_1_2").status == 401
    head = web.send("HEAD", "/sourceConfig/?view=ad", headers=basic(web.key))
    assert (head.status, head.body) == (200, b"")


def test_the_settings_of_segments_libraries_send_their_events_here(web: WebServer) -> None:
    path = f"/v1/projects/{web.key}/settings"
    answer = web.send("GET", path, headers={"Host": "events.shop.example"})
    assert answer.json["integrations"]["Segment.io"] == {
        "apiKey": web.key,
        "unbundledIntegrations": [],
        "apiHost": "events.shop.example/v1",
        "protocol": "https",
    }
    local = {"Host": "127.0.0.1:8080", "Origin": "http://127.0.0.1:3000"}
    found = web.send("GET", path, headers=local).json["integrations"]["Segment.io"]
    assert (found["apiHost"], found["protocol"]) == ("127.0.0.1:8080/v1", "http")
    assert web.send("GET", "/v1/projects/wk_1_2/settings").status == 401
    assert web.send("GET", "/v1/projects//settings").status == 404


# Libraries that do not run here: what they send, by the types and formats of their languages

AT = datetime(2025, 3, 14, 10, 0, 0, 123000, UTC)
SALE = {"event": "sale", "properties": {"total": 9}}
OF_SEGMENT = SALE | {"type": "track", "messageId": "i1", "userId": "u1", "integrations": {}}
OF_POSTHOG = SALE | {"type": "capture", "uuid": "i1", "distinct_id": "u1", "library": "posthog"}
SENT = {
    "analytics-go": ("/v1/batch", OF_SEGMENT | {"timestamp": "2025-03-14T10:00:00.123456789Z"}),
    "analytics-java": ("/v1/import/", OF_SEGMENT | {"timestamp": "2025-03-14T10:00:00.123Z"}),
    "analytics-php": ("/v1/batch", OF_SEGMENT | {"timestamp": "2025-03-14T11:00:00+01:00"}),
    "analytics-ruby": ("/v1/import", OF_SEGMENT | {"timestamp": "2025-03-14T10:00:00.123+00:00"}),
    "analytics-react-native": ("/v1/b", OF_SEGMENT | {"timestamp": "2025-03-14T10:00:00.123Z"}),
    "posthog-go": (
        "/i/v1/analytics/events",
        OF_POSTHOG | {"timestamp": "2025-03-14T10:00:00.123456789Z", "options": {}},
    ),
    "posthog-php": ("/batch/", OF_POSTHOG | {"timestamp": "2025-03-14T10:00:00+00:00"}),
    "posthog-ruby": ("/batch/", OF_POSTHOG | {"timestamp": "2025-03-14T10:00:00.123Z"}),
}


@pytest.mark.parametrize("library", list(SENT))
def test_a_batch_of_a_library_in_another_language_counts_as_it_was_sent(
    web: WebServer, client: redis.Redis, library: str
) -> None:
    path, event = SENT[library]
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    body: dict[str, Any] = {"batch": [event]}
    headers = basic(web.key)
    if library == "posthog-go":
        body |= {"created_at": now}
        headers = {"Authorization": f"Bearer {web.key}"}
    elif "posthog" in library:
        body, headers = body | {"api_key": web.key}, {}
    else:
        body |= {"sentAt": now}
    if library == "analytics-react-native":
        body, headers = body | {"writeKey": web.key}, {"Content-Type": "text/plain"}

    assert web.send("POST", path, json.dumps(body).encode(), headers).status == 200

    [counted] = events(client)
    assert (counted["event_type"], counted["user_id"]) == ("sale", "u1")
    assert (counted["event_id"], counted["properties"]) == ("i1", {"total": 9})
    # Segment's is corrected by how long the request took.
    assert abs(datetime.fromisoformat(counted["timestamp"]) - AT) < timedelta(seconds=10)


# PostHog


def test_a_batch_of_posthogs_library_is_counted_by_uuid_and_distinct_id(
    web: WebServer, client: redis.Redis
) -> None:
    event = {
        "event": "order_paid",
        "distinct_id": "u1",
        "uuid": "0198d9c4-7b5c-7000-8000-000000000001",
        "timestamp": "2025-03-14T15:09:26+00:00",
        "properties": {"plan": "pro", "$lib": "posthog-python"},
    }
    body = {"api_key": web.key, "batch": [event], "historical_migration": False}
    answer = web.send("POST", "/batch/", json.dumps(body).encode())
    assert (answer.status, answer.json) == (200, {"status": 1})
    assert events(client) == [
        {
            "event_type": "order_paid",
            "user_id": "u1",
            "event_id": "0198d9c4-7b5c-7000-8000-000000000001",
            "timestamp": "2025-03-14T15:09:26Z",
            "properties": {"plan": "pro", "$lib": "posthog-python"},
            "source": event_source(web),
        }
    ]


def event_source(web: WebServer) -> str:
    """The source of ids of the page's key that the server has."""
    return web.key.split("_")[1]


def test_posthogs_newer_batch_has_its_key_in_the_head_and_an_answer_for_each_event(
    web: WebServer, client: redis.Redis
) -> None:
    event = {"event": "sale", "distinct_id": "u1", "uuid": "i1", "options": {}, "properties": {}}
    body = {"batch": [event], "created_at": "2025-03-14T15:09:26+00:00"}
    headers = {"Authorization": f"Bearer {web.key}"}
    path = "/i/v1/analytics/events"
    answer = web.send("POST", path, json.dumps(body).encode(), headers)
    assert (answer.status, answer.json) == (200, {"results": {}})
    [counted] = events(client)
    assert (counted["user_id"], counted["event_id"]) == ("u1", "i1")


@pytest.mark.parametrize("path", ["/batch", "/capture/", "/e/", "/i/v0/e/", "/i/v0/ai/batch/"])
@pytest.mark.parametrize("alone", [True, False])
def test_posthogs_events_come_alone_or_in_a_batch_by_every_path(
    web: WebServer, client: redis.Redis, path: str, alone: bool
) -> None:
    event = {"event": "sale", "distinct_id": "u1"}
    body = event if alone else {"batch": [event]}
    answer = web.send("POST", path, json.dumps({**body, "api_key": web.key}).encode())
    assert answer.status == 200
    assert [(one["event_type"], one["user_id"]) for one in events(client)] == [("sale", "u1")]


@pytest.mark.parametrize(
    ("path", "headers", "pack"),
    [
        ("/batch/", {"Content-Encoding": "gzip"}, gzip.compress),
        ("/batch/", {"Content-Encoding": "deflate"}, zlib.compress),
        ("/e/?compression=gzip-js", {"Content-Type": "text/plain"}, gzip.compress),
        ("/v1/b", {}, gzip.compress),
    ],
    ids=["gzip", "deflate", "named in the query", "not named"],
)
def test_a_packed_body_is_unpacked_however_its_library_says_so(
    web: WebServer, client: redis.Redis, path: str, headers: dict[str, str], pack: Any
) -> None:
    body = {"api_key": web.key, "writeKey": web.key, "batch": [{**TRACK, "distinct_id": "u1"}]}
    answer = web.send("POST", path, pack(json.dumps(body).encode()), headers)
    assert answer.status == 200
    assert len(events(client)) == 1


def test_a_library_of_posthog_reads_why_its_events_are_refused(web: WebServer) -> None:
    body = {"api_key": web.key, "batch": [{"distinct_id": "u1"}]}
    answer = web.send("POST", "/batch/", json.dumps(body).encode())
    assert answer.status == 400
    assert answer.json["field"] == "event"
    assert "name what happened" in answer.json["detail"]


def test_feature_flags_are_asked_for_in_vain_and_without_harm(web: WebServer) -> None:
    for path in ("/flags/?v=4", "/decide/?v=3"):
        answer = web.send("POST", path, b'{"token": "x", "distinct_id": "u1"}')
        assert answer.status == 200
        assert (answer.json["flags"], answer.json["featureFlags"]) == ({}, {})
        assert answer.json["errorsWhileComputingFlags"] is False
    assert web.send("GET", "/flags/definitions?token=x&send_cohorts").json["flags"] == []
    assert web.post("/v1/m", {"series": []}).json == {"success": True}


# The key in the path


def test_with_its_key_in_the_path_every_format_is_taken(
    web: WebServer, client: redis.Redis
) -> None:
    for path, body in BODIES.items():
        answer = web.send("POST", f"/k/{web.key}{path}", json.dumps(body).encode())
        assert answer.status in (200, 202), path
    assert web.send("GET", f"/k/{web.key}/pixel.gif?event_type=sale").status == 200
    assert len(events(client)) == len(BODIES) + 1


@pytest.mark.parametrize("key", ["wk_1_2", "x", "k" * 5_000, "%00"])
def test_a_wrong_key_in_the_path_is_refused_and_not_shown(
    web: WebServer, client: redis.Redis, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    for path, body in BODIES.items():
        answer = web.send("POST", f"/k/{key}{path}", json.dumps(body).encode())
        assert answer.status == 401, path
        assert key not in answer.body.decode()
    assert events(client) == []
    assert key not in caplog.text


def test_a_key_in_a_path_that_is_not_served_is_not_shown(
    web: WebServer, caplog: pytest.LogCaptureFixture
) -> None:
    for method in ("POST", "GET"):
        for path in (f"/k/{web.key}", f"/k/{web.key}/", f"/k/{web.key}/v2/track"):
            answer = web.send(method, path, b"{}" if method == "POST" else b"")
            assert answer.status == 404, path
            assert web.key not in answer.body.decode()
    assert web.key not in caplog.text


def test_the_key_in_the_path_counts_and_not_what_a_library_puts_elsewhere(
    web: WebServer, client: redis.Redis
) -> None:
    body = {"writeKey": "unused", "batch": [TRACK]}
    assert web.post(f"/k/{web.key}/v1/batch?key=other", body, "unused").status == 200
    assert len(events(client)) == 1


def test_a_key_in_the_path_is_for_the_pages_of_its_origins_only(
    web: WebServer, shop_key: str, client: redis.Redis
) -> None:
    body = json.dumps({"n": "pageview", "u": f"{SHOP}/", "d": "shop.example"}).encode()
    path = f"/k/{shop_key}/api/event"
    refused = web.send("POST", path, body, {"Origin": "https://evil.example"})
    assert refused.status == 403
    assert events(client) == []
    preflight = {"Origin": SHOP, "Access-Control-Request-Method": "POST"}
    assert web.send("OPTIONS", path, headers=preflight).status == 204
    assert web.send("POST", path, body, {"Origin": SHOP}).status == 202
    assert len(events(client)) == 1


# Paths that take nothing


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/bogus", "/v2/track", "/api/send", "/v1/v1/batch", "/", "/matomo.php"),
        *("/dashboard", "/dashboard/", "/dashboard/v1/batch", "/dashboard/explore"),
    ],
)
def test_what_is_sent_elsewhere_is_answered_by_where_to_send_it(
    web: WebServer, shop_key: str, path: str
) -> None:
    answer = web.post(path, {"batch": [TRACK]}, Origin=SHOP)
    assert answer.status == 404
    assert answer.headers["access-control-allow-origin"] == SHOP
    for said in (answer.json["message"], answer.json["detail"], answer.json["error"]["message"]):
        assert "/v1/batch" in said
    assert (answer.json["code"], answer.json["success"]) == ("not_found", False)
    assert preflight(web, path, SHOP, "content-type").status == 204


def test_the_dashboards_own_forms_are_no_unknown_paths(web: WebServer, shop_key: str) -> None:
    for path in ("/dashboard/sign-in", "/dashboard/pipeline/flush"):
        assert "no events are taken" not in web.post(path, {}, Origin=SHOP).body.decode()
        asked = preflight(web, path, SHOP, "content-type")
        assert asked.status == 405
        assert "access-control-allow-origin" not in asked.headers
    for path in ("/", "/dashboard"):
        assert web.send("GET", path).status in (303, 307)
        assert web.send("PUT", path).status == 405


# Preflights

LIBRARIES = {
    "segment after an outage": "authorization,content-type,x-retry-count",
    "rudderstack": "anonymousid,authorization,content-type,rsa-retry-attempt,sentat",
    "tracing": "baggage,content-type,sentry-trace,traceparent,tracestate",
    "datadog": "x-datadog-origin,x-datadog-parent-id,x-datadog-trace-id",
    "new relic": "newrelic, traceparent",
    "one of a company": "X-Shop-Client.Version~1",
}


@pytest.mark.parametrize("asked", LIBRARIES.values(), ids=LIBRARIES)
@pytest.mark.parametrize("path", ["/v1/b", "/v1/batch", "/api/event", "/sourceConfig/"])
def test_a_page_may_send_any_header_that_it_asks_for(
    web: WebServer, shop_key: str, path: str, asked: str
) -> None:
    answer = preflight(web, path, SHOP, asked)
    assert answer.status == 204
    allowed = answer.headers["access-control-allow-headers"].split(", ")
    assert {name.strip().lower() for name in asked.split(",")} <= {*allowed}
    assert {"authorization", "content-type", "content-encoding"} <= {*allowed}
    assert len(allowed) == len({*allowed})


@pytest.mark.parametrize(
    "asked",
    ["x-a, b;c", "a b", "x(y", "*, \xe9", ",".join(f"x-{n}" for n in range(101)), "x" * 5_000],
)
def test_what_is_no_list_of_headers_is_not_repeated(
    web: WebServer, shop_key: str, asked: str
) -> None:
    answer = preflight(web, "/v1/b", SHOP, asked)
    assert answer.status == 204
    assert answer.headers["access-control-allow-headers"] == (
        "authorization, content-type, content-encoding"
    )


def test_pages_of_origins_that_a_key_names_may_send_with_credentials(web: WebServer) -> None:
    web.dependencies.access_keys.create("write", "shop", [SHOP])
    for origin, said in ((SHOP, "true"), ("https://other.example", None)):
        allowed = preflight(web, "/v1/b", origin, "content-type")
        assert allowed.status == 204
        assert allowed.headers.get("access-control-allow-credentials") == said
        answer = web.post("/v1/b", {"batch": [TRACK]}, Origin=origin)
        assert answer.headers.get("access-control-allow-credentials") == said
        assert answer.headers["access-control-allow-origin"] == origin


def preflight(web: WebServer, path: str, origin: str, asked: str) -> Any:
    """Ask whether a page may send such headers."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": asked,
    }
    return web.send("OPTIONS", path, headers=headers)
