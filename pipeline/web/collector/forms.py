"""The other shapes in which the collector takes an event: Plausible's, our own, and the query of a
pixel. Pure."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec

from pipeline.errors import InvalidEvent
from pipeline.event.model import FIELDS
from pipeline.web.answers import Refused
from pipeline.web.collector.arrivals import Arrivals, Sender

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode
_MAX_PARAMETERS = 100
_LONGEST_TEXT = 1_000
_PARAMETERS = frozenset({*FIELDS, "key"})
# What Plausible's script calls them is short.
_SHORT = {"name": "n", "url": "u", "domain": "d", "referrer": "r", "props": "p"}


def plain(body: bytes, sender: Sender, default_type: str | None = None) -> Arrivals:
    """Our own: a JSON object with the fields of an event. Raises `Refused`."""
    fields = _object(body)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise _refused(unknown[0][:100], f"unknown field; use {', '.join(FIELDS)}")
    event_type = fields.get("event_type", default_type)
    if event_type is None:
        raise _refused("event_type", "is required; name what happened")
    try:
        event = sender.encoded(
            event_type,
            fields.get("user_id"),
            fields.get("properties"),
            fields.get("timestamp"),
            fields.get("event_id"),
        )
    except InvalidEvent as error:
        raise _refused(error.field, error.reason) from None
    return Arrivals([event])


def plausible(body: bytes, sender: Sender) -> Arrivals:
    """Plausible's: `name`, `url`, `domain`, `referrer`, `props`, long or short; `pageview` counts
    as `page_view`. The properties are `props` and `path`, `host`, `domain`, `referrer`.

    `user_id` and `event_id` may be given too; without them nobody is known and a repeat counts.
    Raises `Refused`.
    """
    fields = _object(body)
    name, url, domain, referrer, props = (
        fields.get(long, fields.get(short)) for long, short in _SHORT.items()
    )
    if not isinstance(name, str) or not name:
        raise _refused("name", "is required; name what happened, such as pageview")
    if not isinstance(url, str) or not url:
        raise _refused("url", "is required; send the address of the page")
    if isinstance(props, str):  # so do older scripts
        props = _object(props.encode(errors="surrogatepass"))
    if props is not None and not isinstance(props, dict):
        raise _refused("props", "must be an object of names and values")
    properties = dict(props or {})
    for key, value in {**_parts(url), "domain": domain, "referrer": referrer}.items():
        if isinstance(value, str) and value:
            properties.setdefault(key, value[:_LONGEST_TEXT])
    event_type = "page_view" if name == "pageview" else name
    try:
        event = sender.encoded(
            event_type,
            fields.get("user_id"),
            properties,
            None,
            fields.get("event_id"),
            sender.user_agent,
        )
    except InvalidEvent as error:
        names = {"event_type": "name", "properties": "props"}
        raise _refused(names.get(error.field, error.field), error.reason) from None
    return Arrivals([event])


def pixel(query: bytes, sender: Sender) -> Arrivals:
    """A pixel's: the fields of an event as parameters, `page_view` unless it says otherwise; every
    other parameter is a property, and the page that shows the pixel gives `path`.

    Raises `Refused`.
    """
    try:
        found = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError as error:
        raise Refused(
            400,
            "invalid_query",
            f"the query cannot be read ({error}): at most {_MAX_PARAMETERS} parameters, in "
            "percent-encoded UTF-8",
        ) from None
    given = {name: value for name, value in found if name in _PARAMETERS}
    properties: dict[str, Any] = {name: value for name, value in found if name not in _PARAMETERS}
    for name, value in _parts(sender.referrer).items():
        if value:
            properties.setdefault(name, value[:_LONGEST_TEXT])
    try:
        event = sender.encoded(
            given.get("event_type", "page_view"),
            given.get("user_id") or None,
            properties or None,
            given.get("timestamp") or None,
            given.get("event_id") or None,
            sender.user_agent,
        )
    except InvalidEvent as error:
        raise _refused(error.field, error.reason) from None
    return Arrivals([event])


def _object(body: bytes) -> dict[str, Any]:
    try:
        return _decode_object(body)
    except RecursionError:
        raise Refused(400, "invalid_json", "is nested too deeply; flatten it") from None
    except ValueError as error:
        raise Refused(
            400, "invalid_json", f"the body is no JSON object ({str(error)[:200]}); correct it"
        ) from None


def _parts(url: str) -> dict[str, str]:
    """Path and host of a page's address, as far as it is one."""
    try:
        parts = urlsplit(url)
        return {"path": parts.path or "/", "host": parts.hostname or ""} if parts.scheme else {}
    except ValueError:
        return {}


def _refused(field: str, reason: str) -> Refused:
    return Refused(400, "invalid_event", f"{field}: {reason}", field=field)
