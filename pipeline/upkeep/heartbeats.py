"""Which workers live, and which beat: each says so every few seconds, in Redis, by Redis's clock.

A worker that counts, flushes or waits says it; one that hangs or is gone does not. Unlike a ping of
Celery's, reading it costs one command and no waiting, and works with RabbitMQ too.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Literal, cast

import redis

from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_SEEN = Script("pipeline.upkeep.seen")
_SHARE_IDS = Script("pipeline.upkeep.share_ids")

WorkerKind = Literal["events", "flush"]
NodeKind = Literal[WorkerKind, "beat"]

EVERY_S = 5.0
SEEN_WITHIN_S = 45
"""A flush in the worker's own process may hold it up for half a minute, and an alarm has to come
within two."""
_REMEMBERED_S = 3_600
_MARK = "by-type"
"""In the name of a worker that knows event ids by source and type: see `ids_of_before.py`."""
_VERSION = "version="
"""Before the version of the worker, in the names of those that say it."""


@dataclass(frozen=True)
class Worker:
    """A worker as it said that it lives. `kind` is "events" or "flush", and one that works on both
    is there twice; `version` is empty where it did not say it."""

    kind: str
    name: str
    version: str
    silent_s: int
    """How long ago it was seen, in seconds."""

    @property
    def is_seen(self) -> bool:
        """Whether it counts as living."""
        return self.silent_s <= SEEN_WITHIN_S


def beat(client: redis.Redis, keys: Keys, kind: NodeKind, name: str) -> None:
    """Say that a node lives. May be repeated. Raises redis.RedisError."""
    said = f"{kind}:{_MARK}:{_VERSION}{_own_version()}:{name}"
    # Apart: the version before takes all that is among the workers for one.
    nodes = keys.beats if kind == "beat" else keys.workers
    _SEEN.run(client, keys=[nodes], args=[said, _REMEMBERED_S])


def share_ids(client: redis.Redis, keys: Keys, half_window_s: int) -> None:
    """Have workers enter what they count where the version before looks, while an event worker of
    it was seen within the last hour. May be repeated. Raises redis.RedisError."""
    args = ("events:", f"events:{_MARK}:", keys.seen_event_before, half_window_s)
    _SHARE_IDS.run(client, keys=[keys.workers], args=args)


def list_workers(client: redis.Redis, keys: Keys) -> list[Worker]:
    """The workers seen within the last hour, those seen last first; of one that was started again,
    as another version perhaps, what it said last. Raises redis.RedisError."""
    return _list_nodes(client, keys.workers)


def list_nodes(client: redis.Redis, keys: Keys) -> list[Worker]:
    """The same, and beat. Raises redis.RedisError."""
    return [*list_workers(client, keys), *_list_nodes(client, keys.beats)]


def _list_nodes(client: redis.Redis, key: str) -> list[Worker]:
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.zrange(key, 0, -1, withscores=True)
    (now_s, _), workers = pipeline.execute()
    found: dict[tuple[str, str], Worker] = {}
    for said, seen_s in cast("list[tuple[bytes, float]]", reversed(workers)):
        one = _read_worker(said.decode(errors="replace"), max(0, int(now_s - seen_s)))
        found.setdefault((one.kind, one.name), one)
    return list(found.values())


def measure_silence_s(client: redis.Redis, keys: Keys) -> dict[str, int]:
    """For each kind of worker seen within the last hour: how long ago the last one was seen, in
    seconds."""
    found: dict[str, int] = {}
    for one in list_workers(client, keys):
        found.setdefault(one.kind, one.silent_s)
    return found


def _read_worker(said: str, silent_s: int) -> Worker:
    kind, _, name = said.partition(":")
    name = name.removeprefix(f"{_MARK}:")
    said_version = ""
    if name.startswith(_VERSION):
        said_version, _, name = name.removeprefix(_VERSION).partition(":")
    return Worker(kind, name, said_version, silent_s)


@cache
def _own_version() -> str:
    return version("analytics-pipeline")
