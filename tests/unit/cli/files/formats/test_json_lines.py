"""Lines that are JSON objects, to the event objects of the wire contract."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipeline.cli.files.formats.json_lines import (
    build_caddy_parser,
    build_nginx_parser,
    build_traefik_parser,
    parse_ndjson,
)
from pipeline.errors import RejectedLine

CADDY: dict[str, Any] = {
    "level": "info",
    "ts": 1646861401.5241024,
    "logger": "http.log.access",
    "msg": "handled request",
    "request": {
        "remote_ip": "10.0.0.1",
        "client_ip": "203.0.113.9",
        "proto": "HTTP/2.0",
        "method": "GET",
        "host": "shop.example",
        "uri": "/a?b=c",
        "headers": {"User-Agent": ["curl/8.0"], "Referer": ["https://a.example/"]},
    },
    "size": 10900,
    "status": 200,
}
TRAEFIK: dict[str, Any] = {
    "ClientAddr": "203.0.113.9:51234",
    "ClientHost": "203.0.113.9",
    "DownstreamContentSize": 10900,
    "DownstreamStatus": 200,
    "RequestHost": "shop.example",
    "RequestMethod": "GET",
    "RequestPath": "/a?b=c",
    "StartUTC": "2022-03-09T21:30:01.524102Z",
    "request_Referer": "https://a.example/",
    "request_User-Agent": "curl/8.0",
    "time": "2022-03-09T21:30:02Z",
}
NGINX: dict[str, Any] = {
    "time_iso8601": "2022-03-09T21:30:01+00:00",
    "remote_addr": "203.0.113.9",
    "request": "GET /a?b=c HTTP/1.1",
    "status": "200",
    "body_bytes_sent": "10900",
    "http_referer": "https://a.example/",
    "http_user_agent": "curl/8.0",
    "host": "shop.example",
}
PROPERTIES = {
    "path": "/a?b=c",
    "method": "GET",
    "status": 200,
    "bytes": 10900,
    "referrer": "https://a.example/",
    "agent": "curl/8.0",
    "host": "shop.example",
}


@pytest.mark.parametrize(
    ("build", "entry", "timestamp"),
    [
        (build_caddy_parser, CADDY, 1646861401.5241024),
        (build_traefik_parser, TRAEFIK, "2022-03-09T21:30:01.524102Z"),
        (build_nginx_parser, NGINX, "2022-03-09T21:30:01+00:00"),
    ],
    ids=["caddy", "traefik", "nginx"],
)
def test_a_request_becomes_an_event_of_its_client(
    build: Any, entry: dict[str, Any], timestamp: object
) -> None:
    assert build("page_view")(json.dumps(entry)) == {
        "event_type": "page_view",
        "user_id": "203.0.113.9",
        "properties": PROPERTIES,
        "timestamp": timestamp,
    }


@pytest.mark.parametrize(
    ("field", "value", "timestamp"),
    [
        ("msec", "1646861401.524", 1646861401.524),
        ("timestamp", 1646861401524, 1646861401.524),
        ("ts", 1646861401524000000, 1646861401.524),
        ("time_local", "09/Mar/2022:21:30:01 +0000", "2022-03-09T21:30:01+00:00"),
        ("@timestamp", "2022-03-09T21:30:01Z", "2022-03-09T21:30:01Z"),
    ],
)
def test_nginx_may_write_the_time_in_any_of_its_ways(
    field: str, value: object, timestamp: object
) -> None:
    entry = {name: text for name, text in NGINX.items() if name != "time_iso8601"} | {field: value}

    event = build_nginx_parser("page_view")(json.dumps(entry))

    assert event is not None
    assert event["timestamp"] == timestamp


def test_nginx_may_write_method_path_and_query_apart() -> None:
    entry = NGINX | {"request": None, "request_method": "POST", "uri": "/a", "args": "b=c"}

    event = build_nginx_parser("page_view")(json.dumps(entry))

    assert event is not None
    assert (event["properties"]["method"], event["properties"]["path"]) == ("POST", "/a?b=c")


def test_the_first_forwarded_address_is_the_user() -> None:
    entry = NGINX | {"http_x_forwarded_for": "198.51.100.7, 10.0.0.1"}

    event = build_nginx_parser("page_view")(json.dumps(entry))

    assert event is not None
    assert event["user_id"] == "198.51.100.7"


def test_lines_of_a_server_that_are_no_requests_are_passed_over() -> None:
    assert build_caddy_parser("v")('{"level":"info","ts":1.5,"logger":"tls","msg":"x"}') is None
    assert build_traefik_parser("v")('{"level":"info","msg":"started"}') is None


@pytest.mark.parametrize(
    ("build", "line", "reason"),
    [
        (build_caddy_parser, '{"a": 1}', 'no object "request"'),
        (build_traefik_parser, '{"a": 1}', 'no "RequestPath"'),
        (build_nginx_parser, '{"a": 1}', "no time"),
        (build_nginx_parser, json.dumps(NGINX | {"status": "OK"}), "status must be a number"),
        (build_nginx_parser, json.dumps(NGINX | {"remote_addr": "a b"}), "'a b' is not the"),
        (build_nginx_parser, "203.0.113.9 - -", "not JSON"),
    ],
)
def test_a_line_of_another_kind_is_rejected_with_the_reason(
    build: Any, line: str, reason: str
) -> None:
    with pytest.raises(RejectedLine) as raised:
        build("page_view")(line)

    assert reason in str(raised.value)


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
        ('{"caf\udce9": 1}', "not UTF-8: byte 0xe9 at column 6"),
        ('{"timestamp": ' + "1" * 5_000 + "}", "a number is too long"),
    ],
)
def test_an_ndjson_line_that_is_no_object_is_rejected_with_the_reason(
    line: str, reason: str
) -> None:
    with pytest.raises(RejectedLine) as raised:
        parse_ndjson(line)

    assert reason in str(raised.value)


@pytest.mark.parametrize("status", [{}, [], {"a": 1}, True])
def test_a_status_that_is_no_number_rejects_its_line(status: Any) -> None:
    line = json.dumps({**TRAEFIK, "DownstreamStatus": status})
    with pytest.raises(RejectedLine, match="status must be a number"):
        build_traefik_parser("page_view")(line)
