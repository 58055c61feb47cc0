"""The Redis side of the counters: apply, claim, settle, read.

Each is one Lua script, so it happens whole or not at all. This module and `flush.py` are the path
of an event from a worker to Postgres; the scripts, with their exact arguments, are in `lua/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import msgspec
import redis

from pipeline.counting import erased_users
from pipeline.counting.batch import Applied, Batch, Delivery
from pipeline.counting.increments import CountBy
from pipeline.counting.log_entries import EventLogOptions
from pipeline.errors import RedisWentBack
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Call, Script

_TAKE_OVER = Script("pipeline.flushing.take_over")
_SETTLE = Script("pipeline.flushing.settle")
_REPAIR = Script("pipeline.upkeep.repair")
_ACCEPT = Script("pipeline.flushing.accept")
_NOTE_FLUSH = Script("pipeline.flushing.note_flush")
_APPLY = Script("pipeline.counting.apply")
_CLAIM = Script("pipeline.flushing.claim")
_READ = Script("pipeline.reading.read")

BATCH_LISTED_S = 86_400
_SCANNED_AT_ONCE = 1_000
_PENDING_SINCE = b"pending_since_s"
_LONGEST_COUNT = 20  # characters of the smallest number that INCRBY can make


@dataclass(frozen=True)
class Claim:
    """A named batch of counters taken out of the live keys; `number` 0 means that there was nothing
    to take."""

    batch_id: str
    epoch: int
    number: int
    counts: dict[str, int]
    pending: int


@dataclass(frozen=True)
class Unstored:
    """What Redis held of some counters: their live counts, and per batch that was open then and had
    any of them, as (position, count).

    Claims are (epoch, number): the newest there was, and the one before the first of these batches.
    """

    newest_claim: tuple[int, int]
    before_claimed: tuple[int, int]
    live: list[int]
    claimed: dict[str, list[tuple[int, int]]]


@dataclass(frozen=True)
class CounterOptions:
    """How counters are kept: see the settings of the same names."""

    count_by: CountBy = field(default_factory=dict)
    values_cap: int = 10_000
    dedup_window_s: int = 86_400
    counter_ttl_s: int = 0
    event_log: EventLogOptions = field(default_factory=EventLogOptions)


class Counters:
    """Counters of one Redis under one prefix. Holds no state but the client, and who was forgotten
    as last read; safe to share between threads."""

    def __init__(
        self, client: redis.Redis, keys: Keys, options: CounterOptions | None = None
    ) -> None:
        self.client = client
        self.keys = keys
        self.options = options or CounterOptions()
        self.forgotten = erased_users.NOBODY

    # -- apply --

    def apply(self, deliveries: Sequence[Delivery], now: datetime) -> Applied:
        """Consume the messages and count their events in one step.

        A message that is no longer unacknowledged, or whose task id was seen, has been counted
        before and is left out; so is an event whose `event_id` was seen, in the window or earlier
        in this batch. May be repeated after a lost reply: the second call finds every message gone.
        Raises redis.RedisError with nothing changed.
        """
        return self.begin_apply(deliveries, now).finish()

    def begin_apply(self, deliveries: Sequence[Delivery], now: datetime) -> Applying:
        """The same, without waiting until Redis has done it; several may be under way."""
        return Applying(self, deliveries, now)

    def pending(self) -> int:
        """How many counters wait for a flush."""
        return self.client.scard(self.keys.pending_flush)

    def now_s(self) -> int:
        """Redis's clock (Unix seconds)."""
        return self.client.time()[0]

    def requests(self) -> int | None:
        """How many requests Redis has read from all its clients; None where it does not say."""
        found: int | None = self.client.info("stats").get("total_reads_processed")
        return found

    # -- flush --

    def claim(
        self, batch_id: str, limit: int, newest_stored: tuple[int, int], part: int = 1
    ) -> Claim:
        """Move up to `limit` counters into the journal under `batch_id`, as its first, second …
        part; returns these.

        To repeat the newest part takes nothing more and returns all that the batch holds.
        `newest_stored` is the (epoch, claim number) that the ledger has reached. Raises
        `RedisWentBack` when Redis is behind it, and then takes nothing.
        """
        reply = _CLAIM.run(
            self.client,
            keys=[
                self.keys.pending_flush,
                self.keys.inflight + batch_id,
                self.keys.batches,
                self.keys.totals,
                self.keys.dead,
            ],
            args=[batch_id, limit, *newest_stored, part],
        )
        if reply[0] == -1:
            raise RedisWentBack(
                f"Redis is at claim {reply[2]} of epoch {reply[1]}, but Postgres has stored claim "
                f"{newest_stored[1]} of epoch {newest_stored[0]}: Redis was restored to an older "
                "state, or is another server, and what it holds may be counted twice. Nothing was "
                "flushed. Compare the counts, then run `analytics accept-redis-state` to go on"
            )
        pending, epoch, number, *taken = reply
        return Claim(batch_id, epoch, number, _counts(taken), pending)

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
            _name(name): int(value) for name, value in fields.items() if not name.startswith(b"#")
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

    # -- read --

    def open_batches(self) -> list[str]:
        """Ids of the batches that are claimed and not settled, newest claim first."""
        found = self.client.zrangebyscore(self.keys.batches, "-inf", 0)
        return [name.decode() for name in cast("list[bytes]", found)]

    def unstored(self, counters: Sequence[str]) -> Unstored:
        """What Redis holds of these counters, at one moment."""
        epoch, claims, live, open_ = _READ.run(
            self.client,
            keys=[self.keys.batches, self.keys.totals],
            args=[self.keys.inflight, msgspec.msgpack.encode(counters)],
        )
        newest = before = epoch, claims
        claimed = {}
        for batch_id, claim, *found in open_:
            its_epoch, number = map(int, claim.split(b":"))
            before = min(before, (its_epoch, number - 1))
            pairs = zip(found[::2], found[1::2], strict=True)
            claimed[batch_id.decode()] = [(at - 1, _number(n)) for at, n in pairs]
        return Unstored(newest, before, [_number(count) for count in live], claimed)

    def names_of_user(self, user_id: str) -> set[str]:
        """Names of the user's counters that are live, or claimed and not stored.

        Costs one pass over the pending set.
        """
        pattern = self.keys.user_pattern(user_id)
        names = {
            _name(cast("bytes", name))
            for name in self.client.sscan_iter(self.keys.pending_flush, match=pattern, count=10_000)
        }
        for batch_id in self.open_batches():  # what is settled by now, Postgres has
            for name, _ in self.client.hscan_iter(
                self.keys.inflight + batch_id, match=pattern, count=10_000
            ):
                names.add(_name(cast("bytes", name)))
        return {name for name in names if self.keys.is_counter(name)}

    # -- the books --

    def oldest_pending_s(self) -> int:
        """Seconds that a counter may have waited for a flush, at most; 0 when none is pending."""
        pipeline = self.client.pipeline(transaction=False)
        pipeline.time()
        pipeline.scard(self.keys.pending_flush)
        pipeline.hget(self.keys.totals, _PENDING_SINCE.decode())
        (now_s, _), pending, since_s = pipeline.execute()
        return max(0, now_s - int(since_s)) if pending and since_s else 0

    def note_flush(self, began_s: int) -> None:
        """Note that what is pending now came after `began_s` (Redis's clock)."""
        _NOTE_FLUSH.run(self.client, keys=[self.keys.totals], args=[began_s])

    def repair(self) -> int:
        """Make counters pending again whose names are not; returns how many, normally 0."""
        repaired = 0
        for kind in ("counter", "user", "dim", "gap"):
            names: list[bytes] = []
            for name in self.client.scan_iter(
                f"{self.keys.prefix}{kind}:*", count=_SCANNED_AT_ONCE
            ):
                names.append(cast("bytes", name))
                if len(names) == _SCANNED_AT_ONCE:
                    repaired += self._repair_names(names)
                    names = []
            repaired += self._repair_names(names)
        return repaired

    def _repair_names(self, names: Sequence[bytes]) -> int:
        keys = [self.keys.pending_flush, self.keys.totals]
        return cast("int", _REPAIR.run(self.client, keys=keys, args=names)) if names else 0

    def start_epoch(self, epoch: int) -> None:
        """Number claims anew under `epoch`; done when an older state of Redis is accepted."""
        _ACCEPT.run(
            self.client,
            keys=[self.keys.batches, self.keys.totals],
            args=[epoch, self.keys.inflight],
        )


class Applying:
    """An apply on its way: Redis works on it, and its caller may do something else meanwhile."""

    def __init__(self, counters: Counters, deliveries: Sequence[Delivery], now: datetime) -> None:
        self._counters, self._now = counters, now
        self._batch = Batch(list(deliveries), counters.options.event_log)
        self._call = self._send()

    def finish(self) -> Applied:
        """Wait for the answer, and send what is left when Redis has seen some of it before. Raises
        as `Counters.apply`."""
        while True:
            reply = self._call.answer()
            if reply[0] == 1:
                return self._batch.applied(pending=reply[1], unlogged=reply[2])
            if reply[0] == 2:
                counters = self._counters
                counters.forgotten = erased_users.read(counters.client, counters.keys)
            else:
                self._batch.leave_out(gone=reply[1], seen_events=reply[2], seen_tasks=reply[3])
            self._call = self._send()

    def drop(self) -> None:
        """Wait for no answer: the batch may have been counted or not, and may be applied again."""
        self._call.drop()

    def _send(self) -> Call:
        keys, options = self._counters.keys, self._counters.options
        message = self._batch.message(options.count_by, keys, self._now, self._counters.forgotten)
        return _APPLY.begin(
            self._counters.client,
            keys=[keys.unacked, keys.unacked_index, keys.pending_flush, keys.totals, keys.dead],
            args=[
                msgspec.msgpack.encode(message),
                keys.seen_event,
                keys.seen_task,
                max(1, options.dedup_window_s // 2),
                options.values_cap,
                options.counter_ttl_s,
                options.event_log.max_entries,
                options.event_log.max_bytes,
                *self._batch.bodies,
                *self._batch.blobs,
            ],
        )


def _counts(taken: Sequence[bytes]) -> dict[str, int]:
    pairs = iter(taken)
    return {_name(name): int(value) for name, value in zip(pairs, pairs, strict=True)}


def _number(count: bytes | None) -> int:
    """A count; 0 for somebody else's value, of which a claim makes a dead letter."""
    if count is None or len(count) > _LONGEST_COUNT or not count.removeprefix(b"-").isdigit():
        return 0
    return int(count)


def _name(key: bytes) -> str:
    """A key as text, which leads back to its bytes even where they are not ours and no UTF-8."""
    return key.decode(errors="surrogateescape")
