"""Bodies that the usual decoder refuses: the good events count, and the others are mended or named
by their place."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.web.collector.formats import plausible, segment, single_events
from pipeline.web.collector.formats.parsed_events import ParsedEvents
from pipeline.web.collector.formats.tolerant import split_batch
from pipeline.web.errors import RequestRefused
from tests.unit.web.test_event_formats import decoded, encoder, track

GOOD = b'{"type":"track","event":"good","properties":{"a":"}],[{\\"","b":[{},[]]}}'
MENDED = [
    (rb'"a\ud800b"', "a\ufffdb"),
    (rb'"\udfff\ud800"', "\ufffd\ufffd"),
    (rb'"\ud83d\ude00"', "\U0001f600"),
    (b'"caf\xe9"', "caf\xe9"),
    (b'"\xe8\xe9"', "\xe8\xe9"),
    (b'"caf\xc3\xa9 \xff"', "caf\xe9 \ufffd"),
    (b'"cut \xe2\x82"', "cut \ufffd"),
    (b'"a\nb\tc"', "a\nb\tc"),
    (rb'"a\u0000b\u001f"', "a\x00b\x1f"),
    (b"1" + b"0" * 400, 10**400),
]
HOPELESS = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"9" * 5_000,
    rb'"a\qb"',
    rb'"\u12"',
    rb'"\x41"',
    b"[" * 3_000 + b"]" * 3_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b"[1,]",
    b"01",
    b"'text'",
    b"undefined",
    b"{a:1}",
    b"[1}",
]


def event(value: bytes) -> bytes:
    return b'{"type":"track","event":"odd","properties":{"v":' + value + b"}}"


def batch(*items: bytes, end: bytes = b"]}") -> ParsedEvents:
    body = b'{"writeKey":"wk","sentAt":"2025-03-14T15:09:26Z","batch":[' + b",".join(items) + end
    assert segment.find_write_key(body) == "wk"
    return segment.parse_batch(body, encoder())


def types(parsed: ParsedEvents) -> list[str]:
    return [one["event_type"] for one in decoded(parsed)]


@pytest.mark.parametrize(("value", "kept"), MENDED, ids=ascii)
def test_what_can_be_mended_counts_beside_the_others(value: bytes, kept: object) -> None:
    parsed = batch(GOOD, event(value), GOOD)
    assert not parsed.rejected
    assert types(parsed) == ["good", "odd", "good"]
    assert decoded(parsed)[1]["properties"] == {"v": kept}
    assert (
        decoded(segment.parse_call("track", event(value), encoder()))[0]["properties"]["v"] == kept
    )


@pytest.mark.parametrize("value", HOPELESS, ids=lambda value: ascii(value[:20]))
def test_what_cannot_be_mended_is_named_by_its_place_and_the_others_count(value: bytes) -> None:
    parsed = batch(GOOD, event(value), GOOD)
    assert types(parsed) == ["good", "good"]
    (rejected,) = parsed.rejected
    assert rejected.index == 1
    assert len(rejected.reason) > 10
    with pytest.raises(RequestRefused):
        segment.parse_call("track", event(value), encoder())


@pytest.mark.parametrize(
    "cut", [b'{"type":"track","event":"odd', b'{"type":"track","properties":{"a":[1', b'{"a', b"{"]
)
def test_an_event_that_is_cut_off_at_the_end_does_not_take_the_others_with_it(cut: bytes) -> None:
    parsed = batch(GOOD, GOOD, cut, end=b"")
    assert types(parsed) == ["good", "good"]
    assert [one.index for one in parsed.rejected] == [2]


def test_elements_that_are_no_objects_keep_their_place() -> None:
    parsed = batch(b"1", b'"a,]b"', b"NaN", GOOD, b"null", event(b"NaN"), b"[]", GOOD)
    assert types(parsed) == ["good", "good"]
    assert [one.index for one in parsed.rejected] == [0, 1, 2, 4, 5, 6]


def test_of_a_name_that_comes_twice_the_last_has_the_say() -> None:
    parsed = batch(
        b'{"type":"track","event":"a","event":"b","properties":{"v":1,"v":2,"w":"\\ud800"}}'
    )
    assert decoded(parsed)[0]["properties"] == {"v": 2, "w": "\ufffd"}
    assert types(parsed) == ["b"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_a_body_in_unicode_of_another_kind_is_read(encoding: str) -> None:
    body = '{"writeKey":"wk","batch":[{"type":"track","event":"é"}]}'.encode(encoding)
    assert segment.find_write_key(body) == "wk"
    assert types(segment.parse_batch(body, encoder())) == ["é"]
    assert decoded(single_events.parse_plain('{"event_type":"é"}'.encode(encoding), encoder()))


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"batch":[{"writeKey":"inner","v":NaN}],"writeKey":"outer"}', "outer"),
        (b'{"writeKey":"outer","batch":[{"writeKey":"inner","v":NaN}]}', "outer"),
        (b'{"batch":[{"v":NaN,"t":"\\"writeKey\\":\\"text\\""}],"writeKey" : "outer"}', "outer"),
        (b'{"event":"e","properties":{"v":NaN},"writeKey":"outer"}', "outer"),
        (b'{"event":"e","properties":{"v":NaN}}', ""),
        (b'{"writeKey":5,"v":NaN}', "5"),
    ],
)
def test_the_key_of_a_broken_body_is_found(body: bytes, key: str) -> None:
    assert segment.find_write_key(body) == key


@pytest.mark.parametrize("name", ["properties", "traits", "context", "integrations"])
def test_an_empty_array_of_php_is_an_object_without_members(name: str) -> None:
    body = json.dumps({"event": "e", name: []}).encode()
    found = decoded(segment.parse_call("track", body, encoder()))[0]
    assert found["event_type"] == "e"
    assert not found.get("properties")
    for call in ("identify", "page"):
        assert decoded(segment.parse_call(call, body, encoder()))


@pytest.mark.parametrize("empty", [[], None, {}, "[]", "null", "{}"])
def test_an_empty_array_is_an_object_in_our_own_and_plausibles_format_too(empty: Any) -> None:
    body = json.dumps({"name": "a", "url": "/", "props": empty}).encode()
    assert decoded(plausible.parse_event(body, encoder()))[0]["event_type"] == "a"
    if not isinstance(empty, str):
        plain = json.dumps({"event_type": "a", "properties": empty}).encode()
        assert not decoded(single_events.parse_plain(plain, encoder()))[0].get("properties")


@pytest.mark.parametrize("value", [[1], "text", 5, True])
def test_an_array_with_members_is_no_object(value: object) -> None:
    with pytest.raises(RequestRefused) as caught:
        track({"properties": value})
    assert caught.value.field == "properties"


@pytest.mark.parametrize("secret", ["", "s" * 32])
def test_a_whole_number_is_a_user_in_every_format(secret: str) -> None:
    known = {"user_id_secret": secret}
    plain = decoded(single_events.parse_plain(b'{"event_type":"a","user_id":42}', encoder(**known)))
    text = decoded(
        single_events.parse_plain(b'{"event_type":"a","user_id":"42"}', encoder(**known))
    )
    assert plain[0]["user_id"] == text[0]["user_id"] == track({"userId": 42}, **known)["user_id"]
    for bad in (b"true", b"1.5", b"[]"):
        with pytest.raises(RequestRefused) as caught:
            single_events.parse_plain(
                b'{"event_type":"a","user_id":' + bad + b"}", encoder(**known)
            )
        assert caught.value.field == "user_id"


@pytest.mark.parametrize("blank", ["", " ", "\x00", "\n\t"])
def test_a_user_of_whom_nothing_can_be_seen_is_none(blank: str) -> None:
    assert "user_id" not in track({"userId": blank})
    assert track({"userId": blank, "anonymousId": "a"})["user_id"] == "a"


def test_names_are_cleaned_and_values_are_kept() -> None:
    found = track(
        {"event": " Signed\x00 Up\n", "userId": "u\x001", "properties": {"a\x00": "\x00"}}
    )
    assert (found["event_type"], found["user_id"]) == ("Signed Up", "u1")
    assert found["properties"] == {"a": "\x00"}


# Times


@pytest.mark.parametrize(
    "at",
    [
        *["2016-07-18 17:20:30 +0000 UTC", "2016-07-18 10:20:30 -0700", 1468862430000],
        *["1468862430", "Mon, 18 Jul 2016 17:20:30 GMT", "2016-07-18T17:20:30,000Z", 1468862430],
        "Mon Jul 18 2016 17:20:30 GMT+0000 (GMT)",
    ],
)
def test_a_time_may_be_written_in_many_ways(at: object) -> None:
    expected = "2016-07-18T17:20:30Z"
    assert track({"timestamp": at})["timestamp"] == expected
    sent = json.dumps({"event_type": "a", "timestamp": at}).encode()
    assert decoded(single_events.parse_plain(sent, encoder()))[0]["timestamp"] == expected


@pytest.mark.parametrize(
    "sent_at",
    [
        *["1970-01-01T00:00:00Z", "0001-01-01T00:00:00Z", 0, "0001-01-01 00:00:00 +0000 UTC"],
        *["9999-12-31T23:59:59Z", 1e300, -1, "yesterday", "", True, {}, []],
    ],
)
def test_a_sent_at_that_cannot_be_is_ignored(sent_at: object) -> None:
    call = {"timestamp": "2025-03-14T15:00:00Z", "sentAt": sent_at}
    assert track(call)["timestamp"] == "2025-03-14T15:00:00Z"
    body = json.dumps({"batch": [{"type": "track", "event": "e", **call}], "sentAt": sent_at})
    found = decoded(segment.parse_batch(body.encode(), encoder()))
    assert found[0]["timestamp"] == "2025-03-14T15:00:00Z"


def test_a_clock_that_was_never_set_is_corrected_where_it_made_both_times() -> None:
    call = {"timestamp": "1970-01-01T00:10:00Z", "sentAt": "1970-01-01T00:11:00Z"}
    assert track(call)["timestamp"] == "2025-03-14T15:08:26Z"


# Splitting


@pytest.mark.parametrize(
    "unit",
    [b"[", b"[]", b'"', b'\\"', b"\\", b"{},", b",", b"1,", b'"",', b'"batch":[', b'"a":1,', b"}"],
)
def test_a_hostile_body_is_split_in_short_steps_or_refused(unit: bytes) -> None:
    for begin in (b'{"batch":[', b"{"):
        body = begin + unit * (500 * 1024 // len(unit))
        try:
            *pauses, found = split_batch(body, 1_000)
        except ValueError:
            continue
        assert found is not None
        assert len(found.batch) <= 2_000
        assert set(pauses) <= {None}


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(json_values, max_size=6), st.booleans(), st.sampled_from([None, 0, 1]))
def test_any_batch_is_split_into_its_elements(
    items: list[Any], ascii_only: bool, indent: int | None
) -> None:
    whole = {"a": [{"batch": [1]}], "batch": items, "sentAt": "2025-01-01", "b": "x"}
    body = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode(errors="replace")
    *_, found = split_batch(body, 1_000)
    assert found is not None
    expected = json.loads(body)["batch"]
    assert [json.loads(one) for one in found.batch] == expected
    assert (found.sent_at, found.is_found) == ("2025-01-01", True)


# A pixel


def pixel(query: bytes) -> dict[str, Any]:
    return decoded(single_events.parse_pixel(query, encoder()))[0]


@pytest.mark.parametrize(
    ("query", "value"),
    [
        *[(b"v=caf%E9", "café"), (b"v=caf%C3%A9", "café"), (b"v=caf\xe9", "café")],
        *[
            (b"v=%u20AC%E9", "€é"),
            (b"v=%ff%c3%a9", "\ufffdé"),
            (b"v=100%", "100%"),
            (b"v=%zz", "%zz"),
        ],
        *[
            (b"v=a+b", "a b"),
            (b"v=%00", "\x00"),
            (b"v=%ED%A0%80", "\ufffd\ufffd\ufffd"),
            (b"v", ""),
        ],
    ],
)
def test_any_query_of_a_pixel_is_read(query: bytes, value: str) -> None:
    assert pixel(query)["properties"] == {"v": value}


@pytest.mark.parametrize(
    "at",
    [
        *[b"1468862430", b"1468862430000", b"2016-07-18T19:20:30+02:00", b"2016-07-18T17:20:30Z"],
        *[b"2016-07-18T19:20:30%2B02:00", b"2016-07-18+19:20:30++0200", b"2016-07-18T17:20:30"],
        *[b"Mon,+18+Jul+2016+17:20:30+GMT", b"2016-07-18%2019:20:30%20+0200"],
    ],
)
def test_a_pixels_time_is_read_with_a_raw_plus_too(at: bytes) -> None:
    assert pixel(b"timestamp=" + at)["timestamp"] == "2016-07-18T17:20:30Z"


@pytest.mark.parametrize("at", [b"", b"now", b"[timestamp]", b"99999999999", b"%E9", b"3000-01-01"])
def test_a_pixel_without_a_time_that_can_be_counts_when_it_comes(at: bytes) -> None:
    assert pixel(b"timestamp=" + at + b"&v=1")["properties"] == {"v": "1"}


def test_a_pixel_has_a_type_and_a_bounded_number_of_parameters_whatever_it_says() -> None:
    assert pixel(b"event_type=")["event_type"] == "page_view"
    assert len(pixel(b"&".join(b"p%d=1" % n for n in range(500)))["properties"]) == 100
