"""Messages that cannot be decoded, of every kind: each is a dead letter, as it came and with the
reason; it ends no worker and holds up no other message."""

from __future__ import annotations

import json
from base64 import b64encode

import redis

from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.helpers.support import QUEUE, Workers, eventually
from tests.helpers.web_process import lately

DEPTH = 512 * 1024
NESTED = b"[" * DEPTH + b"]" * DEPTH
"""1 MiB that no parser with a bound on its stack can read."""
EVENT = b'[["page_view"], {}, {}]'
HEADERS = b'{"task": "analytics.track_event", "id": "%s"}'


def by_hand(body: bytes, headers: bytes = HEADERS, encoding: bytes = b"base64") -> bytes:
    """A message as it stands in Redis."""
    return b"""{"body": "%s", "content-type": "application/json", "content-encoding": "utf-8",
        "headers": %s, "properties": {"body_encoding": "%s", "delivery_tag": "t",
        "delivery_info": {"exchange": "", "routing_key": "analytics.events"}}}""" % (
        body,
        headers,
        encoding,
    )


UNDECODABLE = {
    "not UTF-8": b"\xff\xfe\x00",
    "not UTF-8, in JSON": by_hand(b64encode(EVENT), b'{"task": "analytics.track_event\xff"}'),
    "not UTF-8, in its body": by_hand(b64encode(b'[["\xff"], {}, {}]')),
    "not JSON": b"page_view",
    "half of a message": by_hand(b64encode(EVENT))[:-20],
    "JSON, a number": b"1" * 400,
    "JSON, no object": b'["page_view"]',
    "JSON, no message": b'{"event_type": "page_view"}',
    "JSON, of wrong types": b'{"body": 1, "headers": [], "properties": {"delivery_tag": 7}}',
    "no headers": by_hand(b64encode(EVENT), b"{}"),
    "headers are none": by_hand(b64encode(EVENT), b"null"),
    "a body of garbage": by_hand(b"!? no base64 at all"),
    "a body cut short": by_hand(b64encode(EVENT)[:-3]),
    "a body in another encoding": by_hand(b64encode(EVENT), encoding=b"rot13"),
    "a body that is not JSON": by_hand(b64encode(b"page_view")),
    "a body without arguments": by_hand(b64encode(b"[]")),
    "nested": NESTED,
    "nested, an object": b'{"a": %s}' % NESTED,
    "nested headers": by_hand(
        b64encode(EVENT), b'{"task": "analytics.track_event", "x": %s}' % NESTED
    ),
    "nested eta": by_hand(
        b64encode(EVENT), b'{"task": "analytics.track_event", "eta": %s}' % NESTED
    ),
    "nested body": by_hand(b64encode(b"[[%s], {}, {}]" % NESTED)),
    "nested body of the first protocol": by_hand(
        b64encode(b'{"task": "analytics.track_event", "id": "1", "args": %s}' % NESTED), b"{}"
    ),
    "nested callbacks": by_hand(b64encode(b'[["a"], {}, {"callbacks": %s}]' % NESTED)),
}


def test_what_cannot_be_decoded_is_a_dead_letter_and_the_worker_goes_on(
    services: Services, workers: Workers, client: redis.Redis
) -> None:
    good = [by_hand(b64encode(EVENT), HEADERS % str(n).encode()) for n in range(len(UNDECODABLE))]
    for one, bad in zip(good, UNDECODABLE.values(), strict=True):
        client.lpush(QUEUE, one, bad)

    worker = workers.start("events")

    eventually(lambda: services.stats.count("page_view", *lately()) == len(good))
    eventually(lambda: not client.exists(QUEUE, services.keys.unacked))
    assert worker.alive()
    assert services.move_dead_letters() == len(UNDECODABLE)
    letters = {letter.body: letter for letter in dead_letters.list_stored(services.engine)}
    for name, text in UNDECODABLE.items():
        letter = letters.get(text)
        assert letter is not None, name
        assert letter.kind == "message", name
        assert letter.reason, name
    status = services.status()
    assert status["books"]["balanced"]
    assert status["books"]["dead"] == status["dead_letters"] == len(UNDECODABLE)
    assert json.dumps(status)
