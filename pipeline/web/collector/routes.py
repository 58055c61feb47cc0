"""Every route of the collector, with the format in which it takes events and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from starlette.types import ASGIApp, Receive, Scope, Send

from pipeline.web.collector.collector import Collector, EventFormat
from pipeline.web.collector.cross_origin import CrossOriginAnswers
from pipeline.web.collector.endpoint import Endpoint
from pipeline.web.collector.formats import plausible, posthog, segment, single_events
from pipeline.web.collector.formats.parsed_events import MAX_BATCH_BYTES
from pipeline.web.collector.formats.segment_calls import CALLS
from pipeline.web.collector.library_settings import (
    SEGMENT_SETTINGS,
    SettingsEndpoint,
    create_settings,
)
from pipeline.web.collector.request_head import PATH_KEY, RequestHead
from pipeline.web.errors import NotServed, RequestRefused

_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    b"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One transparent pixel, 43 bytes."""
_SERVED = (
    "Segment and RudderStack: /v1/batch, /v1/track and the other calls; Plausible: /api/event; "
    "PostHog: /batch, /capture; our own: /track, /click. Each may follow /k/KEY"
)


def create_formats() -> dict[str, EventFormat]:
    """The formats of the routes that take events, by path."""
    return (
        _create_segment_formats()
        | _create_posthog_formats()
        | {
            "/api/event": EventFormat(
                plausible.parse_event,
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
    )


def create_endpoints(collector: Collector) -> dict[str, ASGIApp]:
    """What answers a request, by its path."""
    taking = {path: Endpoint(collector, found) for path, found in create_formats().items()}
    telling = {path: SettingsEndpoint(collector, one) for path, one in create_settings().items()}
    return {**taking, **telling}


def find_endpoint(endpoints: Mapping[str, ASGIApp], scope: Scope) -> tuple[ASGIApp | None, Scope]:
    """What answers a request to a path that is not among those of the endpoints as it stands, and
    the scope for it; None for a path that is none of the collector's.

    Libraries join a host and a path, so slashes may be doubled or at the end. `/k/KEY` before a
    path gives the access key, for libraries that can be given nothing but a host.
    """
    names = [name for name in scope["path"].split("/") if name]
    key = ""
    if len(names) > 2 and names[0] == "k":
        key, names = names[1], names[2:]
    if len(names) == 4 and names[:2] == ["v1", "projects"]:
        key = key or names[2]
        del names[2]
    path = "/" + "/".join(names)
    found = endpoints.get(path)
    if path == SEGMENT_SETTINGS and not key:
        return None, scope
    return found, {**scope, "path": path, PATH_KEY: key} if found else scope


class UnknownPath:
    """Answers what is sent to a path that takes no events, so that its sender can see that it is
    lost, and where to send it. Pages see it too."""

    def __init__(self, collector: Collector) -> None:
        self._answers = CrossOriginAnswers(collector, "POST")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = RequestHead.parse(scope)
        refused: RequestRefused = NotServed(f"no events are taken here, but by POST to {_SERVED}")
        try:
            if head.method == "OPTIONS":
                await self._answers.send_preflight(head, send)
                return
        except RequestRefused as origin_refused:
            refused = origin_refused
        details = refused.details()
        # As Segment's, PostHog's and our own clients read an error.
        content = {"success": False, "error": details, "detail": refused.message, **details}
        await self._answers.send_error(head, send, refused, content)


def _create_segment_formats() -> dict[str, EventFormat]:
    create_format = partial(
        EventFormat, find_key=segment.find_write_key, error_content=_segment_error_content
    )
    batch = create_format(segment.parse_batch_in_steps, max_bytes=MAX_BATCH_BYTES)
    # Segment's libraries for browsers and apps post to the first letter, RudderStack's beacons to
    # the last.
    paths = ("/v1/batch", "/v1/b", "/v1/import", "/beacon/v1/batch")
    formats = dict.fromkeys(paths, batch)
    for call in CALLS:
        single = create_format(partial(segment.parse_call, call))
        formats |= {f"/v1/{call}": single, f"/v1/{call[0]}": single}
    return formats


def _create_posthog_formats() -> dict[str, EventFormat]:
    events = EventFormat(
        posthog.parse_events,
        find_key=posthog.find_api_key,
        max_bytes=MAX_BATCH_BYTES,
        body=b'{"status":1}',
        error_content=_posthog_error_content,
    )
    paths = ("/batch", "/capture", "/e", "/i/v0/e", "/i/v0/ai/batch")
    # There each event may have a result of its own; without one it is taken.
    newer = replace(events, body=b'{"results":{}}')
    return dict.fromkeys(paths, events) | {"/i/v1/analytics/events": newer}


def _segment_error_content(refused: RequestRefused) -> object:
    return {"success": False, **refused.details()}


def _posthog_error_content(refused: RequestRefused) -> object:
    return {"type": "invalid_request", "detail": refused.message, **refused.details()}


def _plausible_error_content(refused: RequestRefused) -> object:
    errors = {refused.field or "event": [refused.message]}
    return {"error": refused.details(), "errors": errors}
