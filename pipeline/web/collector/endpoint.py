"""An ASGI application for each route of the collector, rather than a function of a request: a
single event should cost little more than the parsing of its body."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from starlette.types import Receive, Scope, Send

from pipeline.errors import ClientGone, ServerUnavailable
from pipeline.web.collector.collector import JSON, Collector, EventFormat
from pipeline.web.collector.formats.parsed_events import RejectedEvent
from pipeline.web.collector.request_head import RequestHead
from pipeline.web.errors import (
    BodyTooSlow,
    InternalFault,
    MethodNotAllowed,
    OriginNotAllowed,
    RequestRefused,
    Unavailable,
)
from pipeline.web.headers import NO_SNIFFING, NO_STORE, encode_headers
from pipeline.web.responses import encode_json

_PREFLIGHT_LASTS_S = 600
_KEPT_OPEN_BYTES = 64 * 1024
"""A connection is closed when a larger body than this is refused unread."""
_MOST_LISTED = 100
"""Rejected events that a response lists: it is not to be far larger than its request."""
_NO_STORE = encode_headers(NO_STORE)
_ERROR_HEADERS = encode_headers(NO_STORE | NO_SNIFFING)

_Headers = Iterable[tuple[bytes, bytes]]

logger = logging.getLogger(__name__)


class Endpoint:
    """One route: takes events in its format and answers in it, errors and CORS included."""

    def __init__(self, collector: Collector, event_format: EventFormat) -> None:
        self._collector, self._format = collector, event_format
        self._headers = _describe_body(event_format.media_type, event_format.body)
        if event_format.method == "GET":
            self._headers += _NO_STORE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        event_format, head = self._format, RequestHead.parse(scope)
        try:
            if head.method == "OPTIONS":
                await self._answer_preflight(head, send)
                return
            if head.method != event_format.method:
                raise MethodNotAllowed(event_format.method)
            parsed = await self._collector.take(head, receive, event_format)
        except ClientGone:
            return
        except RequestRefused as refused:
            await self._refuse(head, send, refused)
        except Exception:
            logger.exception("a request ended in a fault")
            await self._answer_error(head, send, InternalFault())
        else:
            headers, body = self._headers, event_format.body
            if parsed.rejected:
                body = encode_json(_describe_rejected(parsed.rejected))
                headers = _describe_body(JSON, body)
            await self._answer(head, send, event_format.status, headers, body)

    async def _refuse(self, head: RequestHead, send: Send, refused: RequestRefused) -> None:
        """Answer at once, whatever of the body is still to come: the server takes little of it."""
        is_unread = head.has_body and not head.is_body_read and not isinstance(refused, BodyTooSlow)
        if is_unread and not 0 < head.declared_bytes <= _KEPT_OPEN_BYTES:
            refused.headers.setdefault("Connection", "close")
        await self._answer_error(head, send, refused)

    async def _answer_error(self, head: RequestHead, send: Send, refused: RequestRefused) -> None:
        body = encode_json(self._format.error_content(refused))
        headers = [*_describe_body(JSON, body), *_ERROR_HEADERS, *encode_headers(refused.headers)]
        await self._answer(head, send, refused.status, headers, body)

    async def _answer(
        self, head: RequestHead, send: Send, status: int, headers: _Headers, body: bytes
    ) -> None:
        origin = head.headers.get(b"origin")
        if origin is not None:
            headers = [*headers, (b"vary", b"origin")]
            if self._collector.allows_origin(head.origin):
                headers.append((b"access-control-allow-origin", origin))
                headers.append((b"access-control-expose-headers", b"retry-after"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer_preflight(self, head: RequestHead, send: Send) -> None:
        """A browser asks before it sends, and cannot show the key then. So the origin must be one
        that any key allows; the request itself is checked against its own key."""
        try:
            await self._collector.refresh_keys()
        except ServerUnavailable as error:
            raise Unavailable("the keys cannot be looked up; try again") from error
        if not self._collector.allows_origin(head.origin):
            raise OriginNotAllowed("no write key allows pages of this origin")
        lasts_s = str(_PREFLIGHT_LASTS_S).encode()
        headers = [
            (b"access-control-allow-methods", self._format.method.encode()),
            (b"access-control-allow-headers", b"authorization, content-type, content-encoding"),
            (b"access-control-max-age", lasts_s),
        ]
        await self._answer(head, send, 204, headers, b"")


def _describe_body(media_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]


def _describe_rejected(rejected: Sequence[RejectedEvent]) -> dict[str, object]:
    """What a response says about the events of a batch that were not accepted: their number too
    where not all are listed."""
    described: dict[str, object] = {"success": True, "rejected": rejected[:_MOST_LISTED]}
    if len(rejected) > _MOST_LISTED:
        described["rejected_count"] = len(rejected)
    return described
