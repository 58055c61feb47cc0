"""The collector over a socket: what each route takes, and what of it is then in the queue."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode

import pytest
import redis

from pipeline.event_log.queries import EventFilter, read_newest
from pipeline.services import Services
from tests.helpers.support import Workers, arguments, counted_here, eventually, sent
from tests.helpers.web_process import wait_until_consumed
from tests.helpers.web_server import WebServer, basic

TRACK = {"type": "track", "event": "sale", "userId": "u1"}


def events(client: redis.Redis) -> list[dict[str, Any]]:
    """The events that wait in the queue, in the order in which they were accepted."""
    return [event for message in sent(client) for event in arguments(message)[0][0]]


def names(client: redis.Redis) -> list[str]:
    return [event["event_type"] for event in events(client)]


def test_a_batch_of_every_call_is_accepted_as_events(web: WebServer, client: redis.Redis) -> None:
    batch = [
        {"type": "track", "event": "Order Completed", "userId": "u1", "properties": {"total": 9}},
        {"type": "page", "anonymousId": "a1", "name": "Home", "properties": {"path": "/"}},
        {"type": "screen", "userId": 17, "name": "Cart"},
        {"type": "identify", "userId": "u1", "traits": {"plan": "free"}},
        {"type": "group", "userId": "u1", "groupId": "g1", "traits": {"name": "Acme"}},
        {"type": "alias", "userId": "u1", "previousId": "a1"},
    ]
    answer = web.post("/v1/batch", {"batch": batch})
    assert (answer.status, answer.json) == (200, {"success": True})
    found = [
        (event["event_type"], event.get("user_id"), event.get("properties"))
        for event in events(client)
    ]
    assert found == [
        ("Order Completed", "u1", {"total": 9}),
        ("page_view", "a1", {"path": "/", "name": "Home"}),
        ("screen_view", "17", {"name": "Cart"}),
        ("identify", "u1", {"plan": "free"}),
        ("group", "u1", {"name": "Acme", "group_id": "g1"}),
        ("alias", "u1", {"previous_id": "a1"}),
    ]
    assert len(sent(client)) == 1


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/track", "sale"),
        ("/v1/t", "sale"),
        ("/v1/page", "page_view"),
        ("/v1/p", "page_view"),
        ("/v1/screen", "screen_view"),
        ("/v1/identify", "identify"),
        ("/v1/group", "group"),
        ("/v1/alias", "alias"),
        ("/v1/a", "alias"),
    ],
)
def test_every_call_may_come_alone(
    web: WebServer, client: redis.Redis, path: str, name: str
) -> None:
    answer = web.post(path, {"event": "sale", "userId": "u1", "messageId": "m1"})
    assert (answer.status, answer.json) == (200, {"success": True})
    found = events(client)
    assert [(one["event_type"], one["event_id"]) for one in found] == [(name, "m1")]


def test_an_import_is_a_batch(web: WebServer, client: redis.Redis) -> None:
    assert web.post("/v1/import", {"batch": [TRACK, TRACK]}).status == 200
    assert names(client) == ["sale", "sale"]


def test_good_events_of_a_batch_count_and_bad_ones_are_listed(
    web: WebServer, client: redis.Redis
) -> None:
    answer = web.post("/v1/batch", {"batch": [TRACK, {"type": "track"}, TRACK]})
    assert answer.status == 200
    assert answer.json["success"] is True
    assert [(one["index"], one["field"]) for one in answer.json["rejected"]] == [(1, "event")]
    assert names(client) == ["sale", "sale"]


def test_a_batch_of_bad_events_only_is_refused(web: WebServer, client: redis.Redis) -> None:
    answer = web.post("/v1/batch", {"batch": [{"type": "track"}, {"type": "x"}]})
    assert answer.status == 400
    assert answer.json["success"] is False
    assert (answer.json["code"], answer.json["field"]) == ("invalid_event", "event")
    assert events(client) == []


def test_more_events_than_a_message_holds_are_refused_whole(
    web: WebServer, client: redis.Redis
) -> None:
    answer = web.post("/v1/batch", {"batch": [TRACK] * 1_001})
    assert (answer.status, answer.json["code"]) == (413, "too_many_events")
    assert events(client) == []
    assert web.post("/v1/batch", {"batch": [TRACK] * 1_000}).status == 200
    assert len(events(client)) == 1_000


@pytest.mark.parametrize("media_type", ["application/json", "text/plain"])
def test_plausibles_event_is_answered_as_plausible_does(
    web: WebServer, client: redis.Redis, media_type: str
) -> None:
    body = {"name": "pageview", "url": "https://shop.example/a", "domain": "shop.example"}
    answer = web.post(f"/api/event?key={web.key}", body, Content_Type=media_type)
    assert (answer.status, answer.body) == (202, b"ok")
    assert [one["properties"]["path"] for one in events(client)] == ["/a"]
    refused = web.post("/api/event", {"url": "https://shop.example/a"})
    assert refused.status == 400
    assert list(refused.json["errors"]) == ["name"]


def test_a_plain_event_is_taken_as_it_is(web: WebServer, client: redis.Redis) -> None:
    assert web.post("/track", {"event_type": "sale", "user_id": "u1"}).json == {"success": True}
    assert web.post("/click", {"properties": {"id": "buy"}}).status == 200
    assert [(one["event_type"], one.get("user_id")) for one in events(client)] == [
        ("sale", "u1"),
        ("click", None),
    ]
    refused = web.post("/track", {"event_type": "sale", "color": 1})
    assert refused.json["error"]["field"] == "color"


def test_a_pixel_is_an_image_that_is_not_cached(web: WebServer, client: redis.Redis) -> None:
    query = urlencode({"key": web.key, "event_type": "mail_opened", "campaign": "spring"})
    answer = web.send("GET", f"/pixel.gif?{query}")
    assert (answer.status, len(answer.body)) == (200, 43)
    assert answer.body.startswith(b"GIF89a")
    assert answer.headers["content-type"] == "image/gif"
    assert answer.headers["cache-control"] == "no-store"
    found = events(client)
    assert [(one["event_type"], one["properties"]) for one in found] == [
        ("mail_opened", {"campaign": "spring"})
    ]


def test_a_gzip_body_is_unpacked(web: WebServer, client: redis.Redis) -> None:
    body = gzip.compress(json.dumps({"batch": [TRACK] * 300}).encode())
    assert web.post("/v1/batch", body, Content_Encoding="gzip").status == 200
    assert len(events(client)) == 300


def test_requests_at_the_same_time_share_messages_and_lose_nothing(
    web: WebServer, client: redis.Redis
) -> None:
    def send(number: int) -> int:
        return web.post("/track", {"event_type": "sale", "user_id": f"u{number}"}).status

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(send, range(300))) == {200}
    assert sorted(one["user_id"] for one in events(client)) == sorted(f"u{n}" for n in range(300))


def test_an_event_sent_again_under_its_id_counts_once(
    web: WebServer, client: redis.Redis, workers: Workers, services: Services
) -> None:
    for _ in range(3):
        assert web.post("/v1/batch", {"batch": [{**TRACK, "messageId": "m1"}]}).status == 200
    workers.start("events")
    eventually(lambda: services.status()["books"]["consumed"] == 3)
    assert counted_here(client) == {"sale": 1}


def test_user_ids_become_pseudonyms_where_a_secret_is_set(
    make_web: Any, client: redis.Redis
) -> None:
    web = make_web(user_id_secret="s" * 32)
    assert web.post("/v1/track", {"event": "sale", "userId": "ada"}).status == 200
    assert web.post("/track", {"event_type": "sale", "user_id": "ada"}).status == 200
    shown = {one["user_id"] for one in events(client)}
    assert len(shown) == 1
    assert shown.isdisjoint({"ada"})


def test_a_bot_counts_apart(web: WebServer, client: redis.Redis) -> None:
    bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    query = urlencode({"key": web.key})
    assert web.send("GET", f"/pixel.gif?{query}", headers={"User-Agent": bot}).status == 200
    assert web.post("/v1/page", {}, User_Agent=bot, Origin="https://a.example").status == 200
    assert web.post("/v1/page", {}, User_Agent="python-requests/2").status == 200
    assert names(client) == ["bot:page_view", "bot:page_view", "page_view"]


def test_an_address_is_stored_nowhere(make_web: Any, client: redis.Redis) -> None:
    web = make_web(trusted_proxies=["127.0.0.1"], address_requests_per_s=100, key_events_per_s=100)
    context = {"ip": "192.0.2.77", "page": {"path": "/"}}
    answer = web.post(
        "/v1/track", {"event": "sale", "context": context}, X_Forwarded_For="192.0.2.77"
    )
    assert answer.status == 200
    stored = [client.dump(name) or b"" for name in client.scan_iter()]
    assert len(stored) > 3
    assert not any(b"192.0.2.77" in dump or b"127.0.0.1" in dump for dump in stored)
    assert "192.0.2.77" not in json.dumps(events(client))


# What is broken

GOOD = b'{"type":"track","event":"good","messageId":"%d"}'
BROKEN = {
    b'"\\ud800"': True,
    b'"caf\xe9"': True,
    b"NaN": False,
    b"Infinity": False,
    b"7" * 5_000: False,
    b'"\\q"': False,
    b"[" * 2_000: False,
}


@pytest.mark.parametrize("where", ["head", "body", "packed"])
@pytest.mark.parametrize("path", ["/v1/batch", "/v1/b", "/beacon/v1/batch", "/batch"])
def test_one_broken_event_costs_no_other(
    web: WebServer, client: redis.Redis, path: str, where: str
) -> None:
    before = 0
    for value, is_mended in BROKEN.items():
        odd = b'{"type":"track","event":"odd","properties":{"v":%b}}' % value
        name = b"api_key" if path == "/batch" else b"writeKey"
        key = b'"%b":"%b",' % (name, web.key.encode()) if where != "head" else b""
        body = b'{%b"batch":[%b]}' % (key, b",".join([GOOD % 1, odd, GOOD % 2]))
        headers = {} if where != "head" else basic(web.key)
        if where == "packed":
            body, headers = gzip.compress(body), {"Content-Encoding": "gzip"}
        answer = web.send("POST", path, body, headers)
        assert answer.status == 200, (value, answer.body)
        rejected = [one["index"] for one in answer.json.get("rejected", [])]
        assert rejected == ([] if is_mended else [1]), value
        counted = ["good", "odd", "good"] if is_mended else ["good", "good"]
        found = names(client)
        assert found[before:] == counted, value
        before = len(found)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("key={key}&v=%E9&timestamp=1700000000", 200),
        ("key={key}&timestamp=2016-07-18T19:20:30+02:00", 200),
        ("key={key}&event_type=&%u20AC=%&&==", 200),
        ("key={key}&" + "&".join(f"p{n}=1" for n in range(300)), 200),
        ("key={key}&event_type=" + "x" * 300, 400),
        ("key=wrong", 401),
        ("", 401),
    ],
)
def test_a_pixel_is_always_an_image(
    web: WebServer, client: redis.Redis, query: str, status: int
) -> None:
    answer = web.send("GET", "/pixel.gif?" + query.format(key=web.key))
    assert answer.status == status
    assert answer.headers["content-type"] == "image/gif"
    assert answer.body.startswith(b"GIF89a")
    assert ("x-analytics-error" in answer.headers) == (status != 200)
    assert len(events(client)) == (status == 200)


def test_values_with_nul_reach_the_archive_exactly(
    web: WebServer, client: redis.Redis, services: Services, workers: Workers
) -> None:
    values = {"a": "x\x00y\x1b[31m\n", "b": ["\x00"], "c": "\\u0000"}
    fields = {"event_type": "odd\x00 one\n", "user_id": 42, "properties": values}
    assert web.post("/track", fields).status == 200
    workers.start("events")
    wait_until_consumed(services)
    services.archive_events()
    services.flush()
    (event,) = read_newest(services.engine, EventFilter(), 9)
    assert (event.event_type, event.user_id, event.properties) == ("odd one", "42", values)
    assert services.status()["dead_letters"] == 0
