"""What every access log says of a request, whatever its format: to one event object."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from ipaddress import ip_address
from typing import Any

from pipeline.errors import RejectedLine

EventObject = dict[str, Any]
LineParser = Callable[[str], EventObject | None]
"""From a line to an event object; None for a line without an event. Raises `RejectedLine`. Bytes of
the line that are no UTF-8 stand in it as surrogates (PEP 383)."""

_SHOWN_CHARACTERS = 60
_NO_VALUE = frozenset({"", "-"})
_TIME = re.compile(
    r"(\d{1,2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})", re.ASCII
)
_NAMES = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_MONTHS = {name: number for number, name in enumerate(_NAMES.split(), start=1)}
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*\.?)*")
_ADDRESS_AND_PORT = re.compile(r"\[(?P<v6>[0-9A-Fa-f:.%\w]+)\](?::\d+)?|(?P<v4>[\d.]+):\d+")
_ESCAPED = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[\"\\abfnrtv])")
_ESCAPES = {b"a": 7, b"b": 8, b"f": 12, b"n": 10, b"r": 13, b"t": 9, b"v": 11}
_LONGEST_HOST_NAME = 253


@dataclass(frozen=True)
class WebRequest:
    """A request as a server logged it; None where the log does not say."""

    client: str
    """The client as it stands in the log: an address, one with a port, or several, the first of
    which is the client's own; a host name where the server looks names up."""
    timestamp: str | float
    """ISO 8601 with a zone, or Unix seconds."""
    path: str | None
    """With its query."""
    method: str | None
    status: object
    sent_bytes: object
    referrer: str | None = None
    agent: str | None = None
    host: str | None = None

    def to_event(self, event_type: str) -> EventObject:
        """The event: the client is its user, all else its properties.

        Raises `RejectedLine` where a field is not what it should be.
        """
        properties: EventObject = {}
        if self.path:
            properties["path"] = self.path
            properties["method"] = self.method
        properties["status"] = parse_number("status", self.status)
        properties["bytes"] = parse_number("size", self.sent_bytes)
        for name in ("referrer", "agent", "host"):
            text = getattr(self, name)
            if text is not None and text not in _NO_VALUE:
                properties[name] = text
        event: EventObject = {"event_type": event_type}
        user = find_client(self.client)
        if user is not None:
            event["user_id"] = user
        return event | {"properties": properties, "timestamp": self.timestamp}


def find_client(text: str) -> str | None:
    """The client's address or host name; None where the log does not know it (`-`, or a Unix
    socket).

    Of several forwarded addresses the first is the client's; a port is left out. Raises
    `RejectedLine` for what is neither an address nor a host name.
    """
    first = text.partition(",")[0].strip()
    if first in _NO_VALUE or first.startswith("unix:"):
        return None
    with_port = _ADDRESS_AND_PORT.fullmatch(first)
    if with_port:
        first = with_port["v6"] or with_port["v4"]
    if not is_address(first) and not is_host_name(first):
        raise RejectedLine(f"{cut(first)} is not the address of a client, or its host name")
    return first


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def is_host_name(text: str) -> bool:
    """Whether this could be the name of a host; a number with dots is not one."""
    return (
        len(text) <= _LONGEST_HOST_NAME
        and _HOST_NAME.fullmatch(text) is not None
        and not text.replace(".", "").isdigit()
    )


def parse_number(name: str, value: object) -> int:
    """A number of the log, written as one or as text; `-`, which servers write for 0, is 0."""
    try:
        if value is None:
            return 0
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        if value in _NO_VALUE:
            return 0
        return int(value)
    except (ValueError, OverflowError):
        raise RejectedLine(f"{name} must be a number, not {cut(str(value))}") from None


def split_request(request: str) -> tuple[str | None, str | None]:
    """Method and path of `GET /path HTTP/1.1`. The path may hold spaces; (None, None) for a client
    that connected and sent no request line."""
    method, _, rest = request.partition(" ")
    path, separator, protocol = rest.rpartition(" ")
    if not separator or not protocol.startswith("HTTP/"):
        path = rest
    return (method, path) if path else (None, None)


def unescape(text: str) -> str:
    r"""The text as the client sent it: httpd writes `\"`, `\\`, `\n`, nginx `\x22`, and both `\xC3`
    for a byte that is not ASCII. Bytes are UTF-8, or else Latin-1."""
    if "\\" not in text and text.isascii():
        return text
    raw = _ESCAPED.sub(_decode_escape, text.encode("utf-8", "surrogateescape"))
    try:
        decoded = raw.decode()
    except UnicodeDecodeError:
        decoded = raw.decode("latin-1")
    return decoded.replace("\x00", "\ufffd")  # no event may hold a NUL


def _decode_escape(match: re.Match[bytes]) -> bytes:
    found = match[1]
    if found[:1] == b"x":
        return bytes([int(found[1:], 16)])
    return bytes([_ESCAPES[found]]) if found in _ESCAPES else found


def parse_time(text: str) -> datetime:
    """Parse the time of a log line. The names of months are English whatever the locale."""
    match = _TIME.fullmatch(text)
    month = _MONTHS.get(match[2]) if match else None
    if match is None or month is None:
        raise RejectedLine(f"the time {cut(text)} is not of the form 17/May/2015:10:05:03 +0000")
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    offset = timedelta(hours=int(match[8]), minutes=int(match[9]))
    try:
        zone = timezone(-offset if match[7] == "-" else offset)
        # A leap second is logged as :60.
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone) + timedelta(
            seconds=1 if second == 60 else 0
        )
    except (ValueError, OverflowError) as error:
        raise RejectedLine(f"the time {cut(text)} does not exist: {error}") from error


def cut(text: str) -> str:
    """The beginning of a text, for a message."""
    shown = ascii(text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
