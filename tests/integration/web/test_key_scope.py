"""What one key may send: its event types, their age, its rate, and the pages it is for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import redis

from pipeline.access.access_key import KeyScope
from tests.helpers.support import arguments, sent
from tests.helpers.web_server import BODIES, Answer, WebServer

MakeWeb = Callable[..., WebServer]
PAGE = "https://shop.example"
DAY_S = 86_400


def make_key(web: WebServer, *origins: str, **scope: object) -> str:
    return web.dependencies.access_keys.create(
        "write",
        "scoped",
        origins,
        scope=KeyScope(**scope),  # type: ignore[arg-type]
    )[1]


def ago(**age: float) -> str:
    return (datetime.now(UTC) - timedelta(**age)).isoformat()


def load_pixel(web: WebServer, key: str, referer: str | None = None, **fields: str) -> Answer:
    headers = {} if referer is None else {"Referer": referer}
    return web.send("GET", f"/pixel.gif?{urlencode({'key': key, **fields})}", headers=headers)


# Event types and age


def test_of_a_batch_what_the_key_may_not_send_is_rejected_by_its_place(
    web: WebServer, client: redis.Redis
) -> None:
    key = make_key(web, event_types=("page_view", "click"), max_age_s=7 * DAY_S)
    calls = [
        {"type": "track", "event": "click"},
        {"type": "track", "event": "order_paid"},
        {"type": "page"},
        {"type": "identify"},
        {"type": "track", "event": "click", "timestamp": ago(days=8)},
        {"type": "track", "event": "click", "timestamp": ago(days=6)},
    ]

    answer = web.post("/v1/batch", {"batch": calls}, key)

    assert answer.status == 200
    assert [(one["index"], one["field"]) for one in answer.json["rejected"]] == [
        (1, "event"),
        (3, "event"),
        (4, "timestamp"),
    ]
    reasons = [one["reason"] for one in answer.json["rejected"]]
    assert "send one of: page_view, click" in reasons[0]
    assert "is older than this key admits (7 d)" in reasons[2]
    (message,) = sent(client)
    assert [one["event_type"] for one in arguments(message)[0][0]] == [
        "click",
        "page_view",
        "click",
    ]


@pytest.mark.parametrize("path", list(BODIES))
def test_by_every_route_an_event_of_another_type_is_refused(
    web: WebServer, client: redis.Redis, path: str
) -> None:
    key = make_key(web, event_types=("nothing else",))

    answer = web.post(path, BODIES[path], key)

    assert answer.status == 400
    assert "nothing else" in answer.body.decode()
    assert load_pixel(web, key).status == 400
    assert sent(client) == []


@pytest.mark.parametrize(
    "timestamp",
    [
        "2025-03-14T12:00:00Z",
        1_741_953_600.5,
        "0001-01-02T00:00:00Z",
        -62_000_000_000,
    ],
)
def test_an_old_event_is_refused_however_its_time_is_written(
    web: WebServer, client: redis.Redis, timestamp: object
) -> None:
    key = make_key(web, max_age_s=3_600)
    event = {"event_type": "sale", "timestamp": timestamp}

    answer = web.post("/track", event, key)

    assert (answer.status, answer.json["error"]["field"]) == (400, "timestamp")
    assert web.post("/v1/track", {"event": "sale", "timestamp": timestamp}, key).status == 400
    if isinstance(timestamp, str):
        assert load_pixel(web, key, timestamp=timestamp).status == 400
    assert sent(client) == []
    assert web.post("/track", event).status == 200  # by a key without a scope


def test_a_wrong_clock_is_corrected_before_the_age_is_checked(web: WebServer) -> None:
    key = make_key(web, max_age_s=3_600)
    call = {"event": "sale", "timestamp": ago(days=400), "sentAt": ago(days=400)}

    assert web.post("/v1/track", call, key).status == 200


def test_a_type_is_compared_as_the_client_names_it_and_a_bot_is_marked_later(
    web: WebServer, client: redis.Redis
) -> None:
    key = make_key(web, event_types=("page_view",))
    agent = {"User_Agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"}

    answer = web.post("/api/event", BODIES["/api/event"], key, **agent)

    assert answer.status == 202
    assert arguments(sent(client)[0])[0][0][0]["event_type"] == "bot:page_view"


# Rates


def test_a_key_has_a_rate_of_its_own(make_web: MakeWeb, caplog: pytest.LogCaptureFixture) -> None:
    web = make_web(key_events_per_s=1_000)
    slow, quick = make_key(web, events_per_s=1), make_key(web, events_per_s=2)
    batch = {"batch": [{"type": "track", "event": "sale"}] * 10}

    with caplog.at_level(logging.WARNING):
        statuses = [web.post("/v1/batch", batch, slow).status for _ in range(3)]

    assert statuses == [200, 429, 429]
    assert [web.post("/v1/batch", batch, quick).status for _ in range(3)] == [200, 200, 429]
    said = [one.message for one in caplog.records if "write key" in one.message]
    assert [slow.split("_")[1] in one for one in said] == [True, False]
    assert "1 events a second" in said[0]


def test_a_page_key_without_a_rate_has_the_one_of_the_settings(make_web: MakeWeb) -> None:
    web = make_web(key_events_per_s=100, page_key_events_per_s=1)
    page, server, own = make_key(web, PAGE), make_key(web), make_key(web, PAGE, events_per_s=0)
    batch = {"batch": [{"type": "track", "event": "sale"}] * 11}

    assert web.post("/v1/batch", batch, page).status == 200  # more than the limit at once
    refused = web.post("/v1/batch", batch, page)

    assert refused.status == 429
    assert "ANALYTICS_PAGE_KEY_EVENTS_PER_S" in refused.json["message"]
    for key in (server, own):
        assert [web.post("/v1/batch", batch, key).status for _ in range(3)] == [200] * 3


# Pages


@pytest.mark.parametrize(
    ("referer", "status"),
    [
        (f"{PAGE}/a?b#c", 200),
        (f"{PAGE}", 200),
        (f"{PAGE}:443/", 200),
        ("HTTPS://Shop.Example/", 200),
        (None, 200),  # a page that sends none, or a program
        ("", 200),
        ("https://evil.example/", 403),
        ("http://shop.example/", 403),
        (f"{PAGE}:444/", 403),
        (f"{PAGE}.evil.example/", 403),
        (f"https://evil.example/?{PAGE}/", 403),
        (f"https://evil.example?{PAGE}/", 403),
        ("https://shop.example@evil.example/", 403),
        ("https://evil.example#@shop.example", 403),
        ("https://evil.example\\@shop.example/", 403),
        ("about:blank", 403),
        ("shop.example", 403),
    ],
)
def test_a_pixel_counts_only_on_pages_that_its_key_is_for(
    web: WebServer, client: redis.Redis, referer: str | None, status: int
) -> None:
    key = make_key(web, PAGE)

    answer = load_pixel(web, key, referer)

    assert answer.status == status
    assert len(sent(client)) == (status == 200)
    # Any page may show the pixel of a key for any, and a server's key may stand in a mail.
    assert load_pixel(web, make_key(web, "*"), referer).status == 200
    assert load_pixel(web, make_key(web), referer).status == 200


def test_without_an_origin_the_referer_of_a_body_decides(web: WebServer) -> None:
    key = make_key(web, PAGE)
    for path, body in BODIES.items():
        assert web.post(path, body, key, Referer="https://evil.example/").status == 403, path
        assert web.post(path, body, key, Referer=f"{PAGE}/a").status in (200, 202), path
        both = {"Origin": PAGE, "Referer": "https://evil.example/"}
        assert web.post(path, body, key, **both).status in (200, 202), path
