"""Visitors of a page while others use up the rate of its key."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress

from pipeline.access.access_key import KeyScope
from tests.helpers.web_server import WebServer, basic
from tests.integration.web.test_collector_admission import open_request, read_answer, status

MakeWeb = Callable[..., WebServer]
PAGE = "https://shop.example"
ATTACKER, OTHER, VISITOR = "127.0.0.2", "127.0.0.3", "127.0.0.4"
CALL = {"type": "track", "event": "page_view"}


def make_page_key(web: WebServer, events_per_s: int) -> str:
    scope = KeyScope(events_per_s=events_per_s)
    return web.dependencies.access_keys.create("write", "page", [PAGE], scope=scope)[1]


def send(web: WebServer, key: str, source: str, count: int) -> int:
    """The status of a batch of so many events from an address."""
    body = json.dumps({"batch": [CALL] * count}).encode()
    with open_request(web.port, "/v1/batch", basic(key), len(body), source) as connection:
        with suppress(OSError):  # refused already
            connection.sendall(body)
        return status(read_answer(connection))


def test_visitors_go_on_while_others_use_up_the_rate_of_their_pages_key(make_web: MakeWeb) -> None:
    web = make_web()
    key = make_page_key(web, 10)
    for source in (ATTACKER, OTHER):
        while send(web, key, source, 30) == 200:
            pass

    visits = [send(web, key, VISITOR, 1) for _ in range(10)]
    attacks = [send(web, key, source, 30) for source in (ATTACKER, OTHER) for _ in range(3)]

    assert visits == [200] * 10
    assert attacks == [429] * 6


def test_the_reserve_of_visitors_ends(make_web: MakeWeb) -> None:
    web = make_web()
    key = make_page_key(web, 2)
    while send(web, key, ATTACKER, 20) == 200:
        pass

    visits = [send(web, key, f"127.0.1.{number}", 2) for number in range(1, 30)]

    assert 200 in visits
    assert visits.count(429) > visits.count(200)


def test_a_key_of_servers_has_no_reserve(make_web: MakeWeb) -> None:
    web = make_web(key_events_per_s=10)
    key = web.dependencies.access_keys.create("write", "server")[1]
    while send(web, key, ATTACKER, 100) == 200:
        pass

    assert send(web, key, VISITOR, 1) == 429
