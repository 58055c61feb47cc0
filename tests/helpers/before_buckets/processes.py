"""Workers and flushers of the version before the buckets: its own scripts, called as it did.

That version gave each counter of a user or a value a key of its own, claimed a batch in parts, and
knew an open batch by its negative score. What did not change since, such as the SQL of a flush, is
that of today.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast
from uuid import uuid4

import msgspec

from pipeline.counting.batch import Applied, Batch, Delivery
from pipeline.counting.increments import OTHER
from pipeline.days import hour_text
from pipeline.flushing.claims import BATCH_LISTED_S, Claim
from pipeline.redis.counters import QuarterCounter
from pipeline.redis.keys import BUCKETS, Keys, key_text
from pipeline.redis.scripts import Script
from pipeline.services import Services

_APPLY = Script("tests.helpers.before_buckets.apply")
_CLAIM = Script("tests.helpers.before_buckets.claim")
_SETTLE = Script("tests.helpers.before_buckets.settle")
_TAKE_OVER = Script("tests.helpers.before_buckets.take_over")


@dataclass
class WorkerBefore:
    """Counts events as a worker of the version before."""

    services: Services

    def apply(self, deliveries: Sequence[Delivery], now: datetime) -> Applied:
        """Consume the messages and count their events in one step."""
        counters, keys = self.services.counters, self.services.keys
        batch = Batch(deliveries, counters.options.event_log)
        erased = counters.read_erased_users()
        while True:
            prepared = batch.prepare(counters.options.count_by, keys, now, erased)
            packed = msgspec.msgpack.encode(_as_before(prepared, keys) | counters.limits)
            reply = _APPLY.run(
                self.services.redis,
                keys=[keys.unacked, keys.unacked_index, keys.pending_flush, keys.totals, keys.dead],
                args=[packed, *batch.bodies, *batch.blobs],
            )
            if reply[0] == 1:
                return batch.applied(pending=reply[1], unlogged=reply[2])
            if reply[0] == 2:
                erased = counters.read_erased_users()
            else:
                batch.leave_out(*reply[1:])


def _as_before(batch: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """The batch with a key for each counter, and no buckets: hours in place of their quarters, and
    no sums, which that version did not know of."""
    counters = Counter[str](batch["counters"])
    for bucket, (fields, increments) in batch["buckets"].items():
        for name, n in zip(map(keys.name_of, fields), increments, strict=True):
            counter = keys.parse(name)
            if isinstance(counter, QuarterCounter):
                counters[keys.hourly(counter.event_type, hour_text(counter.quarter))] += n
            elif bucket < BUCKETS:
                counters[name] = n
    values = [
        {
            "values_key": group.values_key,
            "other_key": keys.name_of(group.rest_field),
            "expire_at_s": group.expire_at_s,
            "counters": [
                *((value, keys.name_of(one), n) for value, _, one, n in group.counters),
                *([(OTHER, keys.name_of(group.rest_field), group.rest)] if group.rest else []),
            ],
        }
        for group in batch["values"]
    ]
    kept = {name: part for name, part in batch.items() if name != "buckets"}
    return kept | {"counters": counters, "values": values}


@dataclass
class BatchBefore:
    """A batch that a flusher of the version before claims in parts, and what it knows of it."""

    batch_id: str
    claim: tuple[int, int] = (0, 0)
    """Epoch and number."""
    counts: Counter[str] = field(default_factory=Counter)
    parts: int = 0
    pending: int = 1

    def as_claim(self) -> Claim:
        """As today's store takes it."""
        return Claim(
            self.batch_id, *self.claim, dict(self.counts), (), self.pending, len(self.counts)
        )


@dataclass
class FlusherBefore:
    """Flushes as the version before."""

    services: Services

    def claim_part(self, batch: BatchBefore, limit: int, newest: tuple[int, int]) -> BatchBefore:
        """Claim the next part of the batch, up to `limit` counters."""
        keys = self.services.keys
        batch.parts += 1
        batch.pending, epoch, number, *taken = _CLAIM.run(
            self.services.redis,
            keys=[
                *(keys.pending_flush, keys.inflight + batch.batch_id),
                *(keys.batches, keys.totals, keys.dead),
            ],
            args=[batch.batch_id, limit, *newest, batch.parts],
        )
        assert batch.pending >= 0, "Redis went back"
        batch.claim = epoch, number
        pairs = zip(taken[::2], taken[1::2], strict=True)
        batch.counts.update({key_text(name): int(n) for name, n in pairs})  # adds
        return batch

    def claim_batch(self, size: int, part: int, newest: tuple[int, int]) -> BatchBefore:
        """A new batch of up to `size` counters, claimed in parts of `part`."""
        batch = BatchBefore(uuid4().hex)
        while batch.pending and len(batch.counts) < size:
            before = batch.counts.total()
            self.claim_part(batch, min(part, size - len(batch.counts)), newest)
            if batch.counts.total() == before:
                break
        return batch

    def take_over(self, batch_id: str) -> Claim:
        """What the journal holds; number 0 when it is there no longer."""
        keys = [self.services.keys.inflight + batch_id]
        found = iter(_TAKE_OVER.run(self.services.redis, keys=keys))
        fields = dict(zip(found, found, strict=True))
        epoch, number = map(int, fields.get(b"#claim", b"0:0").split(b":"))
        counts = {key_text(k): int(n) for k, n in fields.items() if not k.startswith(b"#")}
        return Claim(batch_id, epoch, number, counts)

    def settle(self, batch_id: str) -> None:
        keys = self.services.keys
        _SETTLE.run(
            self.services.redis,
            keys=[keys.inflight + batch_id, keys.batches],
            args=[batch_id, BATCH_LISTED_S],
        )

    def open_batches(self) -> list[str]:
        found = self.services.redis.zrangebyscore(self.services.keys.batches, "-inf", 0)
        return [name.decode() for name in cast("list[bytes]", found)]

    def store(self, claim: Claim) -> int:
        """Store the batch; returns how many counters."""
        with self.services.store.transaction() as transaction:
            return transaction.save(claim, ()) or 0

    def flush(self, size: int = 1_000, part: int = 250) -> int:
        """A whole flush, what others left first; returns how many counters it stored."""
        stored = 0
        for batch_id in self.open_batches():
            claim = self.take_over(batch_id)
            stored += self.store(claim) if claim.number else 0
            self.settle(batch_id)
        batch = BatchBefore("")
        while batch.pending:
            with self.services.store.transaction() as transaction:
                batch = self.claim_batch(size, part, transaction.newest_claim())
                if batch.claim[1]:
                    stored += transaction.save(batch.as_claim(), ()) or 0
            if batch.claim[1]:
                self.settle(batch.batch_id)
        return stored
