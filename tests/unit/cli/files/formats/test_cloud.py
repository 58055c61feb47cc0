"""Logs with columns, to the event objects of the wire contract."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.cli.files.formats.cloud import (
    build_cloudfront_parser,
    build_load_balancer_parser,
    build_w3c_parser,
)
from pipeline.errors import RejectedLine

ALB = (
    "https 2026-07-02T22:23:00.186641Z app/my-lb/50dc6c495c0c9188 203.0.113.9:2817 10.0.0.1:80 "
    '0.086 0.048 0.037 200 200 0 57 "GET https://shop.example:443/a?b=c HTTP/1.1" "curl/8.0" '
    "ECDHE-RSA-AES128-GCM-SHA256 TLSv1.2 arn:aws:x Root=1-58337281 shop.example arn:aws:y 1"
)
CLASSIC = ALB.removeprefix("https ")
CLOUDFRONT_FIELDS = (
    "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status "
    "cs(Referer) cs(User-Agent) cs-uri-query cs(Cookie) x-edge-result-type x-edge-request-id "
    "x-host-header"
)
CLOUDFRONT = "\t".join(
    [
        *("2026-07-02", "22:23:00", "LAX1", "57", "203.0.113.9", "GET", "d1.cloudfront.example"),
        *("/a", "200", "https://a.example/", "Mozilla/5.0%2520(X11)", "b=c", "-", "Hit", "id"),
        "shop.example",
    ]
)
IIS_FIELDS = (
    "#Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip "
    "cs(User-Agent) cs(Referer) sc-status sc-substatus sc-win32-status time-taken"
)
IIS = (
    "2026-07-02 22:23:00 10.0.0.1 GET /a b=c 443 - 203.0.113.9 Mozilla/5.0+(X11) "
    "https://a.example/ 200 0 0 15"
)


def read(build: Any, *lines: str) -> dict[str, Any]:
    """The event of the last line."""
    parse = build("page_view")
    event: dict[str, Any] = {}
    for line in lines:
        event = parse(line)
    return event


@pytest.mark.parametrize("line", [ALB, CLASSIC])
def test_a_line_of_a_load_balancer_becomes_an_event(line: str) -> None:
    assert read(build_load_balancer_parser, line) == {
        "event_type": "page_view",
        "user_id": "203.0.113.9",
        "timestamp": "2026-07-02T22:23:00.186641Z",
        "properties": {
            "path": "/a?b=c",
            "method": "GET",
            "status": 200,
            "bytes": 57,
            "agent": "curl/8.0",
            "host": "shop.example",
        },
    }


def test_a_line_of_cloudfront_becomes_an_event() -> None:
    event = read(build_cloudfront_parser, "#Version: 1.0", CLOUDFRONT_FIELDS, CLOUDFRONT)

    assert (event["user_id"], event["timestamp"]) == ("203.0.113.9", "2026-07-02T22:23:00Z")
    assert event["properties"] == {
        "path": "/a?b=c",
        "method": "GET",
        "status": 200,
        "bytes": 57,
        "referrer": "https://a.example/",
        "agent": "Mozilla/5.0 (X11)",
        "host": "shop.example",
    }


def test_cloudfront_is_read_without_its_first_lines() -> None:
    event = read(build_cloudfront_parser, CLOUDFRONT)

    assert event["properties"]["path"] == "/a?b=c"


def test_a_line_of_iis_becomes_an_event() -> None:
    event = read(build_w3c_parser, "#Software: Microsoft", IIS_FIELDS, IIS)

    assert (event["user_id"], event["timestamp"]) == ("203.0.113.9", "2026-07-02T22:23:00Z")
    assert event["properties"] == {
        "path": "/a?b=c",
        "method": "GET",
        "status": 200,
        "bytes": 0,
        "referrer": "https://a.example/",
        "agent": "Mozilla/5.0 (X11)",
    }


def test_columns_may_change_in_the_middle_of_a_file() -> None:
    event = read(
        build_w3c_parser,
        IIS_FIELDS,
        IIS,
        "#Fields: date time c-ip sc-status",
        "2026-07-02 22:23:01 ::1 404",
    )

    assert (event["user_id"], event["properties"]) == ("::1", {"status": 404, "bytes": 0})


@pytest.mark.parametrize(
    ("build", "lines", "reason"),
    [
        (build_load_balancer_parser, [IIS], "not a line of an AWS load balancer"),
        (build_w3c_parser, [IIS], "no line #Fields:"),
        (build_w3c_parser, [IIS_FIELDS, IIS[:40]], "columns where 15 are named"),
        (build_w3c_parser, ["#Fields: date time", "2026-07-02 22:23:00"], "names no c-ip"),
        (build_w3c_parser, [IIS_FIELDS, IIS.replace(" 200 ", " OK ")], "status must be a number"),
        (build_cloudfront_parser, ["2026-07-02"], "1 columns where 12 are named"),
    ],
)
def test_a_line_of_another_kind_is_rejected_with_the_reason(
    build: Any, lines: list[str], reason: str
) -> None:
    with pytest.raises(RejectedLine) as raised:
        read(build, *lines)

    assert reason in str(raised.value)
