"""What CORS allows pages of other origins: to send, with the headers that they ask for, and to read
the answer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from starlette.types import Send

from pipeline.errors import ServerUnavailable
from pipeline.web.collector.collector import JSON, Collector
from pipeline.web.collector.request_head import RequestHead
from pipeline.web.errors import OriginNotAllowed, RequestRefused, Unavailable
from pipeline.web.headers import NO_SNIFFING, NO_STORE, encode_headers
from pipeline.web.responses import encode_json

Headers = Iterable[tuple[bytes, bytes]]

_PREFLIGHT_LASTS_S = b"600"
_USUAL = b"authorization, content-type, content-encoding"
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]{1,100}")
_MOST_NAMES = 100
_LONGEST_NAMES = 4_096
_ERROR_HEADERS = encode_headers(NO_STORE | NO_SNIFFING)


def describe_body(media_type: bytes, body: bytes) -> list[tuple[bytes, bytes]]:
    """The headers that say what a body is."""
    return [(b"content-type", media_type), (b"content-length", str(len(body)).encode())]


class CrossOriginAnswers:
    """Sends the answers of one route to pages of any origin that a write key allows."""

    def __init__(self, collector: Collector, methods: str) -> None:
        """`methods` are those of the route, as a preflight names them."""
        self._collector, self._methods = collector, methods.encode()

    async def send(
        self, head: RequestHead, send: Send, status: int, headers: Headers, body: bytes
    ) -> None:
        """Answer a request."""
        origin = head.headers.get(b"origin")
        if origin is not None:
            headers = [*headers, (b"vary", b"origin")]
            if self._collector.allows_origin(head.origin):
                headers.append((b"access-control-allow-origin", origin))
                headers.append((b"access-control-expose-headers", b"retry-after"))
                if self._collector.names_origin(head.origin):
                    # Beacons are sent with credentials. No route here reads a cookie.
                    headers.append((b"access-control-allow-credentials", b"true"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def send_error(
        self, head: RequestHead, send: Send, refused: RequestRefused, content: object
    ) -> None:
        """Answer a request that is refused; `content` says why."""
        body = encode_json(content)
        headers = [*describe_body(JSON, body), *_ERROR_HEADERS, *encode_headers(refused.headers)]
        await self.send(head, send, refused.status, headers, body)

    async def send_preflight(self, head: RequestHead, send: Send) -> None:
        """A browser asks before it sends, and cannot show the key then. So the origin must be one
        that any key allows; the request itself is checked against its own key.

        Raises `OriginNotAllowed`, `Unavailable`.
        """
        try:
            await self._collector.refresh_keys()
        except ServerUnavailable as error:
            raise Unavailable("the keys cannot be looked up; try again") from error
        if not self._collector.allows_origin(head.origin):
            raise OriginNotAllowed("no write key allows pages of this origin")
        asked = head.headers.get(b"access-control-request-headers", b"")
        headers = [
            (b"access-control-allow-methods", self._methods),
            (b"access-control-allow-headers", allow_headers(asked)),
            (b"access-control-max-age", _PREFLIGHT_LASTS_S),
            (b"vary", b"access-control-request-headers"),
        ]
        await self.send(head, send, 204, headers, b"")


def allow_headers(asked: bytes) -> bytes:
    """The headers that a page may send: the usual ones, and all that a preflight asks for.

    A header that no route reads can do no harm, and libraries and tracers have many: refused, the
    event would be lost. What is no list of names, or a very long one, allows the usual ones.
    """
    names = [name.strip() for name in asked.lower().split(b",") if name.strip()]
    if len(asked) > _LONGEST_NAMES or len(names) > _MOST_NAMES:
        return _USUAL
    if not all(_NAME.fullmatch(name) for name in names):
        return _USUAL
    return b", ".join(dict.fromkeys([*_USUAL.split(b", "), *names]))
