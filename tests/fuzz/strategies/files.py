"""What a file to be imported may hold: lines of the logs that we read, damaged lines, and bytes."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from pipeline.cli.files.formats.detection import FORMATS
from tests.fuzz.strategies.requests import contents, text, values

_PARTS = (
    *("127.0.0.1", "::1", "-", " - - ", "[17/May/2015:10:05:03 +0000]", '"GET / HTTP/1.1"'),
    *(" 200 2026 ", '"-"', '"', "\\", "[", "]", " ", "\t", "é", "\x00", '{"event_type":"a"', "}"),
    *("http 2018-07-02T22:23:00.186641Z app/lb/1 ", "2019-12-04\t21:02:31\t", " 0.001 ", "%20"),
)
_COMBINED = '127.0.0.1 - - [17/May/2015:10:05:03 +0000] "GET {} HTTP/1.1" 200 {} "{}" "{}"'
_HEADERS = (
    "#Fields: date time c-ip cs-method cs-uri-stem sc-status",
    "#Fields: date time x-edge-location sc-bytes c-ip cs-method cs(Host) cs-uri-stem sc-status",
    "#Fields:",
    "#Version: 1.0",
    "#",
)
_ROW = "{} {} 10.0.0.1 GET {} 200"
_NAMES = (
    *("ts", "time", "msec", "request", "status", "size", "remote_addr", "client_ip", "headers"),
    *("method", "uri", "host", "StartUTC", "ClientHost", "RequestPath", "DownstreamStatus"),
    *("request_method", "request_uri", "http_user_agent", "time_iso8601", "logger", "event_type"),
)


def _encode(written: str) -> bytes:
    return written.encode(errors="surrogatepass")


objects = st.dictionaries(
    st.sampled_from(_NAMES),
    values | st.dictionaries(st.sampled_from(_NAMES), values, max_size=4),
    max_size=6,
)
lines = st.one_of(
    st.binary(max_size=80),
    st.lists(st.sampled_from(_PARTS) | text, max_size=12).map(
        lambda found: _encode("".join(found))
    ),
    st.builds(_COMBINED.format, text, text, text, text).map(_encode),
    st.sampled_from(_HEADERS).map(_encode),
    st.builds(_ROW.format, text, text, text).map(_encode),
    st.builds(_ROW.format, st.just("2026-01-31"), st.just("12:00:00"), text).map(_encode),
    (objects | contents).map(lambda found: json.dumps(found).encode()),
)
files = st.lists(lines, max_size=8).map(b"\n".join)
format_names = st.sampled_from([*FORMATS, "auto"])
