"""Lines that are JSON objects: events of the wire contract (`ndjson`), and the access logs of
Caddy, Traefik and nginx, whose operator chooses the names there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.cli.files.formats.web_request import (
    EventObject,
    LineParser,
    WebRequest,
    cut,
    parse_time,
    split_request,
)
from pipeline.errors import RejectedLine

_NANOSECONDS, _MICROSECONDS, _MILLISECONDS = 1e17, 1e14, 1e11
"""Numbers past these count that unit since 1970: as seconds they would be past the year 5000."""

# The names that operators of nginx give most often, the client's own first.
_NGINX_TIMES = ("time_iso8601", "@timestamp", "timestamp", "time", "msec", "time_local", "ts")
_NGINX_CLIENTS = (
    *("http_x_forwarded_for", "x_forwarded_for", "realip_remote_addr", "remote_addr"),
    *("remote_ip", "client_ip", "client", "clientip", "ip", "remote_host"),
)
_NGINX_METHODS = ("request_method", "method", "verb", "http_method")
_NGINX_PATHS = ("request_uri", "uri", "path", "url")
_NGINX_STATUSES = ("status", "status_code", "response", "response_status", "code")
_NGINX_SIZES = ("body_bytes_sent", "bytes_sent", "bytes", "size", "response_size")
_NGINX_REFERRERS = ("http_referer", "http_referrer", "referer", "referrer")
_NGINX_AGENTS = ("http_user_agent", "user_agent", "agent", "useragent")
_NGINX_HOSTS = ("host", "http_host", "server_name", "vhost")


def parse_ndjson(line: str) -> EventObject:
    """Parse a line that holds one event object; its fields are checked by `pipeline.event`."""
    return parse_object(line)


def build_caddy_parser(event_type: str) -> LineParser:
    """A parser of Caddy's access log, format `json`. Lines of its other logs hold no request."""

    def parse(line: str) -> EventObject | None:
        entry = parse_object(line)
        request = entry.get("request")
        if not isinstance(request, Mapping):
            logger = str(entry.get("logger", ""))
            if logger and not logger.startswith("http.log.access"):
                return None
            raise RejectedLine('not a line of Caddy\'s access log: it has no object "request"')
        headers = request.get("headers")
        headers = headers if isinstance(headers, Mapping) else {}
        return WebRequest(
            client=_text(
                request.get("client_ip") or request.get("remote_ip") or request.get("remote_addr")
            ),
            timestamp=_read_time(entry.get("ts")),
            path=_text(request.get("uri")) or None,
            method=_text(request.get("method")),
            status=entry.get("status"),
            sent_bytes=entry.get("size"),
            referrer=_first(headers.get("Referer")),
            agent=_first(headers.get("User-Agent")),
            host=_text(request.get("host")),
        ).to_event(event_type)

    return parse


def build_traefik_parser(event_type: str) -> LineParser:
    """A parser of Traefik's access log, format `json`. Referrer and user agent are there where
    Traefik is told to keep these headers."""

    def parse(line: str) -> EventObject | None:
        entry = parse_object(line)
        if "RequestPath" not in entry and "DownstreamStatus" not in entry:
            if "level" in entry and "msg" in entry and "RequestMethod" not in entry:
                return None  # of Traefik's own log
            raise RejectedLine('not a line of Traefik\'s access log: it has no "RequestPath"')
        return WebRequest(
            client=_text(entry.get("ClientHost") or entry.get("ClientAddr")),
            timestamp=_read_time(entry.get("StartUTC") or entry.get("time")),
            path=_text(entry.get("RequestPath")) or None,
            method=_text(entry.get("RequestMethod")),
            status=entry.get("DownstreamStatus"),
            sent_bytes=entry.get("DownstreamContentSize"),
            referrer=_text(entry.get("request_Referer")),
            agent=_text(entry.get("request_User-Agent")),
            host=_text(entry.get("RequestHost")),
        ).to_event(event_type)

    return parse


def build_nginx_parser(event_type: str) -> LineParser:
    """A parser of nginx's `log_format … escape=json`, with the variables under their own names or
    other usual ones."""

    def parse(line: str) -> EventObject:
        entry = parse_object(line)
        method: str | None = _find(entry, _NGINX_METHODS)
        path: str | None = _find(entry, _NGINX_PATHS)
        if not path and isinstance(entry.get("request"), str):
            method, path = split_request(entry["request"])
        elif path and entry.get("args") and "?" not in path:
            path = f"{path}?{_text(entry['args'])}"
        time = next(
            (entry[name] for name in _NGINX_TIMES if entry.get(name) not in (None, "")), None
        )
        if time is None:
            raise RejectedLine(f"no time: one of the fields {', '.join(_NGINX_TIMES)} must hold it")
        return WebRequest(
            client=_find(entry, _NGINX_CLIENTS),
            timestamp=_read_time(time),
            path=path or None,
            method=method,
            status=_find(entry, _NGINX_STATUSES),
            sent_bytes=_find(entry, _NGINX_SIZES),
            referrer=_find(entry, _NGINX_REFERRERS),
            agent=_find(entry, _NGINX_AGENTS),
            host=_find(entry, _NGINX_HOSTS),
        ).to_event(event_type)

    return parse


def parse_object(line: str) -> dict[str, Any]:
    """The JSON object that a line is. Raises `RejectedLine`."""
    try:
        line.encode()
    except UnicodeEncodeError as error:
        byte = ord(line[error.start]) & 0xFF
        column = len(line[: error.start].encode("utf-8", "surrogateescape")) + 1
        raise RejectedLine(f"not UTF-8: byte 0x{byte:02x} at column {column}") from None
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
            f'must be a JSON object such as {{"event_type": "page_view"}}, not {cut(line)}'
        )
    return value


def _read_time(value: object) -> str | float:
    """A time as servers write it: ISO 8601, that of a combined line, or a number of seconds or of
    fractions of one since 1970, also as text."""
    text = _text(value)
    try:
        number = float(text)
    except ValueError:
        return parse_time(text).isoformat() if "/" in text else text
    for limit, parts in ((_NANOSECONDS, 1e9), (_MICROSECONDS, 1e6), (_MILLISECONDS, 1e3)):
        if abs(number) > limit:
            return number / parts
    return number


def _find(entry: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of these fields that has a value."""
    for name in names:
        text = _text(entry.get(name))
        if text not in ("", "-"):
            return text
    return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def _first(value: object) -> str | None:
    """A header's value, or the first of several."""
    if isinstance(value, list):
        value = value[0] if value else None
    return _text(value) or None


def _reject_constant(name: str) -> Any:
    raise RejectedLine(f"{name} is not a JSON number")
