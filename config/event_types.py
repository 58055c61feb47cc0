"""Event types as settings name them."""

from __future__ import annotations

import json

from pipeline.contract import CONTROL_OR_SURROGATE, MAX_EVENT_TYPE_CHARACTERS


def decode(value: object, example: str) -> object:
    """What a variable's JSON text holds. Raises ValueError that shows an example."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError(f"must be {example}; {error}") from None


def check(event_type: str) -> None:
    """Raise ValueError unless it can be an event type."""
    longest = MAX_EVENT_TYPE_CHARACTERS
    if not 1 <= len(event_type) <= longest or CONTROL_OR_SURROGATE.search(event_type):
        raise ValueError(
            f"{event_type!r} cannot be an event type: 1 to {longest} characters, no control "
            "characters"
        )


def logged(value: object) -> object:
    """The setting `event_log` as it is meant: `all`, `none` or a list of event types."""
    if isinstance(value, str) and value.strip().lower() in {"all", "none"}:
        return value.strip().lower()
    rule = 'all, none or a JSON list of event types, such as ["page_view", "sale"]'
    types = decode(value, rule)
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        raise ValueError(f"must be {rule}")
    for name in types:
        check(name)
    return types
