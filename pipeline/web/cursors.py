"""Where a page of raw events ends, as text for a URL."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode

import msgspec

from pipeline.event_log.queries import Position
from pipeline.web.errors import InvalidParameter
from pipeline.web.responses import encode_json

_decode = msgspec.json.Decoder(Position).decode


def encode_cursor(position: Position) -> str:
    """The text of a position."""
    return urlsafe_b64encode(encode_json(position)).decode().rstrip("=")


def decode_cursor(cursor: str) -> Position:
    """The position. Raises `InvalidParameter` for text that is none of ours."""
    foreign = InvalidParameter(
        "cursor", "is none of ours; give `next` of the page before as it was"
    )
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        position = _decode(urlsafe_b64decode(padded))
    except (ValueError, msgspec.DecodeError) as error:
        raise foreign from error
    if position.at.tzinfo is None:
        raise foreign
    return position
