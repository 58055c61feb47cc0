"""Text lines of Apache httpd, nginx and those who write like them.

`combined`:

    ADDRESS IDENT USER [17/May/2015:10:05:03 +0000] "GET /path HTTP/1.1" 200 2026 "REFERRER" "AGENT"

A virtual host may stand before it (httpd's `vhost_combined`), and what syslog, journald, Docker or
Kubernetes put before each line. ADDRESS may be several that were forwarded: `client, proxy`. httpd
escapes quotes and backslashes inside the quoted fields with a backslash (mod_log_config, "Format
Notes"), nginx as `\\x22`; both write `-` for a field without a value.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from pipeline.cli.files.formats.web_request import (
    EventObject,
    LineParser,
    WebRequest,
    cut,
    is_address,
    is_host_name,
    parse_time,
    split_request,
    unescape,
)
from pipeline.errors import RejectedLine

_QUOTED = r'"((?:[^"\\]|\\.)*)"'
# The bound keeps a hostile line of many brackets from taking time that grows with its square.
_START = re.compile(r"(?P<client>\S.*?) \[(?P<time>[^\]]{0,40})\] ")
_FIELDS = re.compile(
    _QUOTED.replace("(", "(?P<request>", 1)
    + r" (?P<status>\d{3}) (?P<size>\d+|-) "
    + _QUOTED.replace("(", "(?P<referrer>", 1)
    + " "
    + _QUOTED.replace("(", "(?P<agent>", 1)
    # Servers are often told to append fields of their own, such as the time taken: not ours.
    + r"(?: .*)?"
)
_NUMBERS = re.compile(r'" (?P<status>\d{3}) (?P<size>\d+|-) "')
_QUOTED_OR_CUT = re.compile(r'"(?:[^"\\]|\\.)*(?P<end>"?)')

_ISO_TIME = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(?:[.,]\d+)?(?:Z|[+-]\d{2}:?\d{2})?"
_HEADS = re.compile(
    # RFC 5424; RFC 3164 and journald; Kubernetes; Docker Compose.
    rf"<\d{{1,3}}>\d {_ISO_TIME} \S+ \S+ \S+ \S+ (?:-|\[[^\]]*\]) "
    rf"|(?:<\d{{1,3}}>)?(?:[A-Z][a-z]{{2}} [ \d]\d \d{{2}}:\d{{2}}:\d{{2}}|{_ISO_TIME}) "
    r"(?:\S+ )?[^\s:\[\]]+(?:\[\d+\])?: "
    rf"|{_ISO_TIME} (?:stdout|stderr) [FP] "
    r"|[\w.-]+ +\| "
)


class _Clients(NamedTuple):
    client: str
    host: str | None


def build_combined_parser(event_type: str) -> LineParser:
    """A parser of combined log lines, each of which becomes one event of `event_type`."""

    def parse(line: str) -> EventObject:
        head = _HEADS.match(line)
        at = head.end() if head else 0
        start = _START.match(line, at)
        if start is None:
            raise RejectedLine(_explain_mismatch(line, at))
        fields = _FIELDS.fullmatch(line, start.end())
        found = fields.groupdict() if fields else _read_bare_quotes(line, start.end())
        if found is None:
            raise RejectedLine(_explain_mismatch(line, start.end(), has_start=True))
        client, host = _split_clients(start["client"])
        method, path = split_request(unescape(found["request"]))
        return WebRequest(
            client=client,
            timestamp=parse_time(start["time"]).isoformat(),
            path=path,
            method=method,
            status=found["status"],
            sent_bytes=found["size"],
            referrer=unescape(found["referrer"]),
            agent=unescape(found["agent"]),
            host=host,
        ).to_event(event_type)

    return parse


def _split_clients(text: str) -> _Clients:
    """The client and the virtual host, of what stands before the time: `[HOST] CLIENT IDENT USER`,
    where CLIENT may be `client, proxy, …` and USER may hold spaces."""
    words = text.split(" ")
    host = words.pop(0) if _begins_with_host(words) else None
    client = words.pop(0)
    while client.endswith(",") and words:
        client += words.pop(0)
    # A name without a dot is a host's only where the line has the usual form: not "Aug", or "web".
    is_known = is_address(client) or "." in client or ":" in client or words[:1] == ["-"]
    if len(words) < 2 or not is_known:
        raise RejectedLine(
            f"not a combined log line: it begins with {cut(text)} where a client's address, "
            "an identity and a user should be"
        )
    return _Clients(client, host)


def _begins_with_host(words: list[str]) -> bool:
    if len(words) < 4 or words[0].endswith(","):
        return False
    first, second, third = words[0], words[1].rstrip(","), words[2]
    if is_address(second):
        return True
    is_client = second == "-" or ("." in second and is_host_name(second))
    return third == "-" and is_client and not is_address(first)


def _read_bare_quotes(line: str, at: int) -> dict[str, str] | None:
    """The fields of a line in which a client's quotes were not escaped: the request ends before
    the numbers, the referrer at the first `" "`, the agent at the last quote of the line."""
    numbers = _NUMBERS.search(line, at)
    if numbers is None or not line.startswith('"', at):
        return None
    middle, last = line.find('" "', numbers.end()), line.rfind('"')
    if middle < 0 or last < middle + 3:
        return None
    return {
        "request": line[at + 1 : numbers.start()],
        "referrer": line[numbers.end() : middle],
        "agent": line[middle + 3 : last],
    } | numbers.groupdict()


def _explain_mismatch(line: str, at: int, *, has_start: bool = False) -> str:
    """Name the first thing that is wrong with the line."""
    if not has_start:
        shown = cut(line)
        return f"not a combined log line: it does not begin with an address and [time]: {shown}"
    quoted = list(_QUOTED_OR_CUT.finditer(line, at))
    if not quoted or quoted[0].start() != at:
        return f'not a combined log line: no "request" after [time]: {cut(line[at:])}'
    for field in quoted[:3]:
        if not field["end"]:
            return f"a quote is not closed: {cut(field.group())}"
    if len(quoted) < 3:
        return 'not a combined log line: it ends before "referrer" and "agent"'
    numbers = line[quoted[0].end() : quoted[1].start()].strip()
    if not re.fullmatch(r"\d{3} (\d+|-)", numbers):
        return f"status and size must be two numbers, not {cut(numbers)}"
    return f"not a combined log line: the fields are not separated by single spaces: {cut(line)}"
