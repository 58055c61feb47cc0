"""When beat last asked for something, by Redis's clock: whether it is alive."""

from __future__ import annotations

import redis

from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_TICK = Script("pipeline.lanes.tick")


def note_tick(client: redis.Redis, keys: Keys) -> None:
    """Note that beat asks for something now. May be repeated. Raises redis.RedisError."""
    _TICK.run(client, keys=[keys.requests])


def read_tick(client: redis.Redis, keys: Keys) -> float | None:
    """When it last did (Unix time); None where it never has. Raises redis.RedisError."""
    ticked_ms = client.hget(keys.requests, "beat:ticked_ms")
    return None if ticked_ms is None else int(ticked_ms) / 1000


def measure_silence_s(client: redis.Redis, keys: Keys) -> int | None:
    """How long ago that is, in seconds. Raises redis.RedisError."""
    ticked_s = read_tick(client, keys)
    return None if ticked_s is None else max(0, int(client.time()[0] - ticked_s))
