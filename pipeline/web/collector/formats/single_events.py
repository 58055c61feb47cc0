"""Formats of a single event: our own, Plausible's, and the query of a pixel. Pure."""

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
from pipeline.web.errors import EventRefused, RequestRefused

# Python's own floats: msgspec takes nine microseconds for each 1e308.
_decode_object = msgspec.json.Decoder(dict[str, Any], float_hook=float).decode
_MAX_PARAMETERS = 100
_LONGEST_TEXT = 1_000
_PARAMETERS = frozenset({*FIELDS, "key", "writeKey"})
# What Plausible's script calls them is short.
_SHORT = {"name": "n", "url": "u", "domain": "d", "referrer": "r", "props": "p"}


def parse_plain(
    body: bytes, encoder: EventEncoder, default_type: str | None = None
) -> ParsedEvents:
    """Our own: a JSON object with the fields of an event. Raises `RequestRefused`."""
    fields = _parse_object(body)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise _refuse(unknown[0][:100], f"unknown field; use {', '.join(FIELDS)}")
    event_type = fields.get("event_type", default_type)
    if event_type is None:
        raise _refuse("event_type", "is required; name what happened")
    try:
        event = encoder.encode(
            event_type,
            fields.get("user_id"),
            fields.get("properties"),
            fields.get("timestamp"),
            fields.get("event_id"),
        )
    except InvalidEvent as error:
        raise _refuse(error.field, error.reason) from None
    return ParsedEvents([event])


def parse_plausible(body: bytes, encoder: EventEncoder) -> ParsedEvents:
    """Plausible's: `name`, `url`, `domain`, `referrer`, `props`, long or short; `pageview` counts
    as `page_view`. The properties are `props` and `path`, `host`, `domain`, `referrer`.

    `user_id` and `event_id` may be given too; without them the user is unknown and a repeat counts.
    Raises `RequestRefused`.
    """
    fields = _parse_object(body)
    name, url, domain, referrer, props = (
        fields.get(long, fields.get(short)) for long, short in _SHORT.items()
    )
    if not isinstance(name, str) or not name:
        raise _refuse("name", "is required; name what happened, such as pageview")
    if not isinstance(url, str) or not url:
        raise _refuse("url", "is required; send the address of the page")
    if isinstance(props, str):  # so do older scripts
        props = _parse_object(props.encode(errors="replace"), or_empty=True)
    if props == []:  # PHP's empty object
        props = None
    if props is not None and not isinstance(props, dict):
        raise _refuse("props", "must be an object of names and values")
    properties = dict(props or {})
    for key, value in {**_split_address(url), "domain": domain, "referrer": referrer}.items():
        if isinstance(value, str) and value:
            properties.setdefault(key, value[:_LONGEST_TEXT])
    event_type = "page_view" if name == "pageview" else name
    try:
        event = encoder.encode(
            event_type,
            fields.get("user_id"),
            properties,
            None,
            fields.get("event_id"),
            encoder.user_agent,
        )
    except InvalidEvent as error:
        names = {"event_type": "name", "properties": "props"}
        raise _refuse(names.get(error.field, error.field), error.reason) from None
    return ParsedEvents([event])


def parse_pixel(query: bytes, encoder: EventEncoder) -> ParsedEvents:
    """A pixel's: the fields of an event as parameters, `page_view` unless it says otherwise; every
    other parameter is a property, and the page that shows the pixel gives `path`.

    Raises `EventRefused`.
    """
    found = parse_query(query, _MAX_PARAMETERS)
    given = {name: value for name, value in found if name in _PARAMETERS}
    properties: dict[str, Any] = {name: value for name, value in found if name not in _PARAMETERS}
    for name, value in _split_address(encoder.referrer).items():
        if value:
            properties.setdefault(name, value[:_LONGEST_TEXT])
    try:
        event = encoder.encode(
            given.get("event_type") or "page_view",
            given.get("user_id") or None,
            properties or None,
            read_query_time(given.get("timestamp", ""), encoder.received_at),
            given.get("event_id") or None,
            encoder.user_agent,
        )
    except InvalidEvent as error:
        raise _refuse(error.field, error.reason) from None
    return ParsedEvents([event])


def _parse_object(body: bytes, *, or_empty: bool = False) -> dict[str, Any]:
    """The object that a body is, mended where the usual decoder refuses it; `or_empty`: `null` and
    PHP's empty array are one without members."""
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


def _split_address(url: str) -> dict[str, str]:
    """Path and host of a page's address; empty for any other text."""
    try:
        parts = urlsplit(url)
        return {"path": parts.path or "/", "host": parts.hostname or ""} if parts.scheme else {}
    except ValueError:
        return {}


def _refuse(field: str, reason: str) -> EventRefused:
    return EventRefused(f"{field}: {reason}", field)
