"""All formats by name, and which of them a file has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from pipeline.cli.files.formats.cloud import (
    build_cloudfront_parser,
    build_load_balancer_parser,
    build_w3c_parser,
)
from pipeline.cli.files.formats.combined import build_combined_parser
from pipeline.cli.files.formats.json_lines import (
    build_caddy_parser,
    build_nginx_parser,
    build_traefik_parser,
    parse_ndjson,
    parse_object,
)
from pipeline.cli.files.formats.web_request import LineParser
from pipeline.cli.files.line_source import Line
from pipeline.errors import RejectedLine

FORMATS: dict[str, Callable[[str], LineParser]] = {
    "combined": build_combined_parser,
    "ndjson": lambda _: parse_ndjson,
    "caddy": build_caddy_parser,
    "traefik": build_traefik_parser,
    "nginx-json": build_nginx_parser,
    "alb": build_load_balancer_parser,
    "cloudfront": build_cloudfront_parser,
    "w3c": build_w3c_parser,
}
"""From a format's name to what builds its parser for an event type; `ndjson` names its own."""

DEFAULT = "combined"
_LINES_TRIED = 100
_TEXT_FORMATS = ("combined", "alb", "cloudfront")


def detect_format(lines: Iterable[Line]) -> tuple[str, Iterator[Line]]:
    """The format of the first of a hundred lines that one can read, else `combined`; and all lines,
    those looked at included."""
    source = iter(lines)
    seen: list[Line] = []
    for line in islice(source, _LINES_TRIED):
        seen.append(line)
        found = _detect_line(line)
        if found is not None:
            return found, chain(seen, source)
    return DEFAULT, chain(seen, source)


def decode_line(data: bytes) -> str:
    """The text of a line, as parsers take it."""
    return data.decode("utf-8", "surrogateescape")


def _detect_line(line: Line) -> str | None:
    text = decode_line(line.data or b"").removeprefix("\ufeff").strip()
    if text.startswith("#"):
        # CloudFront writes the versions of W3C's format, with a column of its own.
        if text.lower().startswith("#fields:"):
            return "cloudfront" if "x-edge-location" in text else "w3c"
        return None
    if text.startswith("{"):
        return _detect_object(text)
    return next((name for name in _TEXT_FORMATS if _can_read(name, text)), None)


def _detect_object(text: str) -> str | None:
    try:
        found = parse_object(text)
    except RejectedLine:
        return None
    if "event_type" in found:
        return "ndjson"
    if isinstance(found.get("request"), dict):
        return "caddy"
    if "RequestPath" in found or "DownstreamStatus" in found:
        return "traefik"
    return "nginx-json" if _can_read("nginx-json", text) else None


def _can_read(name: str, text: str) -> bool:
    try:
        return FORMATS[name]("page_view")(text) is not None
    except RejectedLine:
        return False
