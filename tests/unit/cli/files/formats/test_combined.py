"""Lines of Apache httpd and nginx, as text, to the event objects of the wire contract."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from pipeline.cli.files.formats.combined import build_combined_parser
from pipeline.errors import RejectedLine

ACCESS_LOG = Path(__file__).parents[6] / "shared" / "data" / "access.log.gz"

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
        (LINE.replace("203.0.113.9", "no_address:"), "'no_address:'"),
        (LINE.replace("203.0.113.9 - -", "- Aug"), "it begins with '- Aug'"),
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


def read(line: str) -> tuple[str | None, str | None, str]:
    """User, host and path of a line."""
    event = build_combined_parser("page_view")(line)
    assert event is not None
    properties = event["properties"]
    return event.get("user_id"), properties.get("host"), properties["path"]


@pytest.mark.parametrize(
    ("head", "host"),
    [
        ("a.example.org:443 203.0.113.9", "a.example.org:443"),
        ("a.example.org 203.0.113.9", "a.example.org"),
        ("a.example.org:443 2001:db8::1", "a.example.org:443"),
        ("a.example.org client.example.net", "a.example.org"),
        ("a.example.org -", "a.example.org"),
        ("192.0.2.1:80 203.0.113.9", "192.0.2.1:80"),
    ],
)
def test_a_virtual_host_before_the_client_is_a_property(head: str, host: str) -> None:
    user = head.split()[1]

    assert read(LINE.replace("203.0.113.9", head)) == (
        None if user == "-" else user,
        host,
        "/a?b=c",
    )


@pytest.mark.parametrize(
    "head",
    [
        "Aug  1 12:00:00 web-1 nginx: ",
        "Aug 11 12:00:00 web-1 nginx[123]: ",
        "<190>Aug 11 12:00:00 web-1 nginx: ",
        "<190>Aug 11 12:00:00 nginx: ",
        "<190>1 2026-08-01T12:00:00.123Z web-1 nginx 123 - - ",
        '<190>1 2026-08-01T12:00:00+02:00 web-1 nginx - ID47 [meta a="b"] ',
        "2026-08-01T12:00:00+00:00 web-1 nginx[1]: ",
        "2026-08-01T12:00:00.123456789Z stdout F ",
        "web-1  | ",
    ],
)
def test_what_a_logger_puts_before_the_line_is_passed_over(head: str) -> None:
    assert read(head + LINE) == ("203.0.113.9", None, "/a?b=c")
    assert read(head + "a.example.org:80 " + LINE)[:2] == ("203.0.113.9", "a.example.org:80")


@pytest.mark.parametrize(
    ("client", "user"),
    [
        ("203.0.113.9, 10.0.0.1", "203.0.113.9"),
        ("203.0.113.9,10.0.0.1", "203.0.113.9"),
        ("203.0.113.9, 10.0.0.1, 10.0.0.2", "203.0.113.9"),
        ("2001:db8::1, 10.0.0.1", "2001:db8::1"),
        ("203.0.113.9:51234", "203.0.113.9"),
        ("[2001:db8::1]:51234", "2001:db8::1"),
        ("-", None),
        ("unix:", None),
        ("intranet-host", "intranet-host"),
    ],
)
def test_the_user_is_the_client_itself(client: str, user: str | None) -> None:
    assert read(LINE.replace("203.0.113.9", client)) == (user, None, "/a?b=c")


@pytest.mark.parametrize(
    "head", ["Aug 11 12:00:00 -", "web 1 2 3", "12:00:00 - -", "999.1.1.1 - -", "a b", '"x" - -']
)
def test_a_first_word_that_is_no_client_is_never_a_user(head: str) -> None:
    with pytest.raises(RejectedLine):
        build_combined_parser("page_view")(LINE.replace("203.0.113.9 - -", head))


@pytest.mark.parametrize(
    ("logged", "path"),
    [
        ("GET /two words HTTP/1.1", "/two words"),
        (r"GET /caf\xC3\xA9 HTTP/1.1", "/café"),
        (r"GET /caf\xe9 HTTP/1.1", "/café"),
        (r"GET /a\x22b\x5Cc HTTP/1.1", '/a"b\\c'),
        ("GET /café HTTP/1.1", "/café"),
        ("GET /caf\udce9 HTTP/1.1", "/café"),
        ('GET /a"b HTTP/1.1', '/a"b'),
        (r"GET /a\x00b HTTP/1.1", "/a\ufffdb"),
    ],
)
def test_a_path_is_read_as_the_client_sent_it(logged: str, path: str) -> None:
    assert read(LINE.replace("GET /a?b=c HTTP/1.1", logged))[2] == path


@pytest.mark.parametrize(
    "agent", ['an "odd" agent', '"', 'ends "', r"say \x22hi\x22 \xC3\xA9", "caf\udce9"]
)
def test_an_agent_with_bare_or_escaped_quotes_is_read(agent: str) -> None:
    event = build_combined_parser("page_view")(LINE.replace("Mozilla/5.0 (X11)", agent))

    expected = agent.replace(r"\x22", '"').replace(r"\xC3\xA9", "é").replace("\udce9", "é")
    assert event is not None
    assert event["properties"]["agent"] == expected
    assert event["properties"]["referrer"] == "http://example.org/"
