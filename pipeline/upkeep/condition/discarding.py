"""Workers of other applications that would discard events, as our workers found them.

One that listens on Celery's default queue and has not loaded our tasks discards the events that a
client sends without a queue. To find them takes a second and an answer of each worker, so a flush
worker looks once a minute, and all others read what it found.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import cast

import redis

from pipeline.redis.keys import Keys

LOOK_EVERY_S = 60
_KNOWN_FOR_S = 3 * LOOK_EVERY_S
_MOST = 100


def note_discarding(client: redis.Redis, keys: Keys, workers: Sequence[str]) -> None:
    """Keep the names for three minutes. May be repeated. Raises redis.RedisError."""
    client.set(keys.workers_discarding, json.dumps(list(workers[:_MOST])), ex=_KNOWN_FOR_S)


def was_looked_for(client: redis.Redis, keys: Keys) -> bool:
    """Whether a worker did so within the last minute. Raises redis.RedisError."""
    return client.ttl(keys.workers_discarding) > _KNOWN_FOR_S - LOOK_EVERY_S


def read_discarding(client: redis.Redis, keys: Keys) -> list[str]:
    """The names, sorted; none where no worker looked of late. Raises redis.RedisError."""
    found = cast("bytes | None", client.get(keys.workers_discarding))
    return json.loads(found) if found else []
