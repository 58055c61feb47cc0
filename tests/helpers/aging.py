"""A clock that is moved, where none can be: not the clocks run ahead, all that is written down
grows older.

Redis and Postgres are then as they would be had nothing happened for so long: keys whose lifetime
has passed are gone, and every time lies further back. The times of events stay, since they are when
those happened. What a process holds in its memory, such as the beginning of a read, is for the test
to move.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import redis
from sqlalchemy import DateTime, Table, bindparam, update

from pipeline.postgres.tables import events, metadata
from pipeline.redis.keys import Keys
from pipeline.services import Services

_TIMES_OF_REQUESTS = tuple(
    f":{name}".encode()
    for name in ("asked_ms", "away_ms", "began_ms", "ended_ms", "since_ms", "tried_ms", "wanted")
)


def grow_older(services: Services, by: timedelta) -> None:
    """Let everything in Redis and Postgres be older by so much."""
    by_ms = round(by.total_seconds() * 1000)
    _shorten_lifetimes(services, by_ms)
    _move_batches(services, by_ms)
    _move_what_is_unacknowledged(services, by_ms)
    _move_duplicate_window(services, by_ms)
    _move_dead_letters(services, by_ms)
    move_requests(services.redis, services.keys, by_ms)
    pending_since = services.redis.hget(services.keys.totals, "pending_since_s")
    if pending_since is not None:
        moved_s = int(pending_since) - by_ms // 1000
        services.redis.hset(services.keys.totals, "pending_since_s", moved_s)
    _move_rows(services, by)


def _shorten_lifetimes(services: Services, by_ms: int) -> None:
    names = list(services.redis.scan_iter(count=1_000))
    pipeline = services.redis.pipeline()
    for name in names:
        pipeline.pexpiretime(name)
    ends_ms = pipeline.execute()
    for name, end_ms in zip(names, ends_ms, strict=True):
        if end_ms > 0:
            pipeline.pexpireat(name, end_ms - by_ms)  # what has passed is deleted
    pipeline.execute()


def _move_batches(services: Services, by_ms: int) -> None:
    # Of an open batch the time of its claim beyond OPEN, or the negative time if the version before
    # claimed it; of the others the time when they were settled.
    scores = services.redis.zrange(services.keys.batches, 0, -1, withscores=True)
    for batch_id, score in scores:
        services.redis.zincrby(services.keys.batches, by_ms if score <= 0 else -by_ms, batch_id)


def _move_what_is_unacknowledged(services: Services, by_ms: int) -> None:
    for tag in services.redis.zrange(services.keys.unacked_index, 0, -1):
        services.redis.zincrby(services.keys.unacked_index, -by_ms / 1000, tag)


def _move_duplicate_window(services: Services, by_ms: int) -> None:
    # A set is named by the number of its half of a window since 1970.
    halves = by_ms // (1000 * max(1, services.counters.options.dedup_window_s // 2))
    keys = services.keys
    for prefix in (keys.seen_event, keys.seen_event_before, keys.seen_task):
        names = [name.decode() for name in services.redis.scan_iter(f"{prefix}*")]
        numbers = sorted(int(name.removeprefix(prefix)) for name in names)
        for number in numbers if halves else []:  # the oldest first: none is written over
            services.redis.rename(f"{prefix}{number}", f"{prefix}{number - halves}")


def _move_dead_letters(services: Services, by_ms: int) -> None:
    # An entry's id begins with its time, and ids only grow: the stream is written anew.
    entries: Any = services.redis.xrange(services.keys.dead)
    services.redis.delete(services.keys.dead)
    for entry_id, fields in entries:
        written_ms, number = map(int, entry_id.split(b"-"))
        fields[b"at_s"] = int(fields[b"at_s"]) - by_ms // 1000
        services.redis.xadd(services.keys.dead, fields, id=f"{written_ms - by_ms}-{number}")


def move_requests(client: redis.Redis, keys: Keys, by_ms: int) -> None:
    """Let runs, and requests for them, be so much longer ago."""
    noted: Any = client.hgetall(keys.requests)
    moved: dict[bytes, str] = {}
    for field, value in noted.items():
        # Of what is wanted the time and the id of its request.
        if field.endswith(_TIMES_OF_REQUESTS):
            since_ms, *request_id = value.decode().split(" ", 1)
            moved[field] = " ".join([str(int(since_ms) - by_ms), *request_id])
    if moved:
        client.hset(keys.requests, mapping=moved)


def _move_rows(services: Services, by: timedelta) -> None:
    with services.engine.begin() as connection:
        for table in metadata.sorted_tables:
            moved = {name: table.c[name] - bindparam("by", by) for name in _times(table)}
            if moved:
                connection.execute(update(table).values(moved))


def _times(table: Table) -> list[str]:
    """The columns that say when something was done. In a primary key, a time is an event's, and so
    is that of a raw event."""
    return [
        column.name
        for column in table.columns
        if isinstance(column.type, DateTime) and not column.primary_key and table is not events
    ]
