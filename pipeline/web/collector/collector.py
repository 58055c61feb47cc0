"""The collector: takes events from browsers and servers, and says yes when they are published.

Its routes are ASGI applications of their own rather than functions of a request, since a single
event should cost little more than the parsing of its body.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import msgspec
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from pipeline.errors import ClientGone, ServerUnavailable
from pipeline.web.access import AccessKey
from pipeline.web.answers import Refused, unauthorised, unavailable
from pipeline.web.collector import forms, segment
from pipeline.web.collector.arrivals import MAX_BATCH_BYTES, MAX_EVENT_BYTES, Arrivals, Sender
from pipeline.web.collector.bodies import Budget, read_body, too_large, too_slow, unpacked
from pipeline.web.collector.gathering import Gatherer
from pipeline.web.collector.limiting import Limit
from pipeline.web.collector.patience import Patience
from pipeline.web.collector.requests import Head
from pipeline.web.parts import WebParts

_JSON = b"application/json"
_GIF = (
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
    b"!\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
)
"""One transparent pixel, 43 bytes."""
_PREFLIGHT_LASTS_S = 600
_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")
_encode = msgspec.json.Encoder().encode

Tell = Callable[[Refused], object]

logger = logging.getLogger(__name__)


def _told(refused: Refused) -> object:
    return {"error": _details(refused)}


def _told_segment(refused: Refused) -> object:
    """As Segment's clients read it."""
    return {"success": False, **_details(refused)}


def _told_plausible(refused: Refused) -> object:
    errors = {refused.field or "event": [refused.message]}
    return {"error": _details(refused), "errors": errors}


def _details(refused: Refused) -> dict[str, str]:
    details = {"code": refused.code, "message": refused.message}
    return details if refused.field is None else {**details, "field": refused.field}


@dataclass(frozen=True)
class Shape:
    """How one route takes events and answers: `read` makes them of the body, or of the query where
    the method is GET."""

    read: Callable[[bytes, Sender], Arrivals]
    limit: int = MAX_EVENT_BYTES
    method: str = "POST"
    status: int = 200
    media_type: bytes = _JSON
    body: bytes = b'{"success":true}'
    tell: Tell = _told


class Collector:
    """The write routes and what stands behind them. One for each event loop."""

    def __init__(self, parts: WebParts) -> None:
        options, keys = parts.options, parts.services.keys
        self._options, self._access = options, parts.access
        self._budget = Budget(options.waiting_bytes)
        self._reading = Patience(options.body_within_s)
        self._accepting = Patience(options.accepted_within_s)
        self._gatherer = Gatherer()
        self._of_address = Limit(parts.redis, keys, "address", options.address_requests_per_s)
        self._of_key = Limit(parts.redis, keys, "key", options.key_events_per_s)

    def routes(self) -> list[Route]:
        """The routes that take events."""
        of_segment = partial(Shape, tell=_told_segment)
        batch = of_segment(segment.batch, MAX_BATCH_BYTES)
        shapes = {"/v1/batch": batch}
        for call in segment.CALLS:
            shape = of_segment(partial(segment.single, call))
            # Segment's script for browsers posts to the first letter.
            shapes |= {f"/v1/{call}": shape, f"/v1/{call[0]}": shape}
        shapes["/v1/import"] = batch
        # The answer that Plausible's script waits for.
        told_ok = partial(Shape, status=202, media_type=b"text/plain", body=b"ok")
        shapes |= {
            "/api/event": told_ok(forms.plausible, tell=_told_plausible),
            "/track": Shape(forms.plain),
            "/click": Shape(partial(forms.plain, default_type="click")),
            "/pixel.gif": Shape(forms.pixel, method="GET", media_type=b"image/gif", body=_GIF),
        }
        return [Route(path, _Door(self, shape)) for path, shape in shapes.items()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While this is entered, events are published."""
        async with self._gatherer.running():
            yield
        self._of_address.close()
        self._of_key.close()

    async def take(self, head: Head, receive: Receive, shape: Shape) -> Arrivals:
        """The events of a request; when this returns, they are accepted.

        Raises `Refused`, with none of them accepted as far as anybody knows, and `ClientGone`.
        """
        if head.declared_bytes > shape.limit:
            raise too_large(shape.limit)
        task, body = asyncio.current_task(), b""
        if shape.method == "POST":
            try:
                with self._reading.limit(task):
                    body = await read_body(receive, shape.limit, self._budget)
            except TimeoutError:
                raise too_slow(self._reading.within_s) from None
        try:
            with self._accepting.limit(task):
                return await self._accept(head, body, shape)
        except (TimeoutError, ServerUnavailable) as error:
            raise unavailable(
                "the events could not be accepted in time; send them again under the same ids"
            ) from error
        finally:
            self._budget.give_back(len(body))

    async def _accept(self, head: Head, body: bytes, shape: Shape) -> Arrivals:
        _check_rate(await self._of_address.take(head.address, 1), "requests from this address")
        presented = head.key()
        key = await self._checked(presented, head.origin) if presented else None
        sender = head.sender(self._options.user_id_secret)
        content = head.query
        try:
            if shape.method == "POST":
                encoding = head.headers.get(b"content-encoding", b"")
                content = unpacked(body, encoding, shape.limit)
            arrivals = shape.read(content, sender)
        except Refused:
            # What is wrong with the events is told only to who may send some.
            if key is None:
                await self._checked(segment.write_key(content), head.origin)
            raise
        if key is None:
            key = await self._checked(arrivals.write_key, head.origin)
        arrivals.check()
        events = len(arrivals.events)
        _check_rate(await self._of_key.take(key.id, events), "events with this key")
        size = sum(map(len, arrivals.events))
        self._budget.take(size)
        try:
            await self._gatherer.publish(arrivals.events)
        finally:
            self._budget.give_back(size)
        return arrivals

    async def _checked(self, presented: str, origin: str) -> AccessKey:
        key = await self._access.check_async("write", presented) if presented else None
        if key is None:
            raise unauthorised(
                "a valid write key is needed: as user name of HTTP Basic, as bearer token, or as "
                "the parameter key; `analytics keys create write` makes one"
            )
        if origin and not key.allows(origin):
            raise Refused(
                403,
                "origin_not_allowed",
                f"pages of {origin[:200]} may not use this key; make one with --origin",
            )
        return key

    def allows_origin(self, origin: str) -> bool:
        """Whether a page of this origin may use any write key, and so read answers."""
        return bool(origin) and self._access.allows_origin(origin)

    async def refresh_keys(self) -> None:
        """Have the keys at hand; nothing is done while they are. Raises `ServerUnavailable`."""
        await self._access.check_async("write", "")


def _check_rate(wait_s: float, what: str) -> None:
    if wait_s > 0:
        seconds = str(math.ceil(wait_s))
        raise Refused(
            429,
            "too_many",
            f"too many {what}; try again in {seconds} s",
            headers={"Retry-After": seconds},
        )


class _Door:
    """One route of the collector."""

    def __init__(self, collector: Collector, shape: Shape) -> None:
        self._collector, self._shape = collector, shape
        self._headers = [(b"content-type", shape.media_type), _length(shape.body)]
        if shape.method == "GET":
            self._headers.append(_NO_STORE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        shape, head = self._shape, Head.of(scope)
        try:
            if head.method == "OPTIONS":
                await self._preflight(head, send)
                return
            if head.method != shape.method:
                raise _wrong_method(shape.method)
            arrivals = await self._collector.take(head, receive, shape)
        except ClientGone:
            return
        except Refused as refused:
            await self._refuse(head, send, refused)
        except Exception:
            logger.exception("a request ended in a fault")
            await self._refuse(head, send, _fault())
        else:
            headers, body = self._headers, shape.body
            if arrivals.rejected:
                body = _encode({"success": True, "rejected": arrivals.rejected})
                headers = [(b"content-type", _JSON), _length(body)]
            await self._answer(head, send, shape.status, headers, body)

    async def _refuse(self, head: Head, send: Send, refused: Refused) -> None:
        body = _encode(self._shape.tell(refused))
        headers = [(b"content-type", _JSON), _length(body), _NO_STORE, _NO_SNIFFING]
        headers += [(k.lower().encode(), v.encode()) for k, v in refused.headers.items()]
        await self._answer(head, send, refused.status, headers, body)

    async def _answer(
        self,
        head: Head,
        send: Send,
        status: int,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        origin = head.headers.get(b"origin")
        if origin is not None:
            headers = [*headers, (b"vary", b"origin")]
            if self._collector.allows_origin(head.origin):
                headers.append((b"access-control-allow-origin", origin))
                headers.append((b"access-control-expose-headers", b"retry-after"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _preflight(self, head: Head, send: Send) -> None:
        """A browser asks before it sends; it cannot show the key then, so the origin must be one
        that any key allows, and with the request itself that key is looked at."""
        try:
            await self._collector.refresh_keys()
        except ServerUnavailable as error:
            raise unavailable("the keys cannot be looked up; try again") from error
        if not self._collector.allows_origin(head.origin):
            raise Refused(403, "origin_not_allowed", "no write key allows pages of this origin")
        lasts_s = str(_PREFLIGHT_LASTS_S).encode()
        headers = [
            (b"access-control-allow-methods", self._shape.method.encode()),
            (b"access-control-allow-headers", b"authorization, content-type, content-encoding"),
            (b"access-control-max-age", lasts_s),
        ]
        await self._answer(head, send, 204, headers, b"")


def _fault() -> Refused:
    """The log has the traceback, the client has none."""
    return Refused(500, "fault", "a fault of this server; its log says more")


def _length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


def _wrong_method(method: str) -> Refused:
    return Refused(
        405, "method_not_allowed", f"use {method}", headers={"Allow": f"{method}, OPTIONS"}
    )
