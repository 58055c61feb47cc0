"""Plausible's events, as its script, its trackers and programs send them. Pure.

| `name`                    | event type     | properties                                      |
| ------------------------- | -------------- | ----------------------------------------------- |
| `pageview`                | `page_view`    | `props`; `path`, `host`, `domain`, `referrer`   |
| `engagement`, `pageleave` | `time_on_page` | the same, with `seconds` and `scroll_depth`     |
| any other                 | its own        | the same                                        |

Each field has a long and a short name. What `props` hold already stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from pipeline.errors import InvalidEvent
from pipeline.web.collector.formats.event_encoder import EventEncoder
from pipeline.web.collector.formats.parsed_events import ParsedEvents
from pipeline.web.collector.formats.single_events import (
    LONGEST_TEXT,
    parse_object,
    refuse,
    split_address,
)
from pipeline.web.collector.visits.context import Context

_NAMES = {
    "name": ("name", "n"),
    "url": ("url", "u"),
    "domain": ("domain", "d"),
    "referrer": ("referrer", "r"),
    "props": ("props", "p", "meta", "m"),
    "revenue": ("revenue", "$"),
    "hash": ("hashMode", "h"),
}
_EVENT_TYPES = {
    "pageview": "page_view",
    "engagement": "time_on_page",
    "pageleave": "time_on_page",
}
_MOST_ENGAGED_MS = 7 * 86_400_000
_MOST_SCROLLED = 100
"""Percent of a page; more says that it is not known."""


def parse_event(body: bytes, encoder: EventEncoder) -> ParsedEvents:
    """The event of a body. `user_id` and `event_id` may be given too; without them the user is
    unknown and a repeat counts. Raises `RequestRefused`."""
    fields = parse_object(body)
    name, url = _find(fields, "name"), _find(fields, "url")
    if not isinstance(name, str) or not name:
        raise refuse("name", "is required; name what happened, such as pageview")
    if not isinstance(url, str) or not url:
        raise refuse("url", "is required; send the address of the page")
    properties = {**(_find_object(fields, "props") or {})}
    event_type = _EVENT_TYPES.get(name, name)
    if event_type == "time_on_page":
        _add_engagement(fields, properties)
    for key, value in _describe_page(fields, url).items():
        if isinstance(value, str) and value:
            properties.setdefault(key, value[:LONGEST_TEXT])
    revenue = _find_object(fields, "revenue")
    if revenue and "amount" in revenue:
        properties.setdefault("revenue", revenue["amount"])
        properties.setdefault("currency", revenue.get("currency"))
    try:
        event = encoder.encode(
            event_type,
            fields.get("user_id"),
            properties,
            None,
            fields.get("event_id"),
            Context(user_agent=encoder.user_agent, page={"url": url}),
        )
    except InvalidEvent as error:
        names = {"event_type": "name", "properties": "props"}
        raise refuse(names.get(error.field, error.field), error.reason) from None
    return ParsedEvents([event])


def _find(fields: Mapping[str, Any], field: str) -> Any:
    return next((fields[name] for name in _NAMES[field] if name in fields), None)


def _find_object(fields: Mapping[str, Any], field: str) -> dict[str, Any] | None:
    """An object, which older scripts send as JSON in a text, and PHP as an empty array."""
    found = _find(fields, field)
    if isinstance(found, str):
        found = parse_object(found.encode(errors="replace"), or_empty=True)
    if found is not None and found != [] and not isinstance(found, dict):
        raise refuse(field, "must be an object of names and values")
    return found or None


def _add_engagement(fields: Mapping[str, Any], properties: dict[str, Any]) -> None:
    """Milliseconds for which the page was looked at since it was last said, and how far down."""
    engaged_ms, scrolled = fields.get("e"), fields.get("sd")
    if _is_number(engaged_ms) and 0 <= engaged_ms <= _MOST_ENGAGED_MS:
        properties.setdefault("seconds", round(engaged_ms / 1_000))
    if _is_number(scrolled) and 0 <= scrolled <= _MOST_SCROLLED:
        properties.setdefault("scroll_depth", round(scrolled))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _describe_page(fields: Mapping[str, Any], url: str) -> dict[str, Any]:
    page: dict[str, Any] = split_address(url)
    if page and _find(fields, "hash"):
        # The route of an application; not what may hold a token.
        route = urlsplit(url).fragment.partition("?")[0]
        if route and "=" not in route:
            page["path"] += f"#{route}"
    return {**page, "domain": _find(fields, "domain"), "referrer": _find(fields, "referrer")}
