"""The books: what came in, what became of it, and whether the two agree."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from pipeline.contract import PRIORITY_SUFFIXES, TAG_PREFIX
from pipeline.counting.batch import OUTCOMES
from pipeline.installation import queues_of
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_STATUS = Script("pipeline.reading.status")
MOST_TYPES = 1_000
_FIELDS = ("published", "consumed", *OUTCOMES)


@dataclass(frozen=True)
class RedisStatus:
    """What Redis holds, all of one instant: messages in the events queue, in flight and delayed
    until their eta, counters and batches that are not stored, and the books."""

    queue_depth: int
    unacknowledged: int
    delayed: int
    pending_counters: int
    inflight_batches: int
    books: dict[str, Any]


def read_status(client: redis.Redis, keys: Keys) -> RedisStatus:
    """Read the status. Raises redis.RedisError."""
    names = [keys.unacked, keys.pending_flush, keys.batches, keys.totals, keys.delayed]
    names += keys.live_buckets
    names += [queues_of(keys.prefix).events + suffix for suffix in PRIORITY_SUFFIXES]
    waiting, unacked, delayed, pending, open_batches, found = _STATUS.run(
        client, keys=names, args=[len(keys.live_buckets)]
    )
    totals = dict(zip(found[::2], found[1::2], strict=True))
    return RedisStatus(
        *(waiting, len(unacked), delayed, pending, open_batches), books(totals, waiting, unacked)
    )


def books(
    totals: Mapping[bytes, bytes], waiting: int, unacked: Collection[bytes]
) -> dict[str, Any]:
    """The running totals of events, in all and by event type, JSON-ready.

    `by_type` has the `MOST_TYPES` largest, largest first; `types` says how many there are.
    `totals` is the hash as Redis holds it, `waiting` the number of messages in the events queue and
    `unacked` the delivery tags of those being worked on, all of one instant. `balanced` says that
    consumed = counted + duplicate + dead + forgotten + expired, in all and of every type (what
    names none is `__unknown__`), and that no message of our producers is missing:
    `missing_messages` = published - consumed - waiting - unacknowledged - delayed. That number is
    below zero while messages of other producers wait in the queue.
    """
    numbers = {name.decode(): int(value) for name, value in totals.items()}
    found: dict[str, Any] = {field: numbers.get(field, 0) for field in _FIELDS}
    by_type = rank_types(numbers)
    ours = sum(tag.startswith(TAG_PREFIX.encode()) for tag in unacked)
    published, *elsewhere = (
        numbers.get(f"{name}_messages", 0) for name in ("published", "consumed", "delayed")
    )
    missing = published - sum(elsewhere) - waiting - ours
    return found | {
        "by_type": dict(islice(by_type.items(), MOST_TYPES)),
        "types": len(by_type),
        "claims": numbers.get("claims", 0),
        "expired_counters": numbers.get("expired_counters", 0),
        "repaired_counters": numbers.get("repaired_counters", 0),
        "unlogged": numbers.get("unlogged", 0),
        "audit_drift": numbers.get("audit_drift", 0),
        "missing_messages": missing,
        "balanced": all(map(_agree, (found, *by_type.values()))) and missing <= 0,
    }


def rank_types(numbers: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """The rows of the books, by event type, those of the most events first."""
    by_type: dict[str, dict[str, int]] = {}
    for name, value in sorted(numbers.items()):
        field, _, event_type = name.partition(":")
        if event_type:
            by_type.setdefault(event_type, {})[field] = value
    ranked = sorted(by_type.items(), key=lambda one: (-one[1].get("consumed", 0), one[0]))
    return dict(ranked)


def _agree(row: Mapping[str, int]) -> bool:
    outcomes = (row.get(outcome, 0) for outcome in OUTCOMES)
    return row.get("consumed", 0) == sum(outcomes)
