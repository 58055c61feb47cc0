"""What a page view is given: hosts of referrers, campaigns, devices, from whatever is sent."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.contract import MAX_PROPERTIES_BYTES, PAGE_PROPERTIES
from pipeline.web.collector.formats import plausible, posthog, segment, single_events
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents
from pipeline.web.collector.visits.context import Sender
from pipeline.web.collector.visits.page_urls import find_campaign, find_host
from pipeline.web.collector.visits.request_visits import RequestVisits

NOW = datetime(2025, 3, 14, 15, 9, 26, tzinfo=UTC)
CHROME = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 "
    "Safari/537.36"
)
PHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) Version/18.5 Mobile/15E148 Safari/604.1"
)
OF_CHROME = {"browser": "Chrome", "system": "Linux", "device": "desktop"}
OF_PHONE = {"browser": "Safari", "system": "iOS", "device": "mobile"}
UTM = {"utm_source": "news", "utm_campaign": "may"}


def encoder(*names: str, is_browser: bool = True, agent: str = CHROME) -> EventEncoder:
    """With these page properties, or all."""
    found = EventEncoder("", agent, is_browser, "https://shop.example/list?utm_source=ref", NOW)
    sender = Sender(
        site="shop",
        address="192.0.2.1",
        user_agent=agent,
        is_browser=is_browser,
        host="shop.example" if is_browser else "",
        is_server=not is_browser,
        is_private=False,
        received_at=NOW,
    )
    found.visits = RequestVisits(frozenset(names or PAGE_PROPERTIES), None, sender)
    return found


def only(parsed: ParsedEvents | Any) -> dict[str, Any]:
    if not isinstance(parsed, ParsedEvents):
        parsed = next(found for found in parsed if found is not None)
    [event] = parsed.events
    found: dict[str, Any] = json.loads(event)
    return found


def segment_call(call: dict[str, Any], **how: Any) -> dict[str, Any]:
    found = only(segment.parse_batch(json.dumps({"batch": [call]}).encode(), encoder(**how)))
    return dict(found.get("properties") or {})


# Hosts and campaigns


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://www.Google.com/search?q=x", "google.com"),
        ("http://user:secret@news.example.:8080/a", "news.example"),
        ("android-app://com.google.android.gm/", "com.google.android.gm"),
        ("https://bücher.example/", "bücher.example"),
        ("http://[2001:db8::1]:80/", "2001:db8::1"),
        ("http://localhost/", "localhost"),
        ("  https://a.example  ", "a.example"),
        ("http://[::1", ""),
        ("https://", ""),
        ("https:///path", ""),
        ("file:///etc/passwd", ""),
        ("javascript://a.example/%0aalert(1)", ""),
        ("chrome-extension://abcdef/", ""),
        ("about:blank", ""),
        ("$direct", ""),
        ("a.example/path", ""),
        ("https://<script>alert(1)</script>/", ""),
        ("https://a b.example/", ""),
        (f"https://{'a' * 64}.example/", ""),
        (f"https://{'a.' * 200}example/", ""),
        ("https://a.example\x00.evil/", ""),
        ("https://ex\ud800ample/", ""),
        (None, ""),
        (7, ""),
        ({"a": 1}, ""),
    ],
)
def test_the_host_of_an_address_is_found_or_there_is_none(url: object, host: str) -> None:
    assert find_host(url) == host


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("?utm_source=news&utm_campaign=may", UTM),
        ("https://a.example/?x=1&UTM_Source=news&amp;utm_campaign=may#utm_term=no", UTM),
        ("utm_source=a+b%20c", {"utm_source": "a b c"}),
        ("utm_source=first&utm_source=second", {"utm_source": "first"}),
        ("utm_source=&utm_medium=%20", {}),
        ("utm_source=%zz%ff", {"utm_source": "%zz\ufffd"}),
        ("utm_source=a%00b%0ac", {"utm_source": "abc"}),
        ("utm_id=5&utm_sources=x", {}),
        (f"utm_source={'x' * 9_000}", {"utm_source": "x" * 200}),
        ("&" * 500 + "utm_source=late", {}),
        ("", {}),
        (None, {}),
        (5, {}),
    ],
)
def test_the_campaign_of_a_query_is_found_or_there_is_none(
    query: object, found: dict[str, str]
) -> None:
    assert find_campaign(query) == found


@given(st.text() | st.text(alphabet="utm_source=&%?#;:/@[]0aF", max_size=200))
def test_any_text_may_stand_where_an_address_is_wanted(text: str) -> None:
    for value in (text, f"https://{text}", f"https://a.example/?utm_source={text}"):
        assert len(find_host(value)) <= 253
        assert all(len(found) <= 200 for found in find_campaign(value).values())


def test_the_worst_address_takes_little_time() -> None:
    began_s = time.thread_time()
    for text in ("a." * 16_000, "[" * 32_000, "utm_" * 8_000, "&utm_source=%" * 2_500):
        find_host(f"https://{text}")
        find_campaign(f"https://a.example/?utm_source={text}")
    assert time.thread_time() - began_s < 0.5


# Formats


def test_the_browser_script_names_its_campaign() -> None:
    call = {
        "type": "track",
        "event": "page_view",
        "properties": {"path": "/a", "referrer": "https://www.google.com/"},
        "context": {"campaign": {"source": "news", "campaign": "may"}},
    }
    assert segment_call(call) == {
        "path": "/a",
        "referrer": "https://www.google.com/",
        "referrer_host": "google.com",
        **UTM,
        **OF_CHROME,
    }


def test_a_page_call_of_segment_is_described_by_its_context() -> None:
    page = {
        "url": "https://www.shop.example/a?utm_source=no",
        "search": "?utm_source=no",
        "referrer": "https://shop.example/",
    }
    context = {"page": page, "campaign": {"name": "may", "source": "news"}, "userAgent": PHONE}
    found = segment_call({"type": "page", "context": context}, is_browser=False, agent="curl/8")
    assert found == {**UTM, **OF_PHONE}


def test_the_query_of_the_page_names_the_campaign_where_nothing_else_does() -> None:
    page = {"search": "?utm_source=news&utm_campaign=may"}
    assert segment_call({"type": "page", "context": {"page": page}}) == {**UTM, **OF_CHROME}
    properties = {"url": "https://a.example/?utm_source=news&utm_campaign=may"}
    found = segment_call({"type": "page", "properties": properties})
    assert found == {**properties, **UTM, **OF_CHROME}


def test_a_servers_user_agent_is_no_visitors() -> None:
    assert segment_call({"type": "page"}, is_browser=False) == {}


def test_what_the_sender_gives_itself_stays() -> None:
    own = {"browser": None, "device": "fridge", "utm_source": "own", "referrer_host": ""}
    call = {
        "type": "page",
        "properties": {**own, "referrer": "https://a.example"},
        "context": {"campaign": {"source": "news", "name": "may"}},
    }
    found = segment_call(call)
    assert {name: found[name] for name in own} == own
    assert found["utm_campaign"] == "may"
    assert found["system"] == "Linux"


def test_only_the_properties_in_the_setting_are_added_and_to_page_views_only() -> None:
    body = json.dumps({"batch": [{"type": "page"}, {"type": "track", "event": "sale"}]}).encode()
    parsed = segment.parse_batch(body, encoder("browser"))
    found = [json.loads(event).get("properties") for event in parsed.events]
    assert found == [{"browser": "Chrome"}, None]


def test_page_views_of_bots_are_given_nothing() -> None:
    bot = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    body = json.dumps({"type": "page"}).encode()
    found = only(segment.parse_call("page", body, encoder(agent=bot)))
    assert found["event_type"] == "bot:page_view"
    assert "properties" not in found


def test_plausibles_address_names_campaign_and_host() -> None:
    body = json.dumps(
        {
            "n": "pageview",
            "u": "https://shop.example/a?utm_source=news&utm_campaign=may",
            "r": "https://www.shop.example/",
            "d": "shop.example",
        }
    ).encode()
    found = only(plausible.parse_event(body, encoder(is_browser=False, agent=PHONE)))["properties"]
    assert {**UTM, **OF_PHONE}.items() <= found.items()
    assert "referrer_host" not in found


def test_posthogs_own_properties_are_read() -> None:
    properties = {
        "$current_url": "https://shop.example/a",
        "$referrer": "$direct",
        "$referring_domain": "www.google.com",
        "$raw_user_agent": PHONE,
        "utm_source": "news",
    }
    body = json.dumps({"event": "$pageview", "properties": properties}).encode()
    found = only(posthog.parse_events(body, encoder(is_browser=False)))["properties"]
    assert found == {**properties, "path": "/a", "referrer_host": "google.com", **OF_PHONE}


def test_a_pixels_page_is_that_of_its_referer() -> None:
    found = only(single_events.parse_pixel(b"utm_medium=mail", encoder()))["properties"]
    assert found == {
        "utm_medium": "mail",
        "utm_source": "ref",
        "path": "/list",
        "host": "shop.example",
        **OF_CHROME,
    }


def test_our_own_format_reads_the_properties() -> None:
    properties = {"url": "https://shop.example/?utm_source=news", "referrer": "https://b.example"}
    body = json.dumps({"event_type": "page_view", "properties": properties}).encode()
    found = only(single_events.parse_plain(body, encoder()))["properties"]
    added = {"utm_source": "news", "referrer_host": "b.example"}
    assert found == {**properties, **added, **OF_CHROME}


@pytest.mark.parametrize(
    "context",
    [
        {"page": [], "campaign": [], "userAgent": []},
        {"page": {"url": 5, "referrer": {}, "search": []}, "campaign": {"source": {"a": 1}}},
        {"page": {"url": "http://[", "referrer": "http://["}, "campaign": {"source": True}},
        {"campaign": {"source": "\x00\n ", "medium": 10**40}},
    ],
)
def test_a_senseless_context_adds_nothing_and_refuses_nothing(context: dict[str, Any]) -> None:
    assert segment_call({"type": "page", "context": context}, is_browser=False) == {}


def test_nothing_is_added_where_the_properties_would_be_too_large() -> None:
    room = MAX_PROPERTIES_BYTES - len('{"text":""}')
    body = json.dumps({"event_type": "page_view", "properties": {"text": "x" * room}}).encode()
    assert only(single_events.parse_plain(body, encoder()))["properties"].keys() == {"text"}
    body = json.dumps({"event_type": "page_view", "properties": {"text": "x" * 32_000}}).encode()
    found = only(single_events.parse_plain(body, encoder()))["properties"]
    assert found.keys() == {"text", *OF_CHROME}


def test_what_is_added_to_a_batch_is_bounded_so_that_it_fits_into_one_message() -> None:
    campaign = dict.fromkeys(("source", "medium", "name", "term", "content"), "é" * 300)
    items = [{"type": "page", "context": {"campaign": campaign}}] * 1_000
    parsed = segment.parse_batch(json.dumps({"batch": items}).encode(), encoder())
    parsed.check()
    assert len(parsed.events) == 1_000
