"""Reading a request's body: at most so many bytes, packed and unpacked."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

from starlette.types import Receive

from pipeline.errors import ClientGone
from pipeline.web.errors import RequestRefused, TooLarge

_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_UNPACKED = frozenset({b"", b"identity"})
_PACKED = frozenset({b"gzip", b"x-gzip", b"deflate"})
_MOST_MEMBERS = 64
"""Files packed one after the other in a gzip body, each of which costs as much as kilobytes."""


async def read_body(receive: Receive, max_bytes: int, take: Callable[[int], object]) -> bytes:
    """The body as it came; `take` is called with the size of each part before it is kept.

    Raises `TooLarge` past `max_bytes`, `ClientGone`, and what `take` does.
    """
    taken = 0
    chunks: list[bytes] = []
    while True:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        if taken + len(chunk) > max_bytes:
            raise TooLarge.for_body(max_bytes)
        take(len(chunk))
        taken += len(chunk)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def unpack_body(body: bytes, encoding: bytes, max_bytes: int) -> bytes:
    """The body without its Content-Encoding; gzip, and deflate, which is zlib's format, are
    unpacked no further than to `max_bytes`.

    Raises `RequestRefused` when more is in it, when it is damaged, or for another encoding.
    """
    encoding = encoding.strip().lower()
    if encoding in _UNPACKED:
        return body
    if encoding in _PACKED:
        return _unpack_gzip(body, max_bytes)
    shown = encoding[:50].decode("latin-1")
    raise RequestRefused(
        415, "unknown_encoding", f"Content-Encoding {shown}: use gzip, deflate, or none"
    )


def _unpack_gzip(body: bytes, max_bytes: int) -> bytes:
    """Like `gzip.GzipFile`, in a tenth of its time, which is most of what a batch costs."""
    parts: list[bytes] = []
    size = 0
    try:
        while body:
            if len(parts) == _MOST_MEMBERS:
                raise RequestRefused(
                    400, "damaged_gzip", f"more than {_MOST_MEMBERS} gzip members; pack it as one"
                )
            member = zlib.decompressobj(_GZIP_OR_ZLIB)
            parts.append(member.decompress(body, max_bytes - size + 1))
            size += len(parts[-1])
            if size > max_bytes:
                raise TooLarge.for_body(max_bytes)
            if not member.eof:
                raise RequestRefused(
                    400, "damaged_gzip", "the gzip body ends too early; send all of it"
                )
            # Several files packed one after the other are one, says RFC 1952.
            body = member.unused_data
    except zlib.error as error:
        raise RequestRefused(400, "damaged_gzip", f"the body is no gzip ({error})") from None
    return b"".join(parts)
