"""Lines of log files and of ndjson, to the event objects of the wire contract."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.cli.files.log_formats import build_combined_parser, parse_ndjson
from pipeline.errors import RejectedLine

ACCESS_LOG = Path(__file__).parents[4] / "shared" / "data" / "access.log.gz"

LINE = (
    '203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 2026 '
    '"http://example.org/" "Mozilla/5.0 (X11)"'
)


def test_a_combined_line_becomes_an_event_of_the_address_at_the_time_of_the_line() -> None:
    assert build_combined_parser("page_view")(LINE) == {
        "event_type": "page_view",
        "user_id": "203.0.113.9",
        "timestamp": "2015-05-17T10:05:03+00:00",
        "properties": {
            "path": "/a?b=c",
            "method": "GET",
            "status": 200,
            "bytes": 2026,
            "referrer": "http://example.org/",
            "agent": "Mozilla/5.0 (X11)",
        },
    }


def test_the_time_keeps_the_zone_that_the_server_logged() -> None:
    event = build_combined_parser("page_view")(LINE.replace("10:05:03 +0000", "23:30:00 -0230"))

    assert event["timestamp"] == "2015-05-17T23:30:00-02:30"


def test_a_leap_second_is_the_second_after_it() -> None:
    event = build_combined_parser("page_view")(LINE.replace("10:05:03", "23:59:60"))

    assert event["timestamp"] == "2015-05-18T00:00:00+00:00"


@pytest.mark.parametrize(
    "address", ["::1", "2001:db8::ff00:42:8329", "fe80::1%eth0", "host.example"]
)
def test_an_ipv6_address_or_a_host_name_is_the_user(address: str) -> None:
    assert (
        build_combined_parser("page_view")(LINE.replace("203.0.113.9", address))["user_id"]
        == address
    )


def test_a_user_name_with_spaces_is_passed_over() -> None:
    event = build_combined_parser("page_view")(LINE.replace("- - [", "- Ada Lovelace [", 1))

    assert event["properties"]["path"] == "/a?b=c"


def test_escaped_quotes_and_backslashes_are_unescaped() -> None:
    line = LINE.replace("Mozilla/5.0 (X11)", r"say \"hi\" C:\\dir")

    assert build_combined_parser("page_view")(line)["properties"]["agent"] == r'say "hi" C:\dir'


def test_a_field_without_a_value_is_no_property_and_a_size_of_dash_is_zero() -> None:
    line = '203.0.113.9 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 304 - "-" "-"'

    assert build_combined_parser("page_view")(line)["properties"] == {
        "path": "/",
        "method": "GET",
        "status": 304,
        "bytes": 0,
    }


@pytest.mark.parametrize("request_line", ["-", "", r"\x16\x03\x01", "GET"])
def test_a_request_without_a_second_word_is_an_event_without_a_path(request_line: str) -> None:
    event = build_combined_parser("page_view")(LINE.replace("GET /a?b=c HTTP/1.1", request_line))

    assert set(event["properties"]) == {"status", "bytes", "referrer", "agent"}


def test_a_request_without_a_protocol_has_its_path() -> None:
    event = build_combined_parser("page_view")(LINE.replace("GET /a?b=c HTTP/1.1", "GET /old"))

    assert event["properties"]["path"] == "/old"


def test_fields_that_a_server_appends_are_passed_over() -> None:
    event = build_combined_parser("page_view")(LINE + ' 0.003 "198.51.100.1"')

    assert event["properties"]["agent"] == "Mozilla/5.0 (X11)"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (LINE[:-1], "a quote is not closed: '\"Mozilla/5.0 (X11)'"),
        (LINE.replace(' "http://example.org/" "Mozilla/5.0 (X11)"', ""), "it ends before"),
        (LINE.replace(" 200 ", " OK "), "status and size must be two numbers, not 'OK 2026'"),
        (LINE.replace("May", "Mai"), "'17/Mai/2015:10:05:03 +0000' is not of the form"),
        (LINE.replace("17/May", "31/Feb"), "does not exist"),
        (LINE.replace("+0000", "+9900"), "does not exist"),
        (LINE.replace("203.0.113.9", "example.org:80 203.0.113.9"), "'example.org:80'"),
        ("GET / HTTP/1.1", "does not begin with an address and [time]"),
        ("203.0.113.9 - - [17/May/2015:10:05:03 +0000] GET", 'no "request" after [time]'),
        (LINE.replace('" 200', '"  200'), "not separated by single spaces"),
    ],
)
def test_a_broken_line_is_rejected_with_what_is_wrong(line: str, reason: str) -> None:
    with pytest.raises(RejectedLine) as raised:
        build_combined_parser("page_view")(line)

    assert reason in str(raised.value)


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "line",
    [
        "1 - - " + " [" * 400_000,
        "1 - - " + ' [a] "' * 150_000,
        '1 - - [a] "' + '\\"' * 400_000,
        '1 - - [a] "x" 200 1 "' + '\\"' * 400_000 + '" "' + "\\" * 400_001,
    ],
    ids=["brackets", "times", "quotes", "backslashes"],
)
def test_a_hostile_line_takes_no_time_that_grows_with_its_square(line: str) -> None:
    with pytest.raises(RejectedLine):
        build_combined_parser("page_view")(line)


def test_every_line_of_the_real_log_is_read_as_two_other_programs_read_it() -> None:
    if not ACCESS_LOG.exists():
        pytest.skip(f"the real log is not there: {ACCESS_LOG}")
    expected = json.loads(ACCESS_LOG.with_name("access.expected.json").read_text())
    parse = build_combined_parser("page_view")
    hours: Counter[str] = Counter()
    users: Counter[str] = Counter()
    paths: Counter[str] = Counter()
    rejected = []

    with gzip.open(ACCESS_LOG, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                event = parse(line.removesuffix("\n"))
            except RejectedLine:
                rejected.append(number)
            else:
                hours[event["timestamp"][:13]] += 1
                users[event["user_id"]] += 1
                paths[event["properties"]["path"]] += 1

    assert rejected == expected["rejected_lines"]
    assert dict(hours) == expected["hourly"]
    assert len(users) == expected["unique_visitors_total"]
    assert len(paths) == expected["distinct_paths"]
    for found, top in ((users, expected["top_visitors"]), (paths, expected["top_paths"])):
        assert all(found[name] == count for name, count in top)


def test_an_ndjson_line_is_the_object_it_holds() -> None:
    assert parse_ndjson('{"event_type": "sale", "properties": {"amount": 12.50}}') == {
        "event_type": "sale",
        "properties": {"amount": 12.50},
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not JSON: Expecting property name enclosed in double quotes at column 2"),
        ('["page_view"]', "must be a JSON object"),
        ('{"properties": {"x": NaN}}', "NaN is not a JSON number"),
        ("[" * 100_000, "nested too deeply"),
        ('{"timestamp": ' + "1" * 5_000 + "}", "a number is too long"),
    ],
)
def test_an_ndjson_line_that_is_no_object_is_rejected_with_the_reason(
    line: str, reason: str
) -> None:
    with pytest.raises(RejectedLine) as raised:
        parse_ndjson(line)

    assert reason in str(raised.value)
