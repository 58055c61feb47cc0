"""Whose event ids the collector takes for the same: a page's key hides nothing of a server's."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import redis

from pipeline import Tracker, track_event, track_events
from pipeline.access.access_key import KeyScope
from pipeline.cli.files.formats.json_lines import parse_ndjson
from pipeline.cli.files.importing import Importer, Report
from pipeline.cli.files.line_source import open_lines
from pipeline.services import Services
from tasks.consumer.messages import read_message
from tests.helpers.support import arguments, counted_here, fetch, sent
from tests.helpers.web_server import WebServer

PAGE = {"Origin": "https://shop.example"}
SALES = [f"order-{n}" for n in range(18, 28)]


def make_key(web: WebServer, *origins: str, source: str = "") -> str:
    scope = KeyScope(source=source)
    return web.dependencies.access_keys.create("write", "", origins, scope=scope)[1]


def track(web: WebServer, key: str, event_id: str, event: str = "sale", **headers: str) -> None:
    call = {"event": event, "userId": "u1", "messageId": event_id}
    assert web.post("/v1/track", call, key, **headers).status == 200


def books(services: Services) -> dict[str, int]:
    found = services.redis.hgetall(services.keys.totals)
    return {name.decode(): int(n) for name, n in found.items() if b":" not in name}


def count_queued(services: Services) -> dict[str, int]:
    """Count what waits, as a worker does; returns the counts of every type so far."""
    now = datetime.now(UTC)
    reads = [read_message(tag, raw, now) for tag, raw in fetch(services)]
    services.counters.apply([read.delivery for read in reads if read], now)
    found = books(services)
    assert found["consumed"] == found["counted"] + found.get("duplicate", 0)
    return counted_here(services.redis)


def test_a_pages_key_hides_no_event_of_a_servers(web: WebServer, services: Services) -> None:
    page, server = make_key(web, "https://shop.example"), make_key(web)
    for event_id in SALES:
        track(web, page, event_id, **PAGE)
        track(web, page, event_id)  # by a program, which has the key from the page
        query = urlencode({"key": page, "event_type": "sale", "event_id": event_id})
        assert web.send("GET", f"/pixel.gif?{query}").status == 200
        plain = {"event_type": "sale", "event_id": event_id}
        assert web.post("/track", plain, page).status == 200
        plausible = {"name": "sale", "url": "https://a.example/", "event_id": event_id}
        assert web.post("/api/event", plausible, page).status == 202
        in_body = {"writeKey": page, "event": "sale", "messageId": event_id}
        assert web.send("POST", "/v1/track", json.dumps(in_body).encode()).status == 200
    assert count_queued(services) == {"sale": 10}, "the same id, sent again by one key"

    for event_id in SALES:
        track(web, server, event_id)

    assert count_queued(services) == {"sale": 20}


def test_what_an_owner_sends_by_any_way_shares_its_ids(
    web: WebServer, services: Services, tmp_path: Path
) -> None:
    servers = [make_key(web), make_key(web)]
    file = tmp_path / "sales"
    file.write_text('{"event_type": "sale", "event_id": "order-1"}\n')

    track_event.delay("sale", event_id="order-1")
    track_events.delay([{"event_type": "sale", "event_id": "order-1"}])
    with Tracker() as tracker:
        tracker.track("sale", event_id="order-1")
    with open_lines(str(file)) as lines, closing(Report()) as report:
        Importer(parse_ndjson, track_events.delay, report).run(lines)
    for key in servers:
        track(web, key, "order-1")

    assert count_queued(services) == {"sale": 1}
    assert books(services)["duplicate"] == 5


def test_one_id_of_two_types_is_two_events(web: WebServer, services: Services) -> None:
    server = make_key(web)
    for event in ("order_created", "order_paid", "order_paid"):
        track(web, server, "1001", event)
        track_event.delay(event, event_id="1001")

    assert count_queued(services) == {"order_created": 1, "order_paid": 1}


def test_pages_keys_share_ids_only_where_they_name_one_source(
    web: WebServer, services: Services
) -> None:
    named = [make_key(web, "*", source="shop"), make_key(web, "*", source="shop")]
    for key in (*named, make_key(web, "*"), make_key(web, "*"), make_key(web, source="shop")):
        track(web, key, "k")

    assert count_queued(services) == {"sale": 3}


def test_a_key_that_replaces_another_may_go_on_with_its_ids(
    web: WebServer, services: Services
) -> None:
    """What a browser keeps to send again, it sends with the key that the page has by then."""
    old = make_key(web, "*")
    new = make_key(web, "*", source=old.split("_")[1])
    for key in (old, new):
        track(web, key, "k")

    assert count_queued(services) == {"sale": 1}


def test_an_event_sent_again_counts_once_whether_or_not_it_is_judged_a_bots(
    web: WebServer, services: Services
) -> None:
    """Of a crowd of new user agents only some are judged, and the list of bots changes."""
    for agent in ("Mozilla/5.0 (compatible; Googlebot/2.1)", "Mozilla/5.0", None):
        call = {"messageId": "m1", "context": {"userAgent": agent}}
        assert web.post("/v1/page", call).status == 200

    assert count_queued(services) == {"bot%3Apage_view": 1}


def test_no_client_names_a_source(web: WebServer, services: Services, client: redis.Redis) -> None:
    page = make_key(web, "*")
    refused = web.post("/track", {"event_type": "sale", "event_id": "k", "source": ""}, page)
    assert (refused.status, refused.json["error"]["field"]) == (400, "source")
    track_event.delay("sale", event_id="k")
    for event_id in ("", "k"):
        query = {"key": page, "event_type": "sale", "event_id": event_id, "source": "news"}
        assert web.send("GET", f"/pixel.gif?{urlencode(query)}").status == 200
    call = {"event": "sale", "messageId": "k", "source": "", "properties": {"source": ""}}
    assert web.post("/v1/track", call, page).status == 200

    found = [arguments(message)[0][0][0] for message in sent(client)[1:]]
    assert {one["source"] for one in found} == {page.split("_")[1]}
    assert found[0]["properties"] == {"source": "news"}
    assert count_queued(services) == {"sale": 3}
