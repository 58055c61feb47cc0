"""Apply: consume the messages of a batch and count their events, in one script.

It happens whole or not at all, so a message is counted exactly as often as it is consumed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
import redis

from pipeline.counting import erased_users
from pipeline.counting.batch import Applied, BadEvent, Batch, Delivery, replace_user_ids
from pipeline.counting.erased_users import ErasedUsers
from pipeline.counting.event_types import EventTypes
from pipeline.counting.ids_of_before import EXPECTED_FOR_S, IdsOfBefore
from pipeline.options import CounterOptions
from pipeline.redis.client import RETRY_LATER
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Call, Script

_APPLY = Script("pipeline.counting.apply")

logger = logging.getLogger(__name__)


class Counters:
    """Counters of one Redis under one prefix. Holds no state but the client, who was erased as last
    read, and whether ids of the version before are there; safe to share between threads."""

    def __init__(
        self, client: redis.Redis, keys: Keys, options: CounterOptions | None = None
    ) -> None:
        self.client = client
        self.keys = keys
        self.options = options or CounterOptions()
        self.erased_users = erased_users.NO_ERASED_USERS
        self.types = EventTypes(keys, self.options)
        secret = self.options.user_id_secret
        self.with_pseudonyms: Callable[[Sequence[Delivery]], list[Delivery]] = (
            partial(replace_user_ids, secret) if secret else list
        )
        self.applying: Callable[[Counters, Sequence[Delivery], datetime], Applying] = Applying
        """Begins an apply; with traces, one that has a span."""
        self.ids_of_before_until_s = 0.0
        self.half_window_s = max(1, self.options.dedup_window_s // 2)
        log = self.options.event_log
        self.limits = {
            "prefix": keys.prefix,
            "half_window_s": self.half_window_s,
            "values_cap": self.options.values_cap,
            "counter_ttl_s": self.options.counter_ttl_s,
            "log_max_entries": log.max_entries,
            "log_max_bytes": log.max_bytes,
        }

    def read_erased_users(self) -> ErasedUsers:
        """Who is erased now."""
        return erased_users.read(self.client, self.keys, self.options.user_id_secret)

    def expect_before(self) -> IdsOfBefore | None:
        """What a batch asks of the version before, if ids of it were there of late."""
        return IdsOfBefore() if time.monotonic() < self.ids_of_before_until_s else None

    def apply(self, deliveries: Sequence[Delivery], now: datetime) -> Applied:
        """Consume the messages and count their events in one step.

        A message that is no longer unacknowledged, or whose task id was seen, has been counted
        before and is left out; so is an event whose `event_id` was seen with its source and type,
        in the window or earlier in this batch. May be repeated after a lost reply: the second call
        finds every message gone. Raises redis.RedisError with nothing changed.
        """
        return self.applying(self, deliveries, now).finish()

    def apply_or_bury(
        self, deliveries: Sequence[Delivery], now: datetime, under_way: Applying | None = None
    ) -> Applied:
        """The same, or wait for the apply of these messages that is `under_way`; come what may: one
        that breaks the code becomes a dead letter. Raises, with nothing changed,
        redis.ConnectionError while Redis is away or takes no writes, and redis.ResponseError when a
        structure of ours is not what it should be."""
        try:
            return under_way.finish() if under_way else self.apply(deliveries, now)
        except RETRY_LATER as error:
            raise redis.ConnectionError(f"Redis takes no writes now: {error}") from error
        except redis.RedisError:
            raise
        except Exception as error:
            return self._bury_broken(deliveries, now, error)

    def _bury_broken(
        self, deliveries: Sequence[Delivery], now: datetime, error: Exception
    ) -> Applied:
        if len(deliveries) > 1:
            return [self.apply_or_bury([delivery], now) for delivery in deliveries][-1]
        [broken] = deliveries
        logger.error(
            "a message cannot be counted and becomes a dead letter",
            exc_info=error,
            extra={"task_id": broken.task_id},
        )
        bad = BadEvent(broken.raw, f"message: {error!r}", kind="message")
        return self.apply([msgspec.structs.replace(broken, events=(), bad=[bad])], now)


class Applying:
    """An apply that is sent: Redis works on it while its caller does something else. Several may be
    under way."""

    def __init__(self, counters: Counters, deliveries: Sequence[Delivery], now: datetime) -> None:
        self._counters, self._now = counters, now
        found, log = counters.with_pseudonyms(deliveries), counters.options.event_log
        self._batch = Batch(found, log, counters.expect_before(), sums=counters.options.sums)
        self._call = self._send()

    def finish(self) -> Applied:
        """Wait for the answer, and send what is left when Redis has seen some of it before. Raises
        as `Counters.apply`."""
        while True:
            reply = self._call.answer()
            if reply[0] == 1:
                return self._batch.applied(pending=reply[1], unlogged=reply[2])
            self._take_note(*reply)
            self._call = self._send()

    def drop(self) -> None:
        """Wait for no answer: the batch may have been counted or not, and may be applied again."""
        self._call.drop()

    def _refuse_types(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The batch, prepared again where some of its types are not admitted."""
        counters, found, now = self._counters, self._batch, self._now
        refused = counters.types.refuse(counters.client, found.types, found.types_of_pages(), now)
        if not refused:
            return batch
        found.refused_types |= refused
        count_by = counters.options.count_by
        return found.prepare(count_by, counters.keys, now, counters.erased_users)

    def _take_note(self, answer: int, *positions: Sequence[int]) -> None:
        """Make the batch such that the script takes it."""
        counters = self._counters
        if answer == 0:
            self._batch.leave_out(*positions)
        elif answer == 2:
            erased = counters.read_erased_users()
            # After its version was read, and before another thread may go by it.
            counters.types.read_removed(counters.client)
            counters.erased_users = erased
            self._batch.refused_types = set()
        else:
            counters.ids_of_before_until_s = time.monotonic() + EXPECTED_FOR_S
            self._batch.ids_of_before = IdsOfBefore()

    def _send(self) -> Call:
        counters, keys, types = self._counters, self._counters.keys, self._counters.types
        count_by = counters.options.count_by
        batch = self._batch.prepare(count_by, keys, self._now, counters.erased_users)
        if self._now > types.known_until or not types.known.issuperset(self._batch.types):
            batch = self._refuse_types(batch)
        packed = msgspec.msgpack.encode(batch | counters.limits)
        return _APPLY.begin(
            counters.client,
            keys=[
                *(keys.unacked, keys.unacked_index, keys.pending_flush, keys.totals, keys.dead),
                *keys.live_buckets,
            ],
            args=[packed, *self._batch.bodies, *self._batch.blobs],
        )
