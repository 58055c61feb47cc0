"""From what clients send over HTTP to our events, without a server."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from pipeline.event.pseudonyms import pseudonym
from pipeline.web.collector.formats import plausible, segment, single_events
from pipeline.web.collector.formats.bots import BotDetector
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents, RejectedEvent
from pipeline.web.errors import RequestRefused

NOW = datetime(2025, 3, 14, 15, 9, 26, tzinfo=UTC)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0"
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
DEEP = b'{"event":"e","properties":' + b'{"a":' * 3_000 + b"1" + b"}" * 3_000 + b"}"


def encoder(**known: Any) -> EventEncoder:
    fields: dict[str, Any] = {
        "user_id_secret": "",
        "user_agent": CHROME,
        "is_browser": False,
        "referrer": "",
        "received_at": NOW,
    }
    return EventEncoder(**(fields | known))


def decoded(parsed: ParsedEvents) -> list[dict[str, Any]]:
    return [json.loads(event) for event in parsed.events]


def track(call: dict[str, Any], **known: Any) -> dict[str, Any]:
    """The event of a call to /v1/track."""
    body = json.dumps({"event": "e", **call}).encode()
    return decoded(segment.parse_call("track", body, encoder(**known)))[0]


def batch(*items: Any, **fields: Any) -> ParsedEvents:
    return segment.parse_batch(json.dumps({"batch": items, **fields}).encode(), encoder())


# Segment


@pytest.mark.parametrize(
    ("items", "least"),
    [
        ([{"type": "track", "event": "e"}] * 1_000, 9),
        ([{"type": "track", "event": "e", "properties": {"a": "x" * 30_000}}] * 16, 4),
        ([{"type": "track", "event": "e"}] * 100, 0),
    ],
    ids=["many", "large", "few"],
)
def test_a_batch_is_decoded_a_bit_at_a_time(items: list[dict[str, Any]], least: int) -> None:
    body = json.dumps({"batch": items}).encode()
    *pauses, parsed = segment.parse_batch_in_steps(body, encoder())
    assert parsed is not None
    assert len(parsed.events) == len(items)
    assert set(pauses) <= {None}
    assert len(pauses) >= least
    assert least or not pauses
    assert decoded(parsed)[0].keys() == decoded(segment.parse_batch(body, encoder()))[0].keys()


def test_a_wrong_clock_is_corrected_by_when_the_request_was_sent() -> None:
    # An hour slow: what it calls a minute before sending is a minute before receiving.
    event = track({"timestamp": "2025-03-14T14:08:26.000Z", "sentAt": "2025-03-14T14:09:26.000Z"})
    assert event["timestamp"] == "2025-03-14T15:08:26Z"


def test_the_clock_of_a_batch_is_corrected_for_each_of_its_events() -> None:
    times = ["2030-01-01T00:00:00Z", "2030-01-01T00:00:30+00:00", "2030-01-01T01:00:00+01:00"]
    items = [{"type": "track", "event": "e", "timestamp": at} for at in times]
    found = decoded(batch(*items, sentAt="2030-01-01T00:01:00Z"))
    assert [event["timestamp"] for event in found] == [
        "2025-03-14T15:08:26Z",
        "2025-03-14T15:08:56Z",
        "2025-03-14T15:08:26Z",
    ]


def test_a_time_without_zone_is_meant_in_utc() -> None:
    assert track({"timestamp": "2025-01-02T03:04:05"})["timestamp"] == "2025-01-02T03:04:05Z"


def test_the_user_is_the_anonymous_one_until_somebody_is_known() -> None:
    assert track({"userId": "u", "anonymousId": "a"})["user_id"] == "u"
    assert track({"userId": "", "anonymousId": "a"})["user_id"] == "a"
    assert track({"userId": 12})["user_id"] == "12"
    assert "user_id" not in track({"userId": None})


def test_the_path_of_the_page_is_a_property_unless_there_is_one() -> None:
    context = {"page": {"path": "/a", "url": "https://x.example/a"}, "ip": "192.0.2.1"}
    assert track({"context": context})["properties"] == {"path": "/a"}
    found = track({"context": context, "properties": {"path": "/b"}})
    assert found["properties"] == {"path": "/b"}


@pytest.mark.parametrize("context", [{}, {"page": None}, {"page": 5}, {"page": {"path": 5}}])
def test_a_context_that_says_nothing_changes_nothing(context: object) -> None:
    assert "properties" not in track({"context": context})


def test_what_is_wrong_in_a_batch_is_told_by_place_field_and_reason() -> None:
    good = {"type": "track", "event": "e"}
    parsed = batch(
        good,
        {"type": "track"},
        {"type": "purchase", "event": "e"},
        "no object",
        {"type": "track", "event": "e", "timestamp": "yesterday"},
        {"type": "track", "event": "e", "userId": {"a": 1}},
        {"type": "track", "event": "\x00"},
        {"type": "track", "event": "e", "messageId": "m" * 101},
        {"type": "track", "event": "e", "properties": {"a": {"b": math.nan}}},
        {"type": "track", "event": "e", "properties": {"text": "x" * 33_000}},
        good,
    )
    assert len(parsed.events) == 2
    assert [(one.index, one.field) for one in parsed.rejected] == [
        (1, "event"),
        (2, "type"),
        (3, ""),
        (4, "timestamp"),
        (5, "userId"),
        (6, "event"),
        (7, "messageId"),
        (8, "properties.a.b"),
        (9, ""),
    ]
    assert all(len(one.reason) > 10 for one in parsed.rejected)


def test_a_batch_without_anything_good_is_refused_with_the_first_reason() -> None:
    with pytest.raises(RequestRefused) as caught:
        batch({"type": "track"}).check()
    assert (caught.value.status, caught.value.field) == (400, "event")
    assert "name what happened" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"batch": 5}',
        b'{"batch": []}',
        b'{"batch": [1',
        b'{"batch": [{"type":"track","event":"e"}]} {}',
        b"\xff\xfe",
        DEEP,
    ],
)
def test_a_body_that_is_no_batch_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        segment.parse_batch(body, encoder()).check()
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b'{"event":"e","properties":{"a":"\\ud8"}}',
        b'{"event":"e","properties":{"a":1e999}}',
        b'{"event":"e","properties":{"a":NaN}}',
        b'{"event":"e","properties":{"a":' + b"9" * 5_000 + b"}}",
        b'{"event":"e","properties":[1]}',
        b'{"event":"e","userId":true}',
        b'{"event":"e","timestamp":"9999-12-31T23:59:59-12:00"}',
        b'{"event":"e","timestamp":1e300}',
        b'{"event":"e","timestamp":"yesterday"}',
        b'{"event":"' + b"e" * 201 + b'"}',
        b'{"event":""}',
        b'{"event":null}',
        DEEP,
        b'{"x":' + b"[" * 9_000 + b"]" * 9_000 + b"}",
    ],
)
def test_an_event_that_breaks_a_rule_is_refused_and_not_a_fault(body: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        segment.parse_call("track", body, encoder())
    assert caught.value.status == 400
    assert caught.value.message


def test_the_slow_way_and_the_quick_way_read_a_batch_alike() -> None:
    item = {
        "type": "track",
        "event": "e",
        "userId": "u",
        "messageId": "m",
        "timestamp": "2025-01-01T00:00:00Z",
        "properties": {"a": [1, {"b": None}]},
    }
    quick = decoded(batch(item))
    filler = {"type": "page", "properties": {"text": "x" * 30_000}}
    slow = decoded(batch(item, filler, filler))
    assert slow[0] == quick[0]


def test_an_event_counts_the_bytes_that_segment_allows() -> None:
    with_text = {"type": "track", "event": "e", "properties": {"text": ""}}
    room = 32 * 1024 - len(msgspec.json.encode(with_text))
    largest = {**with_text, "properties": {"text": "x" * room}}
    larger = {**with_text, "properties": {"text": "x" * (room + 1)}}
    body = msgspec.json.encode({"batch": [largest, larger]})
    found = segment.parse_batch(body, encoder())
    assert len(found.events) == 1
    assert found.rejected == [RejectedEvent(1, "", "takes 32769 bytes; at most 32768 are allowed")]


# Bots


def test_a_bot_counts_under_a_type_of_its_own_and_cut_where_that_is_too_long() -> None:
    assert BotDetector().mark_type("page_view", GOOGLEBOT) == "bot:page_view"
    assert BotDetector().mark_type("page_view", CHROME) == "page_view"
    assert BotDetector().mark_type("page_view", "") == "page_view"
    assert BotDetector().mark_type("bot:page_view", GOOGLEBOT) == "bot:page_view"
    assert BotDetector().mark_type("e" * 200, GOOGLEBOT) == "bot:" + "e" * 196


def test_a_request_with_many_user_agents_does_not_hold_up_the_others() -> None:
    bots = BotDetector()
    shown = {bots.mark_type("e", f"Googlebot/{number}") for number in range(200)}
    assert shown == {"bot:e"}
    assert bots.mark_type("e", "Googlebot/one more") == "e"
    assert bots.mark_type("e", "Googlebot/7") == "bot:e"
    assert BotDetector().mark_type("e", "Googlebot/one more") == "bot:e"


def test_a_batch_of_more_than_a_message_holds_is_not_even_read() -> None:
    body = b'{"batch": [' + b"1," * 200_000 + b"1]}"
    with pytest.raises(RequestRefused) as caught:
        segment.parse_batch(body, encoder())
    assert (caught.value.status, caught.value.code) == (413, "too_many_events")


def test_a_server_that_sends_for_others_is_no_bot() -> None:
    assert track({}, user_agent="python-requests/2.32")["event_type"] == "e"
    assert track({}, user_agent="python-requests/2.32", is_browser=True)["event_type"] == "bot:e"
    told = {"context": {"userAgent": GOOGLEBOT}}
    assert track(told, user_agent="analytics-node")["event_type"] == "bot:e"


# Pseudonyms


def test_a_pseudonym_is_the_same_for_the_same_user_and_cannot_be_read_back() -> None:
    secret = "s" * 32
    shown = track({"userId": "ada@example.com"}, user_id_secret=secret)["user_id"]
    assert shown == pseudonym(secret, "ada@example.com") != pseudonym("t" * 32, "ada@example.com")
    assert len(shown) == 64
    assert "ada" not in shown


def test_an_alias_names_no_user_either() -> None:
    body = b'{"userId":"ada","previousId":"anon"}'
    event = decoded(segment.parse_call("alias", body, encoder(user_id_secret="s" * 32)))[0]
    assert event["properties"] == {"previous_id": pseudonym("s" * 32, "anon")}


# Plausible, our own, a pixel


def test_a_pageview_of_plausible_counts_as_page_view_with_path_and_host() -> None:
    body = {
        "name": "pageview",
        "url": "https://shop.example:8443/a/b?secret=1#c",
        "domain": "shop.example",
        "referrer": "https://search.example/",
        "props": {"plan": "free"},
    }
    event = decoded(plausible.parse_event(json.dumps(body).encode(), encoder()))[0]
    assert event["event_type"] == "page_view"
    assert event["properties"] == {
        "plan": "free",
        "path": "/a/b",
        "host": "shop.example",
        "domain": "shop.example",
        "referrer": "https://search.example/",
    }
    assert "user_id" not in event


def test_the_short_names_of_plausibles_script_are_understood() -> None:
    body = b'{"n":"signup","u":"https://x.example/","d":"x.example","r":null,"p":"{\\"a\\":1}"}'
    event = decoded(plausible.parse_event(body, encoder()))[0]
    assert event["event_type"] == "signup"
    assert event["properties"]["a"] == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": "https://x.example"}, "name"),
        ({"name": "pageview"}, "url"),
        ({"name": "pageview", "url": "https://x.example", "props": [1]}, "props"),
        ({"name": "\x00", "url": "https://x.example"}, "name"),
        ({"name": "a", "url": "https://x.example", "user_id": "u" * 257}, "user_id"),
    ],
)
def test_a_bad_event_of_plausible_names_the_field(body: object, field: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        plausible.parse_event(json.dumps(body).encode(), encoder())
    assert caught.value.field == field


def test_an_address_that_is_none_gives_no_path() -> None:
    body = b'{"name":"pageview","url":"http://[broken"}'
    assert (
        "properties" not in decoded(plausible.parse_event(body, encoder()))[0]
        or "path" not in (decoded(plausible.parse_event(body, encoder()))[0]["properties"])
    )


def test_a_plain_event_has_our_own_fields_and_no_others() -> None:
    fields = {
        "event_type": "sale",
        "user_id": "u1",
        "properties": {"total": 5},
        "timestamp": "2025-01-01T00:00:00Z",
        "event_id": "o1",
    }
    event = decoded(single_events.parse_plain(json.dumps(fields).encode(), encoder()))[0]
    assert event == fields
    with pytest.raises(RequestRefused, match="unknown field") as caught:
        single_events.parse_plain(b'{"event_type":"a","user":"u1"}', encoder())
    assert caught.value.field == "user"


def test_a_click_needs_no_type() -> None:
    found = decoded(single_events.parse_plain(b'{"properties":{"id":"buy"}}', encoder(), "click"))
    assert found[0]["event_type"] == "click"
    with pytest.raises(RequestRefused, match="is required"):
        single_events.parse_plain(b"{}", encoder())


def test_a_pixel_has_the_fields_as_parameters_and_the_page_that_shows_it() -> None:
    query = b"key=wk&user_id=u1&event_id=m1&campaign=spring%20sale"
    found = decoded(single_events.parse_pixel(query, encoder(referrer="https://x.example/a?b=c")))[
        0
    ]
    assert found["event_type"] == "page_view"
    assert (found["user_id"], found["event_id"]) == ("u1", "m1")
    assert found["properties"] == {"campaign": "spring sale", "path": "/a", "host": "x.example"}
