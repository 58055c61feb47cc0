"""Attacks by what a body holds: packed, stalled, full of errors."""

from __future__ import annotations

import gzip
from functools import lru_cache

from tests.attacks.attacker import Target, addresses
from tests.attacks.wire import encode, request

_UNPACKED_BYTES = 500_000
_MOST_CALLS = 1_000
_GZIP = {"Content-Encoding": "gzip"}


@lru_cache
def large_batch() -> bytes:
    """A batch of a thousand events, as large as one may be, that packs to next to nothing."""
    room = _UNPACKED_BYTES // _MOST_CALLS - 60
    call = {"type": "track", "event": "x", "properties": {"a": "x" * room}}
    return encode({"batch": [call] * _MOST_CALLS})


async def packed_without_key(target: Target, per_s: float, sources: int) -> None:
    """Send large batches, packed and without a key."""
    sent = request("POST", "/v1/batch", gzip.compress(large_batch(), 9), _GZIP)
    await target.flood(lambda _: sent, per_s, addresses(sources))


async def packed_with_key_in_body(target: Target, per_s: float, sources: int) -> None:
    """The same with a key in the body that does not exist, as Segment's browsers send theirs."""
    batch = large_batch()[:-1] + b',"writeKey":"wk_000000000000_unknown"}'
    sent = request("POST", "/v1/batch", gzip.compress(batch, 9), _GZIP)
    await target.flood(lambda _: sent, per_s, addresses(sources))


async def stalled(target: Target, count: int, *, with_key: bool, sources: int = 1) -> None:
    """Hold so many requests whose bodies are nearly there and never end."""
    path = f"/v1/batch?key={target.page_key}" if with_key else "/v1/batch"
    headers = {"Content-Length": str(_UNPACKED_BYTES)}
    if with_key:
        headers["Origin"] = target.page_origin
    first = request("POST", path, b" " * (_UNPACKED_BYTES - 100_000), headers)
    await target.hold(count, addresses(sources), first, b" ", every_s=2)


async def empty_calls(target: Target, count: int, per_s: float) -> None:
    """Send batches of so many calls that are all wrong, by a page's key."""
    body = b'{"batch":[' + b",".join([b"{}"] * count) + b"]}"
    headers = {"Origin": target.page_origin}
    sent = request("POST", f"/v1/batch?key={target.page_key}", body, headers)
    await target.flood(lambda _: sent, per_s, addresses(1))
