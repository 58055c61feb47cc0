"""An ASGI application for each route of the collector, rather than a function of a request: a
single event should cost little more than the parsing of its body."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from starlette.types import Receive, Scope, Send

from pipeline.errors import ClientGone
from pipeline.web.collector.collector import JSON, Collector, EventFormat
from pipeline.web.collector.cross_origin import CrossOriginAnswers, describe_body
from pipeline.web.collector.formats.parsed_events import RejectedEvent
from pipeline.web.collector.request_head import RequestHead
from pipeline.web.errors import BodyTooSlow, InternalFault, MethodNotAllowed, RequestRefused
from pipeline.web.headers import NO_SNIFFING, NO_STORE, encode_headers
from pipeline.web.responses import encode_json

_KEPT_OPEN_BYTES = 64 * 1024
"""A connection is closed when a larger body than this is refused unread."""
_MOST_LISTED = 100
"""Rejected events that a response lists: it is not to be far larger than its request."""
_LONGEST_ERROR = 500
_NO_STORE = encode_headers(NO_STORE)

logger = logging.getLogger(__name__)


class Endpoint:
    """One route: takes events in its format and answers in it, errors and CORS included."""

    def __init__(self, collector: Collector, event_format: EventFormat) -> None:
        self._collector, self._format = collector, event_format
        self._answers = CrossOriginAnswers(collector, event_format.method)
        self._headers = describe_body(event_format.media_type, event_format.body)
        if event_format.method == "GET":
            self._headers += _NO_STORE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        event_format, head = self._format, RequestHead.parse(scope)
        try:
            if head.method == "OPTIONS":
                await self._answers.send_preflight(head, send)
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
            await self._send_error(head, send, InternalFault())
        else:
            headers, body = self._headers, event_format.body
            if parsed.rejected:
                body = encode_json(_describe_rejected(parsed.rejected))
                headers = describe_body(JSON, body)
            await self._answers.send(head, send, event_format.status, headers, body)

    async def _refuse(self, head: RequestHead, send: Send, refused: RequestRefused) -> None:
        """Answer at once, whatever of the body is still to come: the server takes little of it."""
        is_unread = head.has_body and not head.is_body_read and not isinstance(refused, BodyTooSlow)
        if is_unread and not 0 < head.declared_bytes <= _KEPT_OPEN_BYTES:
            refused.headers.setdefault("Connection", "close")
        await self._send_error(head, send, refused)

    async def _send_error(self, head: RequestHead, send: Send, refused: RequestRefused) -> None:
        if self._format.method == "GET" == head.method:
            # An image that cannot be shown is a hole in the page: what is wrong is in a header.
            said = ascii(f"{refused.code}: {refused.message}")[1:-1][:_LONGEST_ERROR].encode()
            headers = [*self._headers, (b"x-analytics-error", said)]
            headers += encode_headers(NO_SNIFFING | refused.headers)
            await self._answers.send(head, send, refused.status, headers, self._format.body)
            return
        await self._answers.send_error(head, send, refused, self._format.error_content(refused))


def _describe_rejected(rejected: Sequence[RejectedEvent]) -> dict[str, object]:
    """What a response says about the events of a batch that were not accepted: their number too
    where not all are listed."""
    described: dict[str, object] = {"success": True, "rejected": rejected[:_MOST_LISTED]}
    if len(rejected) > _MOST_LISTED:
        described["rejected_count"] = len(rejected)
    return described
