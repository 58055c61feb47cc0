"""Formats of a single event: our own, and the query of a pixel. Pure."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec

from pipeline.errors import InvalidEvent
from pipeline.event.model import FIELDS
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents
from pipeline.web.collector.formats.query_text import parse_query, read_query_time
from pipeline.web.collector.formats.tolerant import load_tolerant
from pipeline.web.collector.visits.context import Context
from pipeline.web.errors import EventRefused, RequestRefused

# Python's own floats: msgspec takes nine microseconds for each 1e308.
_decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode
_MAX_PARAMETERS = 100
LONGEST_TEXT = 1_000
"""Characters of what an event says about its page; more are cut."""
_PARAMETERS = frozenset({*FIELDS, "key", "writeKey"})


def parse_plain(
    body: bytes, encoder: EventEncoder, default_type: str | None = None
) -> ParsedEvents:
    """Our own: a JSON object with the fields of an event. Raises `RequestRefused`."""
    fields = parse_object(body)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise refuse(unknown[0][:100], f"unknown field; use {', '.join(FIELDS)}")
    event_type = fields.get("event_type", default_type)
    if event_type is None:
        raise refuse("event_type", "is required; name what happened")
    try:
        event = encoder.encode(
            event_type,
            fields.get("user_id"),
            fields.get("properties"),
            fields.get("timestamp"),
            fields.get("event_id"),
        )
    except InvalidEvent as error:
        raise refuse(error.field, error.reason) from None
    return ParsedEvents([event])


def parse_pixel(query: bytes, encoder: EventEncoder) -> ParsedEvents:
    """A pixel's: the fields of an event as parameters, `page_view` unless it says otherwise; every
    other parameter is a property, and the page that shows the pixel gives `path`.

    Raises `EventRefused`.
    """
    found = parse_query(query, _MAX_PARAMETERS)
    given = {name: value for name, value in found if name in _PARAMETERS}
    properties: dict[str, Any] = {name: value for name, value in found if name not in _PARAMETERS}
    for name, value in split_address(encoder.referrer).items():
        if value:
            properties.setdefault(name, value[:LONGEST_TEXT])
    try:
        event = encoder.encode(
            given.get("event_type") or "page_view",
            given.get("user_id") or None,
            properties or None,
            read_query_time(given.get("timestamp", ""), encoder.received_at),
            given.get("event_id") or None,
            Context(user_agent=encoder.user_agent, page={"url": encoder.referrer}),
        )
    except InvalidEvent as error:
        raise refuse(error.field, error.reason) from None
    return ParsedEvents([event])


def parse_object(body: bytes, *, or_empty: bool = False) -> dict[str, Any]:
    """The object that a body is, mended where the usual decoder refuses it; `or_empty`: `null` and
    PHP's empty array are one without members. Raises `RequestRefused`."""
    try:
        return _decode_object(body)
    except RecursionError:
        raise RequestRefused(400, "invalid_json", "is nested too deeply; flatten it") from None
    except ValueError as error:
        with suppress(ValueError, RecursionError):
            found = load_tolerant(body)
            if isinstance(found, dict):
                return found
            if or_empty and not found:
                return {}
        raise RequestRefused(
            400, "invalid_json", f"the body is no JSON object ({str(error)[:200]}); correct it"
        ) from None


def split_address(url: str) -> dict[str, str]:
    """Path and host of a page's address; empty for any other text."""
    try:
        parts = urlsplit(url)
        return {"path": parts.path or "/", "host": parts.hostname or ""} if parts.scheme else {}
    except ValueError:
        return {}


def refuse(field: str, reason: str) -> EventRefused:
    """The error of a field."""
    return EventRefused(f"{field}: {reason}", field)
