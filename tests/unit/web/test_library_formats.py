"""From what the libraries of RudderStack, PostHog and Plausible send to our events."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.event.pseudonyms import pseudonym
from pipeline.web.collector.formats import plausible, posthog, segment
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents
from pipeline.web.errors import RequestRefused

NOW = datetime(2025, 3, 14, 15, 9, 26, tzinfo=UTC)
SECRET = "s" * 32
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def encoder(secret: str = "") -> EventEncoder:
    return EventEncoder(
        secret, "posthog-python/7.9", is_browser=False, referrer="", received_at=NOW
    )


def call(call_type: str, fields: dict[str, Any]) -> dict[str, Any]:
    """The event of a call of Segment's or RudderStack's."""
    parsed = segment.parse_call(call_type, json.dumps(fields).encode(), encoder())
    return decode(parsed)


def capture(event: dict[str, Any], secret: str = "") -> dict[str, Any]:
    """The event of PostHog's, sent alone."""
    parsed = posthog.parse_events(json.dumps(event).encode(), encoder(secret))
    assert isinstance(parsed, ParsedEvents)
    return decode(parsed)


def view(fields: dict[str, Any]) -> dict[str, Any]:
    """The event of Plausible's."""
    return decode(plausible.parse_event(json.dumps(fields).encode(), encoder()))


def decode(parsed: ParsedEvents) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(parsed.events[0])
    return event


# RudderStack


def test_the_traits_of_an_identify_are_kept_in_either_place() -> None:
    context = {"traits": {"plan": "free", "seats": 2}, "library": {"name": "analytics-python"}}
    assert call("identify", {"userId": "u1", "context": context})["properties"] == {
        "plan": "free",
        "seats": 2,
    }
    both = call("identify", {"userId": "u1", "traits": {"plan": "pro"}, "context": context})
    assert both["properties"] == {"plan": "pro", "seats": 2}
    assert call("identify", {"traits": {"plan": "pro"}})["properties"] == {"plan": "pro"}


@pytest.mark.parametrize("traits", [None, [], 5, "x", {}])
def test_what_is_no_traits_is_none(traits: object) -> None:
    assert "properties" not in call("identify", {"userId": "u1", "context": {"traits": traits}})


@pytest.mark.parametrize("call_type", ["track", "page", "screen", "group", "alias"])
def test_the_traits_of_the_user_are_not_those_of_another_call(call_type: str) -> None:
    context = {"traits": {"email": "ada@example.com"}}
    fields = {"event": "sale", "userId": "u1", "context": context}
    assert "email" not in call(call_type, fields).get("properties", {})


def test_an_event_happened_at_its_original_timestamp() -> None:
    at, sent = "2025-03-14T14:08:26.000Z", "2025-03-14T14:09:26.000Z"
    event = call("track", {"event": "e", "originalTimestamp": at, "sentAt": sent})
    assert event["timestamp"] == "2025-03-14T15:08:26Z"
    first = call("track", {"event": "e", "timestamp": at, "originalTimestamp": sent})
    assert first["timestamp"] == "2025-03-14T14:08:26Z"


# PostHog


@pytest.mark.parametrize(
    ("event", "event_type", "properties"),
    [
        (
            {"event": "$pageview", "properties": {"$current_url": "https://a.example/b?c=1#d"}},
            "page_view",
            {"$current_url": "https://a.example/b?c=1#d", "path": "/b"},
        ),
        (
            {"event": "$pageview", "properties": {"$pathname": "/p", "$current_url": "x"}},
            "page_view",
            {"$pathname": "/p", "$current_url": "x", "path": "/p"},
        ),
        (
            {"event": "$screen", "properties": {"$screen_name": "Cart"}},
            "screen_view",
            {"$screen_name": "Cart", "name": "Cart"},
        ),
        ({"event": "$identify", "$set": {"plan": "pro"}}, "identify", {"plan": "pro"}),
        (
            {"event": "$set", "properties": {"$set": {"a": 1}, "$set_once": {"a": 0, "b": 2}}},
            "identify",
            {"a": 1, "b": 2},
        ),
        (
            {
                "event": "$groupidentify",
                "properties": {"$group_type": "org", "$group_key": "g1", "$group_set": {"s": 5}},
            },
            "group",
            {"s": 5, "group_id": "g1"},
        ),
        (
            {"event": "$create_alias", "properties": {"distinct_id": "a1", "alias": "u1"}},
            "alias",
            {"previous_id": "u1"},
        ),
        (
            {"event": "paid", "properties": {"plan": "pro"}, "$set": {"seats": 2}},
            "paid",
            {"plan": "pro", "$set": {"seats": 2}},
        ),
        ({"event": "$feature_flag_called"}, "$feature_flag_called", None),
    ],
)
def test_an_event_of_posthog_counts_under_our_name(
    event: dict[str, Any], event_type: str, properties: dict[str, Any] | None
) -> None:
    found = capture({"distinct_id": "u9", **event})
    assert (found["event_type"], found["user_id"]) == (event_type, "u9")
    assert found.get("properties") == properties


def test_neither_the_key_nor_the_user_becomes_a_property() -> None:
    properties = {"token": "wk_1_2", "api_key": "wk_1_2", "distinct_id": "ada", "plan": "pro"}
    found = capture({"event": "e", "properties": properties}, SECRET)
    assert found["properties"] == {"plan": "pro"}
    assert found["user_id"] == pseudonym(SECRET, "ada")
    alias = capture(
        {"event": "$create_alias", "distinct_id": "a", "properties": {"alias": "b"}}, SECRET
    )
    assert alias["properties"] == {"previous_id": pseudonym(SECRET, "b")}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        ({"api_key": "k", "batch": []}, "k"),
        ({"token": "k", "event": "e"}, "k"),
        ({"event": "e", "properties": {"token": "k"}}, "k"),
        ({"event": "e", "api_key": None, "properties": {"api_key": "k"}}, "k"),
        ({"event": "e"}, ""),
        ({"batch": [{"api_key": "k"}]}, ""),
    ],
)
def test_the_key_of_posthog_is_found_where_its_libraries_put_it(body: object, key: str) -> None:
    assert posthog.find_api_key(json.dumps(body).encode()) == key


def test_posthogs_wrong_clock_is_corrected_unless_it_forbids_that() -> None:
    event = {"event": "e", "timestamp": "2025-03-14T14:08:26Z", "sent_at": "2025-03-14T14:09:26Z"}
    assert capture(event)["timestamp"] == "2025-03-14T15:08:26Z"
    kept = capture({**event, "properties": {"$ignore_sent_at": True}})
    assert kept["timestamp"] == "2025-03-14T14:08:26Z"


def test_the_visitor_of_a_server_that_uses_posthog_may_be_a_bot() -> None:
    found = capture({"event": "$pageview", "properties": {"$raw_user_agent": GOOGLEBOT}})
    assert found["event_type"] == "bot:page_view"
    assert capture({"event": "$pageview"})["event_type"] == "page_view"


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b'{"event":5}', b'{"event":null}', b"{}"])
def test_what_is_no_event_of_posthog_is_refused(body: bytes) -> None:
    with pytest.raises(RequestRefused) as caught:
        parsed = posthog.parse_events(body, encoder())
        assert not isinstance(parsed, ParsedEvents)
        [*parsed][-1]
    assert caught.value.status == 400


# Plausible

PAGE = {"u": "https://shop.example/a?b=c#/d?token=x", "d": "shop.example"}


def test_engagement_is_time_on_page() -> None:
    found = view({"n": "engagement", "e": 12_345, "sd": 66, "p": {"plan": "free"}, **PAGE, "v": 36})
    assert found["event_type"] == "time_on_page"
    assert found["properties"] == {
        "plan": "free",
        "seconds": 12,
        "scroll_depth": 66,
        "path": "/a",
        "host": "shop.example",
        "domain": "shop.example",
    }
    assert view({"n": "pageleave", "sd": 20, **PAGE})["properties"]["scroll_depth"] == 20


@pytest.mark.parametrize(
    "fields",
    [{}, {"e": "x", "sd": 255}, {"e": -1, "sd": -1}, {"e": None, "sd": None}, {"e": 1e300}],
)
def test_engagement_that_is_not_known_is_left_out(fields: dict[str, Any]) -> None:
    properties = view({"n": "engagement", **PAGE, **fields})["properties"]
    assert not {"seconds", "scroll_depth"} & properties.keys()


def test_seconds_and_scroll_depth_of_other_events_are_none() -> None:
    assert view({"n": "pageview", "e": 5_000, "sd": 5, **PAGE})["properties"].keys() == {
        "path",
        "host",
        "domain",
    }


@pytest.mark.parametrize(
    ("fields", "path"),
    [({"h": 1}, "/a#/d"), ({"hashMode": True}, "/a#/d"), ({"h": 0}, "/a"), ({}, "/a")],
)
def test_the_path_of_an_application_that_routes_by_hash_has_the_hash(
    fields: dict[str, Any], path: str
) -> None:
    assert view({"n": "pageview", **PAGE, **fields})["properties"]["path"] == path
    token = {"n": "pageview", "u": "https://a.example/#access_token=x", **fields}
    assert view(token)["properties"]["path"] == "/"


@pytest.mark.parametrize(
    "given", [{"amount": 15.99, "currency": "USD"}, '{"amount":15.99,"currency":"USD"}']
)
@pytest.mark.parametrize("name", ["$", "revenue"])
def test_revenue_is_kept(name: str, given: object) -> None:
    properties = view({"n": "Purchase", **PAGE, name: given})["properties"]
    assert (properties["revenue"], properties["currency"]) == (15.99, "USD")


@pytest.mark.parametrize("name", ["props", "p", "meta", "m"])
def test_props_have_several_names(name: str) -> None:
    assert view({"n": "a", **PAGE, name: '{"plan":"pro"}'})["properties"]["plan"] == "pro"
