"""Apply: consume the messages of a batch and count their events, in one script.

It happens whole or not at all, so a message is counted exactly as often as it is consumed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

import msgspec
import redis

from pipeline.counting import erased_users
from pipeline.counting.batch import Applied, BadEvent, Batch, Delivery
from pipeline.counting.increments import CountBy
from pipeline.counting.log_entries import EventLogOptions
from pipeline.redis.client import RETRY_LATER
from pipeline.redis.keys import Keys, key_text
from pipeline.redis.scripts import Call, Script

_REPAIR = Script("pipeline.upkeep.repair")
_APPLY = Script("pipeline.counting.apply")
_READ = Script("pipeline.reading.read")

logger = logging.getLogger(__name__)

_SCANNED_AT_ONCE = 1_000
_LONGEST_COUNT = 20  # characters of the smallest number that INCRBY can make


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
        log = self.options.event_log
        self.limits = {
            "seen_event": keys.seen_event,
            "seen_task": keys.seen_task,
            "half_window_s": max(1, self.options.dedup_window_s // 2),
            "values_cap": self.options.values_cap,
            "counter_ttl_s": self.options.counter_ttl_s,
            "log_max_entries": log.max_entries,
            "log_max_bytes": log.max_bytes,
        }

    def apply(self, deliveries: Sequence[Delivery], now: datetime) -> Applied:
        """Consume the messages and count their events in one step.

        A message that is no longer unacknowledged, or whose task id was seen, has been counted
        before and is left out; so is an event whose `event_id` was seen, in the window or earlier
        in this batch. May be repeated after a lost reply: the second call finds every message gone.
        Raises redis.RedisError with nothing changed.
        """
        return Applying(self, deliveries, now).finish()

    def apply_or_bury(
        self, deliveries: Sequence[Delivery], now: datetime, under_way: Applying | None = None
    ) -> Applied:
        """The same, or wait for the apply of these messages that is `under_way`; come what may.

        A message that breaks the code becomes a dead letter, and the others are counted. Raises
        redis.ConnectionError while Redis is away or takes no writes, and redis.ResponseError when a
        structure of ours is not what it should be; then nothing has changed.
        """
        try:
            return under_way.finish() if under_way else self.apply(deliveries, now)
        except RETRY_LATER as error:
            raise redis.ConnectionError(f"Redis takes no writes now: {error}") from error
        except redis.RedisError:
            raise
        except Exception as error:
            if len(deliveries) > 1:
                return [self.apply_or_bury([delivery], now) for delivery in deliveries][-1]
            logger.exception("a message cannot be counted and becomes a dead letter")
            [broken] = deliveries
            bad = BadEvent(broken.raw, f"message: {error!r}", kind="message")
            return self.apply([msgspec.structs.replace(broken, events=(), bad=[bad])], now)

    # -- read --

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
            key_text(cast("bytes", name))
            for name in self.client.sscan_iter(self.keys.pending_flush, match=pattern, count=10_000)
        }
        open_ = cast("list[bytes]", self.client.zrangebyscore(self.keys.batches, "-inf", 0))
        for batch_id in open_:  # what is settled by now, Postgres has
            for name, _ in self.client.hscan_iter(
                self.keys.inflight + batch_id.decode(), match=pattern, count=10_000
            ):
                names.add(key_text(cast("bytes", name)))
        return {name for name in names if self.keys.is_counter(name)}

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


class Applying:
    """An apply that is sent: Redis works on it while its caller does something else. Several may be
    under way."""

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
        batch = self._batch.prepare(options.count_by, keys, self._now, self._counters.forgotten)
        return _APPLY.begin(
            self._counters.client,
            keys=[keys.unacked, keys.unacked_index, keys.pending_flush, keys.totals, keys.dead],
            args=[
                msgspec.msgpack.encode(batch | self._counters.limits),
                *self._batch.bodies,
                *self._batch.blobs,
            ],
        )


def _number(count: bytes | None) -> int:
    """A count; 0 for somebody else's value, of which a claim makes a dead letter."""
    if count is None or len(count) > _LONGEST_COUNT or not count.removeprefix(b"-").isdigit():
        return 0
    return int(count)
