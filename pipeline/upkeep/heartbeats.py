"""Which workers live: each says so every few seconds, in Redis, by Redis's clock.

A worker that counts, flushes or waits says it; one that hangs or is gone does not. Unlike a ping of
Celery's, reading it costs one command and no waiting, and works with RabbitMQ too.
"""

from __future__ import annotations

from typing import Literal, cast

import redis

from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_SEEN = Script("pipeline.upkeep.seen")
_SHARE_IDS = Script("pipeline.upkeep.share_ids")

WorkerKind = Literal["events", "flush"]

EVERY_S = 5.0
SEEN_WITHIN_S = 60
"""A flush in the worker's own process may hold it up for half a minute."""
_REMEMBERED_S = 3_600
_MARK = "by-type"
"""In the name of a worker that knows event ids by source and type: see `ids_of_before.py`."""


def beat(client: redis.Redis, keys: Keys, kind: WorkerKind, name: str) -> None:
    """Say that a worker lives. May be repeated. Raises redis.RedisError."""
    _SEEN.run(client, keys=[keys.workers], args=[f"{kind}:{_MARK}:{name}", _REMEMBERED_S])


def share_ids(client: redis.Redis, keys: Keys, half_window_s: int) -> None:
    """Have workers enter what they count where the version before looks, while an event worker of
    it was seen within the last hour. May be repeated. Raises redis.RedisError."""
    args = ("events:", f"events:{_MARK}:", keys.seen_event_before, half_window_s)
    _SHARE_IDS.run(client, keys=[keys.workers], args=args)


def measure_silence_s(client: redis.Redis, keys: Keys) -> dict[str, int]:
    """For each kind of worker seen within the last hour: how long ago the last one was seen, in
    seconds."""
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.zrange(keys.workers, 0, -1, withscores=True)
    (now_s, _), workers = pipeline.execute()
    found: dict[str, int] = {}
    for name, seen_s in cast("list[tuple[bytes, float]]", workers):
        kind = name.decode(errors="replace").partition(":")[0]
        silent = max(0, int(now_s - seen_s))
        found[kind] = min(silent, found.get(kind, silent))
    return found
