"""One line of a file to one event object of the wire contract (pure; tested without a server).

`combined` is the log format of Apache httpd and nginx:

    ADDRESS IDENT USER [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 2026 "REFERRER" "AGENT"

httpd escapes quotes and backslashes inside the quoted fields with a backslash (mod_log_config,
"Format Notes"); it writes `-` for a field without a value. `ndjson` is one event object of the wire
contract on every line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from ipaddress import AddressValueError, IPv6Address
from typing import Any

from pipeline.errors import RejectedLine

_SHOWN_CHARACTERS = 60

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_COMBINED = re.compile(
    # The bound keeps a hostile line of many brackets from taking time that grows with its square.
    r"(?P<address>\S+) \S+ .*? \[(?P<time>[^\]]{0,40})\] "
    + _QUOTED.replace("(", "(?P<request>", 1)
    + r" (?P<status>\d{3}) (?P<size>\d+|-) "
    + _QUOTED.replace("(", "(?P<referrer>", 1)
    + " "
    + _QUOTED.replace("(", "(?P<agent>", 1)
    # Servers are often told to append fields of their own, such as the time taken: not ours.
    + r"(?: .*)?"
)
_START = re.compile(r"\S+ \S+ .*? \[[^\]]{0,40}\] ")
_QUOTED_OR_CUT = re.compile(r'"(?:[^"\\]|\\.)*(?P<end>"?)')
_TIME = re.compile(
    r"(\d{1,2})/([A-Z][a-z]{2})/(\d{4}):(\d{2}):(\d{2}):(\d{2}) ([+-])(\d{2})(\d{2})", re.ASCII
)
_NAMES = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"
_MONTHS = {name: number for number, name in enumerate(_NAMES.split(), start=1)}
_ESCAPED = re.compile(r'\\(["\\])')

EventObject = dict[str, Any]
LineParser = Callable[[str], EventObject]


def build_combined_parser(event_type: str) -> LineParser:
    """A parser of combined log lines, each of which becomes one event of `event_type`."""

    def parse(line: str) -> EventObject:
        match = _COMBINED.fullmatch(line)
        if match is None:
            raise RejectedLine(_explain_mismatch(line))
        address, time, request, status, size, referrer, agent = match.group(
            "address", "time", "request", "status", "size", "referrer", "agent"
        )
        _check_address(address)
        properties: EventObject = {}
        # A client that connects and says nothing is logged as "-": a line without a path.
        method, _, rest = _unescape(request).partition(" ")
        path = rest.partition(" ")[0]
        if path:
            properties["path"] = path
            properties["method"] = method
        properties["status"] = int(status)
        # %b writes `-` in place of 0 when no bytes were sent.
        properties["bytes"] = 0 if size == "-" else int(size)
        for name, text in (("referrer", referrer), ("agent", agent)):
            if text not in ("-", ""):
                properties[name] = _unescape(text)
        return {
            "event_type": event_type,
            "user_id": address,
            "properties": properties,
            "timestamp": parse_time(time).isoformat(),
        }

    return parse


def parse_ndjson(line: str) -> EventObject:
    """Parse a line that holds one event object; its fields are checked by `pipeline.event`."""
    try:
        value = json.loads(line, parse_constant=_reject_constant)
    except RecursionError:
        raise RejectedLine("the JSON is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise RejectedLine(f"not JSON: {error.msg} at column {error.colno}") from error
    except ValueError as error:
        # Python reads no integer of more than 4,300 digits.
        raise RejectedLine("not JSON that can be read: a number is too long") from error
    if not isinstance(value, dict):
        raise RejectedLine(
            f'must be a JSON object such as {{"event_type": "page_view"}}, not {_cut(line)}'
        )
    return value


def parse_time(text: str) -> datetime:
    """Parse the time of a log line. The names of months are English whatever the locale."""
    match = _TIME.fullmatch(text)
    month = _MONTHS.get(match[2]) if match else None
    if match is None or month is None:
        raise RejectedLine(f"the time {_cut(text)} is not of the form 17/May/2015:10:05:03 +0000")
    day, year, hour, minute, second = (int(match[group]) for group in (1, 3, 4, 5, 6))
    offset = timedelta(hours=int(match[8]), minutes=int(match[9]))
    try:
        zone = timezone(-offset if match[7] == "-" else offset)
        # A leap second is logged as :60.
        return datetime(year, month, day, hour, minute, min(second, 59), tzinfo=zone) + timedelta(
            seconds=1 if second == 60 else 0
        )
    except (ValueError, OverflowError) as error:
        raise RejectedLine(f"the time {_cut(text)} does not exist: {error}") from error


def _explain_mismatch(line: str) -> str:
    """Name the first thing that is wrong with the line."""
    start = _START.match(line)
    if start is None:
        shown = _cut(line)
        return f"not a combined log line: it does not begin with an address and [time]: {shown}"
    quoted = list(_QUOTED_OR_CUT.finditer(line, start.end()))
    if not quoted or quoted[0].start() != start.end():
        return f'not a combined log line: no "request" after [time]: {_cut(line[start.end() :])}'
    for field in quoted[:3]:
        if not field["end"]:
            return f"a quote is not closed: {_cut(field.group())}"
    if len(quoted) < 3:
        return 'not a combined log line: it ends before "referrer" and "agent"'
    numbers = line[quoted[0].end() : quoted[1].start()].strip()
    if not re.fullmatch(r"\d{3} (\d+|-)", numbers):
        return f"status and size must be two numbers, not {_cut(numbers)}"
    return f"not a combined log line: the fields are not separated by single spaces: {_cut(line)}"


def _check_address(address: str) -> None:
    """Refuse what is no client: `host:port ADDRESS …` is another format (vhost_combined)."""
    if ":" in address:
        try:
            IPv6Address(address)
        except AddressValueError:
            raise RejectedLine(
                f"{_cut(address)} at the start of the line is no client's address"
            ) from None


def _unescape(text: str) -> str:
    return _ESCAPED.sub(r"\1", text) if "\\" in text else text


def _reject_constant(name: str) -> Any:
    raise RejectedLine(f"{name} is not a JSON number")


def _cut(text: str) -> str:
    shown = ascii(text)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
