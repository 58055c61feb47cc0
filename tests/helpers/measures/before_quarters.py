"""Workers and flushers of the version before quarter hours.

That version counted hours by keys of their own, knew of sixteen buckets, and entered a batch in the
ledger without saying its form. All else is as today, and is taken from there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from unittest.mock import patch

from sqlalchemy import text

from pipeline.counting import apply
from pipeline.counting.batch import Applied, Batch, Delivery
from pipeline.days import hour_text
from pipeline.flushing import store
from pipeline.flushing.claims import Claims
from pipeline.flushing.flush import flush
from pipeline.redis.counters import QuarterCounter
from pipeline.redis.keys import BUCKETS, QUARTERS, Keys
from pipeline.services import Services

ENTER_BATCH = text(
    "INSERT INTO schema$.flush_batches (batch_id, epoch, claim, rows, stored_at) "
    "VALUES (:batch_id, :epoch, :claim, :rows, clock_timestamp()) ON CONFLICT DO NOTHING"
)
"""What every version before quarter hours says to the ledger, which refuses it now."""


class KeysOfHours(Keys):
    """The keys that the version before knew."""

    def __init__(self, prefix: str = "analytics:") -> None:
        super().__init__(prefix)
        self.live_buckets = self.live_buckets[:BUCKETS]

    def journal_buckets(self, batch_id: str) -> list[str]:
        return super().journal_buckets(batch_id)[:BUCKETS]


class _BatchOfHours(Batch):
    def prepare(self, *args: Any) -> dict[str, Any]:
        prepared, keys = super().prepare(*args), args[1]
        counters = Counter[str](prepared["counters"])
        fields, increments = prepared["buckets"].get(QUARTERS, ((), ()))
        for field, n in zip(fields, increments, strict=True):
            counter = keys.parse(keys.name_of(field))
            assert isinstance(counter, QuarterCounter)
            counters[keys.hourly(counter.event_type, hour_text(counter.quarter))] += n
        known = {n: found for n, found in prepared["buckets"].items() if n < BUCKETS}
        return prepared | {"counters": counters, "buckets": known}


@dataclass
class WorkerOfHours:
    """Counts events as a worker of the version before; it sums nothing."""

    services: Services

    def apply(self, deliveries: Sequence[Delivery], now: datetime) -> Applied:
        """Consume the messages and count their events in one step."""
        counters = apply.Counters(
            self.services.redis, KeysOfHours(), self.services.counters.options
        )
        assert not set(counters.options.sums) & {
            one.event_type for delivery in deliveries for one in delivery.events
        }
        with patch.object(apply, "Batch", _BatchOfHours):
            return counters.apply(deliveries, now)


@dataclass
class FlusherOfHours:
    """Flushes as the version before."""

    services: Services

    def __post_init__(self) -> None:
        keys = KeysOfHours()
        self.claims = Claims(self.services.redis, keys)
        self.store = store.Store(self.services.engine, keys)

    def flush(self, size: int = 1_000) -> int:
        """A whole flush, what others left first; returns how many counters it stored."""
        with patch.object(store, "ENTER_BATCH", ENTER_BATCH):
            return flush(self.claims, self.store, size)
