"""Page views over HTTP in every format, with all that can be added to them."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
import redis

from pipeline.access.access_key import KeyScope
from pipeline.contract import PAGE_PROPERTIES
from pipeline.services import Services
from pipeline.web.collector.formats.parsed_events import MAX_EVENT_BYTES
from tests.helpers.support import arguments, sent
from tests.helpers.web_server import WebServer, serving

ORIGIN = "https://shop.example"
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
    "Safari/537.36"
)
BROWSER = {"Origin": ORIGIN, "User_Agent": CHROME}
VIEW = {"type": "page", "context": {"page": {"url": f"{ORIGIN}/a?utm_source=news", "path": "/a"}}}
ALL = {"page_properties": PAGE_PROPERTIES, "sessions": True, "trusted_proxies": ["127.0.0.1"]}


@pytest.fixture
def web(make_web: Callable[..., WebServer]) -> WebServer:
    return make_web(**ALL)


def events(client: redis.Redis) -> list[dict[str, Any]]:
    """All that was sent so far."""
    return [event for message in sent(client) for event in arguments(message)[0][0]]


def sessions(client: redis.Redis) -> list[tuple[str | None, str | None]]:
    """Session and entry page of each event."""
    found = [event.get("properties") or {} for event in events(client)]
    return [(one.get("session_id"), one.get("entry_page")) for one in found]


def batch(web: WebServer, *calls: dict[str, Any], **headers: str) -> None:
    assert web.post("/v1/batch", {"batch": calls}, **headers).status == 200


def test_a_page_view_is_given_all_of_it(web: WebServer, client: redis.Redis) -> None:
    page = {**VIEW["context"]["page"], "referrer": "https://www.google.com/"}  # type: ignore[index]

    batch(web, {**VIEW, "context": {"page": page}}, **BROWSER)

    [event] = events(client)
    assert len(event["properties"].pop("session_id")) == 20
    assert event["properties"] == {
        "path": "/a",
        "referrer_host": "google.com",
        "utm_source": "news",
        "browser": "Chrome",
        "system": "Linux",
        "device": "desktop",
        "entry_page": "/a",
    }


def test_all_formats_share_the_session_of_a_visitor_which_has_one_entry(
    web: WebServer, client: redis.Redis
) -> None:
    plain = {"event_type": "page_view", "properties": {"path": "/b"}}
    posthog = {"event": "$pageview", "properties": {"$current_url": f"{ORIGIN}/c"}}
    plausible = {"n": "pageview", "u": f"{ORIGIN}/d"}
    batch(web, {"type": "track", "event": "early"}, VIEW, VIEW, **BROWSER)
    for path, body in (("/track", plain), ("/batch", {"batch": [posthog]}), ("/click", {})):
        assert web.post(path, body, **BROWSER).status == 200
    assert web.post("/api/event", plausible, **BROWSER).status == 202
    headers = {"Sec-Fetch-Mode": "no-cors", "User-Agent": CHROME, "Referer": f"{ORIGIN}/e"}
    assert web.send("GET", f"/pixel.gif?{urlencode({'key': web.key})}", headers=headers).status

    found = sessions(client)

    assert len(found) == 8
    assert len({session for session, _ in found}) == 1
    assert [entry for _, entry in found] == [None, "/a", *[None] * 6]


def test_a_page_view_sent_again_is_the_entry_again_by_whichever_server_takes_it(
    web: WebServer, services: Services, redis_url: str, client: redis.Redis
) -> None:
    first, second = ({**VIEW, "messageId": f"m{number}"} for number in (1, 2))
    with serving(services, redis_url, web.key, **ALL) as other:
        for one, call in ((web, first), (other, second), (other, first), (web, first)):
            batch(one, call, **BROWSER)

    found = sessions(client)
    assert len({session for session, _ in found}) == 1
    assert [entry for _, entry in found] == ["/a", None, "/a", "/a"]


def test_visitors_are_told_apart_by_address_browser_and_site(
    web: WebServer, client: redis.Redis
) -> None:
    def forwarded(address: str) -> dict[str, str]:
        return {**BROWSER, "X_Forwarded_For": address}

    other_key = web.dependencies.access_keys.create("write", "", [ORIGIN])[1]
    batch(web, VIEW, **forwarded("198.51.100.1"))
    batch(web, VIEW, **forwarded("198.51.100.2"))
    batch(web, VIEW, **{**forwarded("198.51.100.1"), "User_Agent": CHROME.replace("140", "139")})
    assert web.post("/v1/batch", {"batch": [VIEW]}, other_key, **forwarded("198.51.100.1"))
    batch(web, VIEW, **forwarded("2001:db8:1:2::1"))
    batch(web, VIEW, **forwarded("2001:db8:1:2:ffff::9"))  # the same network

    found = sessions(client)
    assert len({session for session, _ in found}) == 5
    assert found[4][0] == found[5][0]
    assert [entry for _, entry in found] == [*["/a"] * 5, None]


def test_keys_of_one_source_are_one_site(web: WebServer, client: redis.Redis) -> None:
    keys = web.dependencies.access_keys
    scope = KeyScope(source="shop")
    page, server = (keys.create("write", "", one, scope=scope)[1] for one in ([ORIGIN], []))
    assert web.post("/v1/batch", {"batch": [VIEW]}, page, **BROWSER).status == 200
    context = {"ip": "127.0.0.1", "userAgent": CHROME}
    call = {"type": "track", "event": "sale", "context": context}
    assert web.post("/v1/batch", {"batch": [call]}, server, User_Agent="curl/8").status == 200
    assert len({session for session, _ in sessions(client)}) == 1


def test_a_servers_events_have_sessions_only_where_they_say_whose(
    web: WebServer, client: redis.Redis
) -> None:
    key = web.dependencies.access_keys.create("write", "")[1]
    visitors: list[dict[str, Any]] = [
        {"ip": "198.51.100.1", "userAgent": CHROME},
        {"ip": "198.51.100.2", "userAgent": CHROME},
        {"ip": "198.51.100.1", "userAgent": CHROME},
        {"ip": "198.51.100.1"},
        {"userAgent": CHROME},
        {"ip": 7, "userAgent": CHROME},
        {"ip": "198.51.100.1", "userAgent": [CHROME]},
        {},
    ]
    calls = [{**VIEW, "context": {**VIEW["context"], **one}} for one in visitors]  # type: ignore[dict-item]
    answer = web.post("/v1/batch", {"batch": calls}, key, User_Agent="MyServer/1.0")
    assert answer.status == 200

    found = sessions(client)
    assert found[0][0] == found[2][0] != found[1][0]
    assert [entry for _, entry in found] == ["/a", "/a", *[None] * 6]
    assert [session for session, _ in found[3:]] == [None] * 5
    browsers = [event["properties"].get("browser") for event in events(client)]
    assert browsers == ["Chrome"] * 3 + [None, "Chrome", "Chrome", None, None]


def test_a_program_with_a_pages_key_claims_no_visitor(web: WebServer, client: redis.Redis) -> None:
    context = {"ip": "198.51.100.1", "userAgent": CHROME}
    batch(web, {"type": "page", "context": context}, User_Agent="MyApp/1.0")
    assert sessions(client) == [(None, None)]


@pytest.mark.parametrize("header", ["DNT", "Sec_GPC"])
def test_who_asks_not_to_be_tracked_has_no_session(
    web: WebServer, client: redis.Redis, header: str
) -> None:
    batch(web, VIEW, **{**BROWSER, header: "1"})
    batch(web, VIEW, **{**BROWSER, header: "0"})
    first, second = sessions(client)
    assert first == (None, None)
    assert second[1] == "/a"


def test_bots_users_and_what_waited_offline_have_no_session(
    web: WebServer, client: redis.Redis
) -> None:
    late = (datetime.now(UTC) - timedelta(minutes=31)).isoformat()
    for call in (
        {**VIEW, "timestamp": late},
        {"type": "identify", "traits": {"plan": "pro"}},
        {"type": "track", "event": "time_on_page", "properties": {"seconds": 4}},
        {"type": "page", "properties": {"session_id": "own"}},
    ):
        batch(web, call, **BROWSER)
    batch(web, VIEW, Origin=ORIGIN, User_Agent="Googlebot/2.1 (+http://www.google.com/bot.html)")

    assert [session for session, _ in sessions(client)] == [None, None, None, "own", None]
    assert not [*client.scan_iter("analytics:seen:session:*")]


def test_a_request_that_is_refused_begins_no_session(web: WebServer, client: redis.Redis) -> None:
    bad = {"type": "page", "timestamp": "2125-01-01T00:00:00Z", "messageId": "bad"}
    assert web.post("/v1/batch", {"batch": [bad]}, **BROWSER).status == 400
    assert not [*client.scan_iter("analytics:seen:session:*")]

    batch(web, bad, VIEW, **BROWSER)  # the entry is the first that was taken

    assert [entry for _, entry in sessions(client)] == ["/a"]


def test_the_largest_event_has_its_session(web: WebServer, client: redis.Redis) -> None:
    body: dict[str, Any] = {"event_type": "page_view", "properties": {"path": "/a", "text": ""}}
    body["properties"]["text"] = "x" * (MAX_EVENT_BYTES - len(json.dumps(body)))
    for less in (0, 800):
        body["properties"]["text"] = body["properties"]["text"][less:]
        assert web.post("/track", body, **BROWSER).status == 200
    first, second = (event["properties"] for event in events(client))
    assert len(json.dumps(first)) <= 32 * 1024
    assert second.keys() >= {"session_id", "browser"}


def test_without_the_settings_events_are_as_they_were(
    make_web: Callable[..., WebServer], client: redis.Redis
) -> None:
    batch(make_web(), VIEW, **BROWSER)
    assert [event["properties"] for event in events(client)] == [{"path": "/a"}]
    assert not [*client.scan_iter("analytics:s*")]


def test_properties_and_sessions_can_be_had_alone(
    make_web: Callable[..., WebServer], client: redis.Redis
) -> None:
    batch(make_web(page_properties=["browser"]), VIEW, **BROWSER)
    batch(make_web(sessions=True), VIEW, **BROWSER)
    first, second = (event["properties"] for event in events(client))
    assert first == {"path": "/a", "browser": "Chrome"}
    assert second.keys() == {"path", "session_id"}


def test_hostile_text_cannot_leave_the_value_it_is_in(web: WebServer, client: redis.Redis) -> None:
    path = '/a","session_id":"x","entry_page":"\\u0000\ud800'
    batch(web, {"type": "page", "properties": {"path": path, "utm_source": '"}'}}, **BROWSER)
    [event] = events(client)
    assert event["properties"]["path"].startswith('/a","session_id":"x"')
    assert event["properties"]["utm_source"] == '"}'
    assert event["properties"].get("session_id") != "x"
