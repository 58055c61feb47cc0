"""Reading a request's body: so many bytes at most, packed and unpacked."""

from __future__ import annotations

import zlib
from typing import Any

from starlette.types import Receive

from pipeline.errors import ClientGone
from pipeline.web.answers import Refused, unavailable

_GZIP = 16 + zlib.MAX_WBITS
_UNPACKED = frozenset({b"", b"identity"})


class Budget:
    """Bytes that all requests together may hold in memory."""

    def __init__(self, limit_bytes: int) -> None:
        self._left = limit_bytes

    def take(self, size: int) -> None:
        """Take room for so many bytes. Raises `Refused` when there is none; the client may come
        back."""
        if size > self._left:
            raise unavailable("too much waits to be accepted; try again")
        self._left -= size

    def give_back(self, size: int) -> None:
        """Leave the room to others."""
        self._left += size


async def read_body(receive: Receive, limit: int, budget: Budget) -> bytes:
    """The body as it came, at most `limit` bytes, for which room was taken from the budget.

    Raises `Refused` when it is larger, `ClientGone`; no room is taken then.
    """
    held = 0
    chunks: list[bytes] = []
    try:
        while True:
            message: Any = await receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            chunk = message.get("body", b"")
            if held + len(chunk) > limit:
                raise too_large(limit)
            budget.take(len(chunk))
            held += len(chunk)
            chunks.append(chunk)
            if not message.get("more_body", False):
                return chunks[0] if len(chunks) == 1 else b"".join(chunks)
    except BaseException:
        budget.give_back(held)
        raise


def unpacked(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The body without its Content-Encoding; gzip is unpacked no further than to `limit`.

    Raises `Refused` when more is in it, when it is damaged, or for another encoding.
    """
    encoding = encoding.strip().lower()
    if encoding in _UNPACKED:
        return body
    if encoding not in (b"gzip", b"x-gzip"):
        raise Refused(
            415,
            "unknown_encoding",
            f"Content-Encoding {encoding[:50].decode('latin-1')}: use gzip, or none",
        )
    parts: list[bytes] = []
    size = 0
    try:
        while body:
            member = zlib.decompressobj(_GZIP)
            parts.append(member.decompress(body, limit - size + 1))
            size += len(parts[-1])
            if size > limit:
                raise too_large(limit)
            if not member.eof:
                raise Refused(400, "damaged_gzip", "the gzip body ends too early; send all of it")
            # Several files packed one after the other are one, says RFC 1952.
            body = member.unused_data
    except zlib.error as error:
        raise Refused(400, "damaged_gzip", f"the body is no gzip ({error})") from None
    return b"".join(parts)


def too_slow(within_s: float) -> Refused:
    """The body did not come in time."""
    return Refused(
        408,
        "too_slow",
        f"the body did not come within {within_s:g} s; send it faster",
        headers={"Connection": "close"},
    )


def too_large(limit: int) -> Refused:
    """The body is larger than what this route takes."""
    return Refused(
        413,
        "too_large",
        f"the body is larger than {limit} bytes; send fewer or smaller events",
        # What is left of it will not be read.
        headers={"Connection": "close"},
    )
