"""The Redis side of a flush: claim a batch of counters into a journal, read it, settle it.

A batch holds the few counters of event types that have keys of their own, by name in its journal,
and whole buckets, which a claim gives another name. Once claimed it does not change: it is read
page by page, while Redis answers others, and let go of in the background. Claim, take over and
settle are one Lua script each, so each happens whole or not at all, and may be repeated.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, cast

import redis

from pipeline.errors import RedisWentBack
from pipeline.redis.keys import PAD, Keys, key_text
from pipeline.redis.scripts import Script

BATCH_LISTED_S = 86_400
OPEN = 10**15
"""Added to the time (Unix ms) of a claim, it is the score of an open batch among the `batches`;
that of a settled one is the time at which it was settled. The version before gives an open one the
negative time: it does not see ours, of which it could not read the buckets, and we see both."""
OPEN_SCORES = (("-inf", 0), (OPEN, "+inf"))
FIELDS_AT_ONCE = 500
"""Fields that one HSCAN asks for: it holds Redis for 0.2 ms."""
_PAD = PAD.encode()
_ACCEPT = Script("pipeline.flushing.accept")
_CLAIM = Script("pipeline.flushing.claim")
_NOTE_FLUSH = Script("pipeline.flushing.note_flush")
_SETTLE = Script("pipeline.flushing.settle")
_TAKE_OVER = Script("pipeline.flushing.take_over")

Fields = Mapping[bytes, bytes]
"""Fields of a bucket with their counts, as Redis holds them."""


@dataclass(frozen=True)
class Claim:
    """A named batch of counters taken out of the live keys; `number` 0 means that there was nothing
    to take."""

    batch_id: str
    epoch: int
    number: int
    named: Mapping[str, int]
    """Counters of the journal itself, by name."""
    buckets: Sequence[int] = ()
    """How many fields each bucket has, from number 0 on."""
    pending: int = 0
    """How many counters were left for other batches."""
    size: int = 0
    """How many counters it has."""


class Claims:
    """The claims of one Redis under one prefix. Without state but the client; threads may share
    it."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self.client = client
        self.keys = keys

    def pending(self) -> int:
        """How many counters wait for a flush."""
        pipeline = self.client.pipeline(transaction=False)
        _ask_pending(pipeline, self.keys)
        return _sum_pending(pipeline.execute())

    def claim(self, batch_id: str, limit: int, newest_stored: tuple[int, int]) -> Claim:
        """Move counters into the journal under `batch_id` until it has `limit` of them; buckets go
        whole, so it may have more. A repeat takes nothing more and returns the same. Raises
        `RedisWentBack`, with nothing taken, when Redis is behind `newest_stored`, the (epoch, claim
        number) that the ledger has reached."""
        keys = self.keys
        reply = _CLAIM.begin(
            self.client,
            keys=[
                *(keys.pending_flush, keys.inflight + batch_id, keys.batches),
                *(keys.totals, keys.dead, *keys.live_buckets, *keys.journal_buckets(batch_id)),
            ],
            args=[batch_id, limit, *newest_stored],
        ).answer()
        if reply[0] == -1:
            raise _went_back(reply[1:], newest_stored)
        return _read_claim(batch_id, *reply)

    def guard(self, newest_stored: tuple[int, int]) -> None:
        """Raise `RedisWentBack` when Redis is behind what the ledger has reached; takes nothing."""
        self.claim("", 0, newest_stored)

    def take_over(self, batch_id: str) -> Claim:
        """What an earlier flush has claimed under `batch_id`; number 0 when it is there no longer.
        Whichever of the two stores it, the same is stored. May be repeated."""
        journal = self.keys.inflight + batch_id
        reply = _TAKE_OVER.run(self.client, keys=[journal, *self.keys.journal_buckets(batch_id)])
        return _read_claim(batch_id, *reply)

    def read_buckets(self, claim: Claim) -> Iterator[Fields]:
        """The fields of the batch's buckets, page by page. One that comes twice, which a table that
        Redis resizes may do to it, comes with the same count."""
        for name in compress(self.keys.journal_buckets(claim.batch_id), claim.buckets):
            cursor = None
            while cursor != 0:
                found: Any = self.client.hscan(name, cursor or 0, count=FIELDS_AT_ONCE)
                cursor, page = found
                page.pop(_PAD, None)
                yield page

    def settle(self, batch_id: str) -> None:
        """Mark a stored batch as settled and let go of its counts. May be repeated."""
        keys = self.keys
        _SETTLE.run(
            self.client,
            keys=[keys.batches, keys.inflight + batch_id, *keys.journal_buckets(batch_id)],
            args=[batch_id, BATCH_LISTED_S],
        )

    def listed(self, batch_ids: Sequence[str]) -> set[str]:
        """Those of the batches that are open or were settled within a day."""
        scores = self.client.zmscore(self.keys.batches, list(batch_ids)) if batch_ids else []
        return {one for one, score in zip(batch_ids, scores, strict=True) if score is not None}

    def open_batches(self) -> list[str]:
        """Ids of the batches that are claimed and not settled, newest claim first."""
        return [batch_id for batch_id, _ in list_open_batches(self.client, self.keys)]

    def settled_batches(self, at_most: int) -> set[str]:
        """Ids of batches that were settled within a day, the newest `at_most`."""
        found: Any = self.client.zrevrangebyscore(
            self.keys.batches, f"({OPEN}", "(0", start=0, num=at_most
        )
        return {name.decode() for name in found}

    def oldest_pending_s(self) -> int:
        """Seconds that a counter may have waited for a flush, or since it was claimed for a batch
        that is not settled; 0 when there is neither."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hget(self.keys.totals, "pending_since_s")
        _ask_pending(pipeline, self.keys)
        (now_s, _), since_s, *counts = pipeline.execute()
        began_s = [int(since_s)] if _sum_pending(counts) and since_s else []
        began_s += [at_ms // 1000 for _, at_ms in list_open_batches(self.client, self.keys)]
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


def list_open_batches(client: redis.Redis, keys: Keys) -> list[tuple[str, int]]:
    """The batches that are claimed and not settled, with the time of their claim (Unix ms), the
    newest first."""
    pipeline = client.pipeline(transaction=False)
    for least, most in OPEN_SCORES:
        pipeline.zrangebyscore(keys.batches, least, most, withscores=True)
    of_before, ours = cast("list[list[tuple[bytes, float]]]", pipeline.execute())
    found = [(name.decode(), int(-score)) for name, score in of_before]
    found += [(name.decode(), int(score) - OPEN) for name, score in ours]
    return sorted(found, key=lambda one: one[1], reverse=True)


def _ask_pending(pipeline: Any, keys: Keys) -> None:
    pipeline.scard(keys.pending_flush)
    for name in keys.live_buckets:
        pipeline.hlen(name)


def _sum_pending(counts: Sequence[int]) -> int:
    names, *fields = counts
    return names + sum(max(0, n - 1) for n in fields)  # without the pad


def _read_claim(
    batch_id: str, pending: int, claim: bytes, sizes: Sequence[int], journal: Sequence[bytes]
) -> Claim:
    """What a script says of a batch; fields of its journal that begin with # are no counters."""
    epoch, number = map(int, claim.split(b":"))
    pairs = zip(journal[::2], journal[1::2], strict=True)
    counts = {key_text(name): int(n) for name, n in pairs if not name.startswith(b"#")}
    return Claim(batch_id, epoch, number, counts, sizes, pending, len(counts) + sum(sizes))


def _went_back(newest: Sequence[int], newest_stored: tuple[int, int]) -> RedisWentBack:
    return RedisWentBack(
        f"Redis is at claim {newest[1]} of epoch {newest[0]}, but Postgres has stored claim "
        f"{newest_stored[1]} of epoch {newest_stored[0]}: Redis was restored to an older "
        "state, or is another server, and what it holds may be counted twice. Nothing was "
        "flushed. Compare the counts, then run `analytics accept-redis-state` to go on"
    )
