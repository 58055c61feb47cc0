"""The salts of visitors' digests: a new one every day, the same for all web processes, and gone
when the day is over."""

from __future__ import annotations

import hashlib
import secrets
import time
from base64 import urlsafe_b64encode
from datetime import UTC, date, datetime, timedelta
from datetime import time as time_of_day
from typing import cast

import redis

from pipeline.redis.keys import Keys

_READ_AGAIN_S = 60
"""Redis may have lost it meanwhile; then all processes are to agree on another."""
_KEPT_ON = timedelta(minutes=5)
"""After its day, for web servers whose clocks are behind."""


class DailySalts:
    """The salts of today, and of yesterday around midnight. For one thread."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client, self._prefix = client, keys.salt
        self._salts: dict[date, tuple[bytes, float]] = {}

    def find(self, at: datetime) -> bytes:
        """The salt of a moment's day (UTC), made by the first process that asks. Raises
        redis.RedisError."""
        day = at.date()
        salt, until_s = self._salts.get(day, (b"", 0.0))
        if time.monotonic() >= until_s:
            salt = self._read(at)
            self._salts = {
                one: found for one, found in self._salts.items() if abs(one - day).days <= 1
            }
            self._salts[day] = salt, time.monotonic() + _READ_AGAIN_S
        return salt

    def _read(self, at: datetime) -> bytes:
        new = secrets.token_hex(32)
        end = datetime.combine(at.date(), time_of_day.min, UTC) + timedelta(days=1)
        # With NX and GET together, Redis answers what was there, or nothing where this is it now.
        found = self._client.set(
            f"{self._prefix}:{at.date().isoformat()}",
            new,
            nx=True,
            get=True,
            # By our clock, as the day is: to Redis, whose clock may be another, this may be over.
            ex=int((end - at + _KEPT_ON).total_seconds()),
        )
        return cast("bytes | None", found) or new.encode()


def digest(salt: bytes, *parts: str) -> str:
    """20 characters that say nothing of the parts once the salt is gone; no part but the last has a
    NUL."""
    text = "\0".join(parts).encode(errors="surrogatepass")
    found = hashlib.blake2b(text, key=salt, digest_size=15).digest()
    return urlsafe_b64encode(found).decode()
