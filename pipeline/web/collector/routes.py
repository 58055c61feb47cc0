"""Every route of the collector, with the format in which it takes events and answers."""

from __future__ import annotations

from functools import partial

from starlette.routing import Route

from pipeline.web.collector.collector import Collector, EventFormat
from pipeline.web.collector.endpoint import Endpoint
from pipeline.web.collector.formats import segment, single_events
from pipeline.web.collector.formats.parsed_events import MAX_BATCH_BYTES
from pipeline.web.collector.formats.segment_calls import CALLS
from pipeline.web.errors import RequestRefused

_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    b"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One transparent pixel, 43 bytes."""


def create_collector_routes(collector: Collector) -> list[Route]:
    """The routes that take events."""
    formats = _create_segment_formats()
    formats |= {
        "/api/event": EventFormat(
            single_events.parse_plausible,
            # What Plausible's script waits for.
            status=202,
            media_type=b"text/plain",
            body=b"ok",
            error_content=_plausible_error_content,
        ),
        "/track": EventFormat(single_events.parse_plain),
        "/click": EventFormat(partial(single_events.parse_plain, default_type="click")),
        "/pixel.gif": EventFormat(
            single_events.parse_pixel, method="GET", media_type=b"image/gif", body=_GIF
        ),
    }
    return [Route(path, Endpoint(collector, found)) for path, found in formats.items()]


def _create_segment_formats() -> dict[str, EventFormat]:
    create_format = partial(
        EventFormat, find_key=segment.find_write_key, error_content=_segment_error_content
    )
    batch = create_format(segment.parse_batch_in_steps, max_bytes=MAX_BATCH_BYTES)
    formats = {"/v1/batch": batch, "/v1/import": batch}
    for call in CALLS:
        single = create_format(partial(segment.parse_call, call))
        # Segment's script for browsers posts to the first letter.
        formats |= {f"/v1/{call}": single, f"/v1/{call[0]}": single}
    return formats


def _segment_error_content(refused: RequestRefused) -> object:
    return {"success": False, **refused.details()}


def _plausible_error_content(refused: RequestRefused) -> object:
    errors = {refused.field or "event": [refused.message]}
    return {"error": refused.details(), "errors": errors}
