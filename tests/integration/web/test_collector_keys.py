"""Who may send: without a valid write key nothing is counted, by any route."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.parse import urlencode

import pytest
import redis

from pipeline.web.collector.routes import create_formats
from tests.helpers.support import eventually, sent
from tests.helpers.web_server import BODIES, WebServer, basic, pixel

MakeWeb = Callable[..., WebServer]

BAD_KEYS: dict[str, dict[str, str]] = {
    "none": {},
    "not ours": basic("secret"),
    "bearer": {"Authorization": "Bearer x"},
    "another scheme": {"Authorization": "Digest x"},
    "no base64": {"Authorization": "Basic ***"},
    "long": {"Authorization": "Bearer wk_" + "a" * 5_000},
}


def test_every_route_of_the_collector_is_among_those_tested() -> None:
    assert {*create_formats()} == {*BODIES, "/pixel.gif"}


@pytest.mark.parametrize("given", list(BAD_KEYS))
def test_no_route_takes_an_event_without_a_valid_key(
    web: WebServer, client: redis.Redis, given: str
) -> None:
    headers = BAD_KEYS[given]
    for path, body in BODIES.items():
        answer = web.send("POST", path, json.dumps(body).encode(), headers)
        assert answer.status == 401, path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "Traceback" not in answer.body.decode()
    assert web.send("GET", "/pixel.gif?event_type=sale", headers=headers).status == 401
    assert sent(client) == []


@pytest.mark.parametrize(
    "body",
    ["", "no json", "[1]", '{"event": 5}', "[" * 9_000],
)
def test_without_a_key_nobody_is_told_what_is_wrong_with_a_body(
    web: WebServer, client: redis.Redis, body: str
) -> None:
    for path in BODIES:
        assert web.send("POST", path, body.encode()).status == 401, path
        assert web.post(path, body.encode()).status == 400, path
    assert sent(client) == []


def test_with_a_key_in_the_body_its_sender_is_told_what_is_wrong(web: WebServer) -> None:
    body = json.dumps({"event": 5, "writeKey": web.key}).encode()
    answer = web.send("POST", "/v1/track", body)
    assert (answer.status, answer.json["field"]) == (400, "event")


def test_a_key_with_another_secret_is_none(web: WebServer, client: redis.Redis) -> None:
    for wrong in (web.key[:-1], web.key + "A", web.key.rpartition("_")[0], web.key.swapcase()):
        for path, body in BODIES.items():
            assert web.post(path, body, wrong).status == 401, path
        assert pixel(web, wrong).status == 401
    assert sent(client) == []


@pytest.mark.parametrize("way", ["basic", "bearer", "parameter", "body"])
def test_a_key_may_come_in_four_ways(web: WebServer, client: redis.Redis, way: str) -> None:
    body: dict[str, object] = {"batch": [{"type": "track", "event": "sale"}]}
    path, headers = "/v1/batch", {}
    match way:
        case "basic":
            headers = basic(web.key)
        case "bearer":
            headers = {"Authorization": f"Bearer {web.key}"}
        case "parameter":
            path = f"{path}?{urlencode({'key': web.key})}"
        case "body":
            body["writeKey"] = web.key
    assert web.send("POST", path, json.dumps(body).encode(), headers).status == 200
    assert len(sent(client)) == 1


def test_a_revoked_key_is_refused_within_five_seconds(
    make_web: MakeWeb, client: redis.Redis
) -> None:
    web, other = make_web(), make_web()
    assert web.post("/track", {"event_type": "sale"}).status == 200
    # By another process, as `analytics keys revoke` is.
    other.dependencies.access_keys.revoke(web.key.split("_")[1])
    began_s = time.monotonic()
    eventually(lambda: web.post("/track", {"event_type": "sale"}).status == 401, 10)
    assert time.monotonic() - began_s < 5
    before = len(sent(client))
    assert web.post("/track", {"event_type": "sale"}).status == 401
    assert len(sent(client)) == before


def test_a_key_made_while_the_server_runs_is_known_at_once(
    make_web: MakeWeb, client: redis.Redis
) -> None:
    web, other = make_web(), make_web()
    assert web.post("/track", {"event_type": "sale"}).status == 200
    key = other.dependencies.access_keys.create("write", "new")[1]
    eventually(lambda: web.post("/track", {"event_type": "sale"}, key).status == 200, 2)


def test_no_secret_is_stored(web: WebServer, client: redis.Redis) -> None:
    stored = b"".join(client.hvals(web.dependencies.services.keys.access))
    assert web.key.split("_", 2)[2].encode() not in stored
    assert web.key.split("_")[1].encode() in stored


def test_a_read_token_sends_nothing(web: WebServer, client: redis.Redis) -> None:
    _, token = web.dependencies.access_keys.create("read", "reader")
    for path, body in BODIES.items():
        assert web.post(path, body, token).status == 401, path
    assert sent(client) == []
