"""How much one key and one address may send, over all web processes: counted in Redis.

A process takes a share of what is allowed in advance and spends it in memory, so that most requests
need no round trip. The first share of a window is spent on credit and paid for with the next: names
that come seldom, however many, cost Redis nothing. No address is kept: what Redis holds for twenty
seconds is a keyed hash, and the key of the hash is made anew every day.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import redis
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from pipeline.errors import ServerUnavailable
from pipeline.redis.keys import Keys

WINDOW_S = 10
"""Rates are averaged over so many seconds: a burst of ten seconds' worth is let through."""
_SHARE = 50
"""A share is this part of what a window allows."""
_SHARE_LASTS_S = WINDOW_S
_SALT_LASTS_S = 86_400
_MAX_BUCKETS = 20_000
"""Buckets held in memory; those used longest ago are forgotten, and ask Redis again."""
_RETRY_AFTER_S = 0.5
_MOST_ASKING = 64
"""Names that may wait for a share; while there are more, a process holds the limit for itself
alone, so that a flood of names delays none of them by its round trips to Redis."""


@dataclass(slots=True)
class _Bucket:
    """What is left of a share, and until when nothing more is to be asked for."""

    left: int = 0
    until_s: float = 0.0
    credit: int = 0
    """What of the share is not yet counted in Redis: all, or nothing."""
    owed: int = 0
    """What else was spent without asking Redis."""
    refused_until_s: float = -math.inf
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class RateLimit:
    """One limit, so much a second for each of many names; 0: no limit."""

    def __init__(self, client: redis.Redis, keys: Keys, name: str, per_s: int) -> None:
        self._client = client
        self._salt_key = keys.salt
        self._name = name
        self._amount = per_s * WINDOW_S
        self._share = max(self._amount // _SHARE, 1)
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._asking = 0
        self._thread = ThreadPoolExecutor(1, f"analytics-limit-{name}")
        self._salt, self._salt_read_at_s = b"", -math.inf
        self._away_until_s = -math.inf
        if per_s:
            storage = RedisStorage("redis://", client.connection_pool, key_prefix=keys.limit)
            self._limiter = SlidingWindowCounterRateLimiter(storage)
            self._item = RateLimitItemPerSecond(self._amount, WINDOW_S)

    def spend(self, name: str, cost: int) -> bool:
        """Take so much of the share in memory; False, with nothing taken, where that is too little:
        then `take` finds out more."""
        if not self._amount:
            return True
        now_s = time.monotonic()
        return _spend(self._find_bucket(name, now_s), cost, now_s)

    async def take(self, name: str, cost: int) -> float:
        """Take so much; returns 0, or after how many seconds to try again, with nothing taken.

        Raises `ServerUnavailable`.
        """
        if not self._amount:
            return 0
        now_s = time.monotonic()
        bucket = self._find_bucket(name, now_s)
        if _spend(bucket, cost, now_s):
            return 0
        if now_s < bucket.refused_until_s:
            return bucket.refused_until_s - now_s
        if (
            self._asking >= _MOST_ASKING
            and not bucket.asking.locked()
            and bucket.owed + cost <= self._amount
        ):
            bucket.owed += cost
            return 0
        return await self._ask(bucket, name, cost)

    def find_wait_s(self, name: str) -> float:
        """For how long nothing is taken for this name, as far as is known without Redis."""
        bucket = self._buckets.get(name)
        return max(0.0, bucket.refused_until_s - time.monotonic()) if bucket else 0.0

    async def _ask(self, bucket: _Bucket, name: str, cost: int) -> float:
        async with bucket.asking:
            now_s = time.monotonic()
            if _spend(bucket, cost, now_s):
                return 0
            if now_s < bucket.refused_until_s:
                return bucket.refused_until_s - now_s
            loop = asyncio.get_running_loop()
            take_share = partial(self._take_share, bucket, name, cost)
            self._asking += 1
            try:
                return await loop.run_in_executor(self._thread, take_share)
            finally:
                self._asking -= 1

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _find_bucket(self, name: str, now_s: float) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket()
            if len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(name)
        if now_s >= bucket.until_s and now_s >= bucket.refused_until_s + WINDOW_S:
            bucket.left = bucket.credit = self._share
            bucket.until_s = now_s + _SHARE_LASTS_S
        return bucket

    def _take_share(self, bucket: _Bucket, name: str, cost: int) -> float:
        """Take a share from Redis; 0, or how long to wait. Runs in the thread."""
        if time.monotonic() < self._away_until_s:
            raise ServerUnavailable("Redis does not answer")
        try:
            return self._hit(bucket, self._hash(name), min(cost, self._amount))
        except redis.RedisError as error:
            self._away_until_s = time.monotonic() + _RETRY_AFTER_S
            raise ServerUnavailable(f"Redis does not answer ({error})") from error

    def _hit(self, bucket: _Bucket, name: str, cost: int) -> float:
        """Take a whole share, or where that is too much no more than is needed; and pay for what
        was spent before."""
        unpaid = bucket.owed + (bucket.credit - bucket.left if bucket.credit else 0)
        for share in dict.fromkeys((max(cost, self._share), cost)):
            amount = min(share + unpaid, self._amount)
            if self._limiter.hit(self._item, self._name, name, cost=amount):
                bucket.left = max(amount - unpaid - cost, 0)
                bucket.credit = bucket.owed = 0
                bucket.until_s = time.monotonic() + _SHARE_LASTS_S
                return 0
        stats = self._limiter.get_window_stats(self._item, self._name, name)
        wait_s = min(max(stats.reset_time - time.time(), 0.2), WINDOW_S)
        # Not asked again for a moment, however often the client tries.
        bucket.refused_until_s = time.monotonic() + min(wait_s, 1.0)
        return wait_s

    def _hash(self, name: str) -> str:
        now_s = time.monotonic()
        if now_s - self._salt_read_at_s > WINDOW_S:
            self._client.set(self._salt_key, secrets.token_hex(16), ex=_SALT_LASTS_S, nx=True)
            self._salt = cast("bytes", self._client.get(self._salt_key) or b"")
            self._salt_read_at_s = now_s
        return hashlib.blake2b(name.encode(), key=self._salt, digest_size=16).hexdigest()


def _spend(bucket: _Bucket, cost: int, now_s: float) -> bool:
    if bucket.left >= cost and now_s < bucket.until_s:
        bucket.left -= cost
        return True
    return False
