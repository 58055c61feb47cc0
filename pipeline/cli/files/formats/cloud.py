"""Logs with columns: W3C extended (IIS), CloudFront's, and those of AWS load balancers."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from pipeline.cli.files.formats.web_request import (
    EventObject,
    LineParser,
    WebRequest,
    cut,
    split_request,
)
from pipeline.errors import RejectedLine

# https 2018-07-02T22:23:00.186641Z app/name/id CLIENT:PORT TARGET:PORT 0.0 0.0 0.0 200 200 34 366
# "GET https://host:443/ HTTP/1.1" "AGENT" …, of a classic load balancer without the first word.
_LOAD_BALANCER = re.compile(
    r"(?:(?:https?|h2|grpcs|wss?) )?(?P<time>\d{4}-\d\d-\d\dT[\d:.]+Z) \S+ (?P<client>\S+) \S+ "
    r"[\d.-]+ [\d.-]+ [\d.-]+ (?P<status>\d{3}|-) (?:\d{3}|-) \d+ (?P<size>\d+|-) "
    r'"(?P<request>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"(?: .*)?'
)
_CLOUDFRONT_FIELDS = [
    *("date", "time", "x-edge-location", "sc-bytes", "c-ip", "cs-method", "cs(Host)"),
    *("cs-uri-stem", "sc-status", "cs(Referer)", "cs(User-Agent)", "cs-uri-query"),
]


def build_load_balancer_parser(event_type: str) -> LineParser:
    """A parser of the access logs of AWS's application and classic load balancers."""

    def parse(line: str) -> EventObject:
        match = _LOAD_BALANCER.fullmatch(line)
        if match is None:
            raise RejectedLine(f"not a line of an AWS load balancer's access log: {cut(line)}")
        method, target = split_request(match["request"])
        host, path = _split_target(target or "")
        return WebRequest(
            client=match["client"],
            timestamp=match["time"],
            path=path,
            method=method,
            status=match["status"],
            sent_bytes=match["size"],
            agent=match["agent"],
            host=host,
        ).to_event(event_type)

    return parse


def build_w3c_parser(event_type: str) -> LineParser:
    """A parser of W3C extended logs, such as IIS writes. Its columns are those of the last line
    `#Fields:`, which may come again in the middle; times are UTC."""
    return _ColumnParser(event_type, None)


def build_cloudfront_parser(event_type: str) -> LineParser:
    """A parser of CloudFront's standard logs; without `#Fields:` its columns are the usual ones."""
    return _ColumnParser(event_type, _CLOUDFRONT_FIELDS)


class _ColumnParser:
    """Knows the columns that the last `#Fields:` has named."""

    def __init__(self, event_type: str, columns: list[str] | None) -> None:
        self._event_type, self._columns = event_type, columns

    def __call__(self, line: str) -> EventObject | None:
        if line.startswith("#"):
            if line.lower().startswith("#fields:"):
                self._columns = line.partition(":")[2].split()
            return None
        if self._columns is None:
            raise RejectedLine("no line #Fields: has named the columns yet")
        values = line.split("\t" if "\t" in line else " ")
        if len(values) < len(self._columns):
            raise RejectedLine(
                f"has {len(values)} columns where {len(self._columns)} are named: {cut(line)}"
            )
        row = zip((name.lower() for name in self._columns), values, strict=False)
        return self._read(dict(row))

    def _read(self, row: dict[str, str]) -> EventObject:
        missing = [name for name in ("date", "time", "c-ip") if name not in row]
        if missing:
            raise RejectedLine(f"#Fields: names no {missing[0]}; have the server log it")
        query = row.get("cs-uri-query", "-")
        path = row.get("cs-uri-stem", "")
        forwarded = row.get("x-forwarded-for", "-")
        return WebRequest(
            client=_decode(forwarded if forwarded != "-" else row["c-ip"]),
            timestamp=f"{row['date']}T{row['time']}Z",
            path=path + (f"?{query}" if query not in ("-", "") else "") if path != "-" else None,
            method=row.get("cs-method"),
            status=row.get("sc-status"),
            sent_bytes=row.get("sc-bytes"),
            referrer=_decode(row.get("cs(referer)", "-")),
            agent=_decode(row.get("cs(user-agent)", "-")),
            host=row.get("x-host-header") or row.get("cs(host)") or row.get("cs-host"),
        ).to_event(self._event_type)


def _split_target(target: str) -> tuple[str | None, str | None]:
    """Host and path with query, of `https://host:443/path?query`."""
    if "://" not in target:
        return None, target or None
    try:
        parts = urlsplit(target)
        host = parts.hostname
    except ValueError:
        return None, target
    return host, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _decode(value: str) -> str:
    """A header's value: IIS writes spaces as `+`, CloudFront percent-encodes, some of it twice."""
    text = value.replace("+", " ") if "%" not in value else value
    return unquote(unquote(text)) if "%" in text else text
