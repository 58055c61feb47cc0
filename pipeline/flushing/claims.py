"""The Redis side of a flush: claim a batch of counters into a journal, take one over, settle it.

Each is one Lua script, so it happens whole or not at all, and may be repeated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast
from uuid import uuid4

import redis

from pipeline.errors import RedisWentBack
from pipeline.flushing.pace import CLAIMED_AT_ONCE, Pace
from pipeline.redis.keys import Keys, key_text
from pipeline.redis.scripts import Script

BATCH_LISTED_S = 86_400
_ACCEPT = Script("pipeline.flushing.accept")
_CLAIM = Script("pipeline.flushing.claim")
_NOTE_FLUSH = Script("pipeline.flushing.note_flush")
_SETTLE = Script("pipeline.flushing.settle")
_TAKE_OVER = Script("pipeline.flushing.take_over")


@dataclass(frozen=True)
class Claim:
    """A named batch of counters taken out of the live keys; `number` 0 means that there was nothing
    to take."""

    batch_id: str
    epoch: int
    number: int
    counts: dict[str, int]
    pending: int


class Claims:
    """The claims of one Redis under one prefix. Without state but the client; threads may share
    it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def pending(self) -> int:
        """How many counters wait for a flush."""
        return self.client.scard(self.keys.pending_flush)

    def claim(
        self, batch_id: str, limit: int, newest_stored: tuple[int, int], part: int = 1
    ) -> Claim:
        """Move up to `limit` counters into the journal under `batch_id`, as its first, second …
        part; returns these. To repeat the newest part takes nothing more and returns all that the
        batch holds. Raises `RedisWentBack`, with nothing taken, when Redis is behind
        `newest_stored`, the (epoch, claim number) that the ledger has reached."""
        keys, journal = self.keys, self.keys.inflight + batch_id
        reply = _CLAIM.run(
            self.client,
            keys=[keys.pending_flush, journal, keys.batches, keys.totals, keys.dead],
            args=[batch_id, limit, *newest_stored, part],
        )
        if reply[0] == -1:
            raise _went_back(reply[1:], newest_stored)
        pending, epoch, number, *taken = reply
        pairs = iter(taken)
        counts = {key_text(name): int(value) for name, value in zip(pairs, pairs, strict=True)}
        return Claim(batch_id, epoch, number, counts, pending)

    def claim_batch(
        self, size: int, newest_stored: tuple[int, int], pace: Pace | None = None
    ) -> Claim:
        """A new batch of up to `size` counters, claimed in small parts or at this pace."""
        batch_id, counts, part = uuid4().hex, Counter[str](), 0
        while True:
            part += 1
            limit = min(pace.at_once() if pace else CLAIMED_AT_ONCE, size - len(counts))
            claim = self.claim(batch_id, limit, newest_stored, part)
            counts.update(claim.counts)  # adds
            if not claim.counts or not claim.pending or len(counts) >= size:
                return replace(claim, counts=counts)

    def guard(self, newest_stored: tuple[int, int]) -> None:
        """Raise `RedisWentBack` when Redis is behind what the ledger has reached; takes nothing."""
        self.claim("", 0, newest_stored)

    def take_over(self, batch_id: str) -> Claim:
        """What the journal holds under `batch_id`; number 0 when it is there no longer.

        A flush that is still claiming the batch adds nothing to it after this: whichever of the two
        stores it, the same is stored. May be repeated.
        """
        found = iter(_TAKE_OVER.run(self.client, keys=[self.keys.inflight + batch_id]))
        fields = dict(zip(found, found, strict=True))
        epoch, number = map(int, fields.get(b"#claim", b"0:0").split(b":"))
        counts = {
            key_text(name): int(value)
            for name, value in fields.items()
            if not name.startswith(b"#")
        }
        return Claim(batch_id, epoch, number, counts, pending=0)

    def settle(self, batch_id: str) -> None:
        """Mark a stored batch as settled and let go of its counts. May be repeated."""
        _SETTLE.run(
            self.client,
            keys=[self.keys.inflight + batch_id, self.keys.batches],
            args=[batch_id, BATCH_LISTED_S],
        )

    def listed(self, batch_ids: Sequence[str]) -> set[str]:
        """Those of the batches that are open or were settled within a day."""
        scores = self.client.zmscore(self.keys.batches, list(batch_ids)) if batch_ids else []
        return {one for one, score in zip(batch_ids, scores, strict=True) if score is not None}

    def open_batches(self) -> list[str]:
        """Ids of the batches that are claimed and not settled, newest claim first."""
        found = self.client.zrangebyscore(self.keys.batches, "-inf", 0)
        return [name.decode() for name in cast("list[bytes]", found)]

    def oldest_pending_s(self) -> int:
        """Seconds that a counter may have waited for a flush, or since it was claimed for a batch
        that is not settled; 0 when there is neither."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.scard(self.keys.pending_flush)
        pipeline.hget(self.keys.totals, "pending_since_s")
        pipeline.zrevrangebyscore(self.keys.batches, 0, "-inf", 0, 1, withscores=True)
        (now_s, _), pending, since_s, open_ = pipeline.execute()
        began_s = [int(since_s)] if pending and since_s else []
        began_s += [int(-score) // 1000 for _, score in open_]
        return max(0, int(now_s) - min(began_s, default=int(now_s)))

    def note_flush(self, began_s: int) -> None:
        """Note that what is pending now came after `began_s` (Redis's clock)."""
        _NOTE_FLUSH.run(self.client, keys=[self.keys.totals], args=[began_s])

    def start_epoch(self, epoch: int) -> None:
        """Number claims anew under `epoch`; done when an older state of Redis is accepted."""
        _ACCEPT.run(
            self.client,
            keys=[self.keys.batches, self.keys.totals],
            args=[epoch, self.keys.inflight],
        )


def _went_back(newest: Sequence[int], newest_stored: tuple[int, int]) -> RedisWentBack:
    return RedisWentBack(
        f"Redis is at claim {newest[1]} of epoch {newest[0]}, but Postgres has stored claim "
        f"{newest_stored[1]} of epoch {newest_stored[0]}: Redis was restored to an older "
        "state, or is another server, and what it holds may be counted twice. Nothing was "
        "flushed. Compare the counts, then run `analytics accept-redis-state` to go on"
    )
