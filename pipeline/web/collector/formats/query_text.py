"""The query of a pixel, as mail programs, tag managers and old scripts write it. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import unquote, unquote_to_bytes

from pipeline.errors import InvalidEvent
from pipeline.event.rules import check_timestamp
from pipeline.event.times import read_time
from pipeline.web.collector.formats.tolerant import decode_bytes

_ESCAPED = re.compile(r"%u([0-9A-Fa-f]{4})")
"""What JavaScript's `escape()` makes of a character past U+00FF; the others are Latin-1 there."""
_LOST_PLUS = re.compile(r"(:\d\d(?:[.,]\d{1,9})?|GMT|UTC) {1,2}((?:0\d|1[0-4]):?\d\d)(?= |$)")
"""An offset whose plus sign the query means as a space."""


def parse_query(query: bytes, most: int) -> list[tuple[str, str]]:
    """The parameters of a query, at most so many; what is behind them is left out."""
    parameters = [part.partition(b"=") for part in query.split(b"&", most)[:most] if part]
    return [(_decode(name), _decode(value)) for name, _, value in parameters]


def read_query_time(text: str, now: datetime) -> datetime | None:
    """The time in a parameter; one without a zone is in UTC. None for what is no time, or too far
    ahead: an image has no place for an error, and its event counts when it comes."""
    at = read_time(_LOST_PLUS.sub(r"\1+\2", text))
    if at is None:
        return None
    with suppress(InvalidEvent):
        return check_timestamp(at if at.tzinfo else at.replace(tzinfo=UTC), now)
    return None


def _decode(part: bytes) -> str:
    part = part.replace(b"+", b" ")
    if b"%u" in part and _ESCAPED.search(text := part.decode("latin-1")):
        return unquote(_ESCAPED.sub(lambda found: chr(int(found[1], 16)), text), "latin-1")
    return decode_bytes(unquote_to_bytes(part))
