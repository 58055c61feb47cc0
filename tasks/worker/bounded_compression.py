"""Compressed messages, unpacked no further than a bound: 300 KB may stand for 300 MB.

This changes kombu's compressions for the whole process: it is never called from `pipeline`.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

from kombu import compression

MAX_BYTES = 32 * 1024 * 1024
"""Of a message when it is unpacked; our own producers send at most some MiB."""

_UNBOUNDED = ("application/x-brotli", "application/zstd")


def install() -> None:
    """Replace kombu's ways of unpacking; those whose library has no bound are refused."""
    bounded: dict[str, Callable[[], Any]] = {
        "application/x-gzip": zlib.decompressobj,
        "application/x-bz2": bz2.BZ2Decompressor,
        "application/x-lzma": lzma.LZMADecompressor,
    }
    for content_type, make in bounded.items():
        encode, _ = compression.get_encoder(content_type)
        compression.register(encode, _unpack_with(make), content_type)
    for content_type in _UNBOUNDED:
        compression.register(_refuse, _refuse, content_type)


def _unpack_with(make: Callable[[], Any]) -> Callable[[bytes], bytes]:
    def unpack(body: bytes) -> bytes:
        decompressor = make()
        unpacked: bytes = decompressor.decompress(body, MAX_BYTES)
        if not decompressor.eof:
            raise ValueError(f"is cut, or unpacks to more than {MAX_BYTES} bytes")
        return unpacked

    return unpack


def _refuse(body: bytes) -> bytes:
    raise ValueError("this compression is not accepted; use gzip")
