"""The pipeline against a plain model of it: any order of steps, repeats and crashes counts exactly.

The steps are the real scripts on a real Redis and real transactions in Postgres. The model is a few
sets and sums: what has been published, where each message is, and what has been counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pipeline.counting.batch import Delivery
from pipeline.event.model import Event
from pipeline.flushing import store
from pipeline.flushing.claims import Claim
from pipeline.flushing.store import FlushTransaction
from pipeline.intake.unacknowledged import Fetch, Unacknowledged
from pipeline.producer.publisher import Publisher
from pipeline.redis.keys import ALL_BUCKETS
from pipeline.services import Services
from tests.helpers.model import COUNTED_BY_PATH, Key, Message, Model
from tests.helpers.support import NOW, QUEUE, TODAY, execute

TYPES = (COUNTED_BY_PATH, "sale")
USERS = ("u1", "u2")
PATHS = ("/a", "/b", "/c")
YESTERDAY = NOW - timedelta(days=1)
MAX_BYTES = 4 * 1024 * 1024

events = st.lists(
    st.builds(
        Event,
        event_type=st.sampled_from(TYPES),
        user_id=st.none() | st.sampled_from(USERS),
        properties=st.none() | st.fixed_dictionaries({"path": st.sampled_from(PATHS)}),
        timestamp=st.sampled_from([NOW, YESTERDAY]),
        event_id=st.none() | st.sampled_from(["e1", "e2"]),
        source=st.sampled_from(["", "page"]),
    ),
    min_size=1,
    max_size=3,
)


ENOUGH = 4
"""With so many messages in the queue no more are published: what follows is of more interest."""

TIMES = st.integers(1, 2)
"""Once, or again after a lost reply."""


@dataclass(frozen=True)
class Held:
    """Messages in the memory of a worker: tags, and what they hold."""

    tags: tuple[str, ...]
    deliveries: tuple[Delivery, ...]


class Pipeline(RuleBasedStateMachine):
    """Producers, workers and flushers in one process; what they remember are the bundles."""

    services: ClassVar[Services]

    workers = Bundle("workers")
    """What workers hold, not counted yet."""
    applied = Bundle("applied")
    """What workers have counted; the reply may have been lost."""
    claims = Bundle("claims")
    """What flushers hold, not stored yet."""
    stored = Bundle("stored")
    """What flushers have stored, not settled yet."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.messages: dict[str, Message] = {}
        self.published = 0
        self.batches = 0
        self.named = 0
        self.saved = 0

    @initialize()
    def begin(self) -> None:
        """Nothing is there."""
        services = self.services
        services.redis.flushdb()
        execute(
            services,
            "DELETE FROM analytics_daily; DELETE FROM analytics_hourly; DELETE FROM flush_batches;"
            "DELETE FROM analytics_user_daily; DELETE FROM analytics_dimension_daily",
        )
        self.publishers = [Publisher(services.redis, services.keys, QUEUE) for _ in range(2)]
        self.unacknowledged = Unacknowledged(services.redis, services.keys)

    # -- producers --

    @precondition(lambda self: len(self.model.queued) < ENOUGH)
    @rule(producer=st.sampled_from([0, 1, None]), batch=events, times=TIMES)
    def publish(self, producer: int | None, batch: list[Event], times: int) -> None:
        """A producer publishes under its next number, and again when the reply was lost: taken
        once. A stock client (None) then pushes a second message, under the same task id."""
        if producer is None:
            name = f"stock{len(self.messages)}"
            self.messages[name] = Message(batch, task_id=f"task of {name}")
            for _ in range(times):
                self.services.redis.lpush(QUEUE, self._text(name))
                self.model.queued.append(name)
            return
        publisher = self.publishers[producer]
        publisher.last_number += 1
        tag = f"{publisher.tag_prefix}{publisher.last_number}"
        self.messages[tag] = Message(batch)
        for _ in range(times):
            self.publishers[producer].send(self._text(tag).encode(), len(batch), timeout_s=0)
        self.model.queued.append(tag)
        self.published += len(batch)

    # -- workers --

    @precondition(lambda self: self.model.queued)
    @rule(target=workers, limit=st.integers(1, 4), then=st.sampled_from(["sleep", "die", "count"]))
    def fetch_some(self, limit: int, then: str) -> object:
        """A worker fetches and counts; or sleeps; or dies and forgets what it has."""
        held = self._fetch(limit)
        if then == "count":
            self._count(held, times=1)
        return held if then == "sleep" else multiple()

    @rule(target=applied, held=consumes(workers), times=TIMES)
    def count(self, held: Held, times: int) -> Held:
        """A worker counts what it holds; what was given to others meanwhile is theirs."""
        self._count(held, times)
        return held

    @rule(target=applied, one=workers, other=workers)
    def count_together(self, one: Held, other: Held) -> Held:
        """A worker that could not count went on fetching, and has a larger batch."""
        if one is other:
            other = Held((), ())
        held = Held(one.tags + other.tags, one.deliveries + other.deliveries)
        self._count(held, times=1)
        return held

    @rule(held=applied)
    def count_again(self, held: Held) -> None:
        """A worker that has slept repeats what it did: nothing changes."""
        assert self._apply(held) == 0

    @precondition(lambda self: self.model.unacked)
    @rule()
    def restore_all(self) -> None:
        """The visibility timeout passes: messages return to the consuming end of the queue."""
        index = self.services.redis.zrange(self.services.keys.unacked_index, 0, -1)
        restored = self.unacknowledged.give_back_older(-1)
        assert restored == len(index) == len(self.model.unacked)
        self.model.queued[:0] = [self.model.unacked[tag.decode()] for tag in index]
        self.model.unacked.clear()

    # -- flushers --

    @precondition(lambda self: self.model.unclaimed)
    @rule(
        target=claims,
        limit=st.integers(1, 8),
        times=TIMES,
        then=st.sampled_from(["sleep", "die", "die before the commit", "store", "settle"]),
    )
    def claim(self, limit: int, times: int, then: str) -> object:
        """A flusher takes counters (a repeat returns the same, and takes nothing more), and goes
        on; or sleeps; or dies and forgets what it has, which the journal does not."""
        claim = self._claim(limit, times)
        if then == "die before the commit":
            with pytest.raises(KeyboardInterrupt), self.services.store.transaction() as open_:
                self._save(open_, claim)
                raise KeyboardInterrupt
        if then in ("store", "settle"):
            self._store(claim)
        if then == "settle":
            self.services.claims.settle(claim.batch_id)
        return claim if then in ("sleep", "store") else multiple()

    @rule(claim=claims, limit=st.integers(1, 8))
    def claim_again(self, claim: Claim, limit: int) -> None:
        """A flusher that waited long for the reply to its claim repeats it, after others may have
        stored and settled the batch: it takes nothing more."""
        pending = self.services.claims.pending()
        again = self.services.claims.claim(claim.batch_id, limit, self._newest_stored())
        assert again in (
            replace(claim, pending=pending),
            Claim(claim.batch_id, 0, 0, {}, [0] * ALL_BUCKETS, pending),
        )
        assert self.services.claims.pending() == pending

    @rule(target=claims, claim=claims)
    def take_over(self, claim: Claim) -> object:
        """Another flusher finds the batch of one that sleeps: both may store it."""
        found = self.services.claims.take_over(claim.batch_id)
        return found if found.number else multiple()

    @rule(target=stored, claim=consumes(claims), times=TIMES)
    def store(self, claim: Claim, times: int) -> Claim:
        """A flusher stores what it claimed, and again when the reply to its commit was lost."""
        for _ in range(times):
            self._store(claim)
        return claim

    @rule(claim=stored)
    def store_again(self, claim: Claim) -> None:
        """A flusher that slept for an hour wakes up: the batch is stored already."""
        assert self._store(claim) == 0

    @rule(claim=stored, times=TIMES)
    def settle(self, claim: Claim, times: int) -> None:
        """A flusher ticks a batch off."""
        for _ in range(times):
            self.services.claims.settle(claim.batch_id)

    @precondition(lambda self: self.batches >= 3)
    @rule()
    def flush(self) -> None:
        """A flush from end to end, which first stores what others left."""
        self.services.flush()
        assert self.services.claims.pending() == 0
        assert self.services.claims.open_batches() == []
        self.model.unclaimed = False
        self.batches = 0
        self.read_everything()

    # -- readers --

    @invariant()
    def reads_are_exact(self) -> None:
        """A reader sees each event that was counted, once."""
        if self.published:
            read = self.services.stats.series(TYPES[0], YESTERDAY.date(), TODAY, "day")
            for day, count in read:
                assert count == self.model.counts["daily", TYPES[0], f"{day}"]

    def read_everything(self) -> None:
        """The other counters too, and the books."""
        assert Counter(dict(self._all_counts())) == self.model.counts
        totals = {
            name.decode(): int(value)
            for name, value in self.services.redis.hgetall(self.services.keys.totals).items()
        }
        counted, duplicate = self.model.counted, self.model.duplicates
        assert totals.get("published", 0) == self.published
        assert totals.get("counted", 0) == counted
        assert totals.get("duplicate", 0) == duplicate
        assert totals.get("consumed", 0) == counted + duplicate

    def teardown(self) -> None:
        """In the end, everything published is counted and stored."""
        if not hasattr(self, "publishers"):
            return
        if self.model.unacked:
            self.restore_all()
        while self.model.queued:
            self._count(self._fetch(500), times=1)
        self.services.flush()
        self.read_everything()
        for journal in self.services.redis.scan_iter(f"{self.services.keys.inflight}*"):
            self.services.redis.delete(journal)
        self.read_everything()  # so it is all in Postgres

    def _all_counts(self) -> Iterator[tuple[Key, int]]:
        stats, range_ = self.services.stats, (YESTERDAY.date(), TODAY)
        for event_type in TYPES:
            for day, count in stats.series(event_type, *range_, "day"):
                yield ("daily", event_type, f"{day}"), count
            for hour, count in stats.series(event_type, *range_, "hour"):
                yield ("hourly", event_type, f"{hour:%Y-%m-%d:%H}"), count
        for user in USERS:
            for event_type, days in stats.user_counts(user).items():
                for day, count in days.items():
                    yield ("user", user, event_type, f"{day}"), count
        for path in PATHS:
            yield ("value", TYPES[0], path), stats.property_count(TYPES[0], "path", path, *range_)

    def _fetch(self, limit: int) -> Held:
        """The oldest messages, in their order."""
        found_here = Fetch(self.services.redis, self.services.keys, [QUEUE], limit).answer()
        tags, texts = zip(*found_here, strict=True)
        names = [json.loads(text)["properties"]["delivery_tag"] for text in texts]
        assert names == self.model.queued[:limit]
        del self.model.queued[:limit]
        self.model.unacked.update(zip(tags, names, strict=True))
        found = [self.messages[name] for name in names]
        deliveries = [
            Delivery(message.events, tag=tag, task_id=message.task_id)
            for tag, message in zip(tags, found, strict=True)
        ]
        return Held(tuple(tags), tuple(deliveries))

    def _count(self, held: Held, times: int) -> None:
        for _ in range(times):
            self._apply(held)
        self.model.apply(held.tags, self.messages)

    def _claim(self, limit: int, times: int) -> Claim:
        self.batches, self.named = self.batches + 1, self.named + 1
        batch_id, newest = f"batch{self.named}", self._newest_stored()
        first, *again = [self.services.claims.claim(batch_id, limit, newest) for _ in range(times)]
        assert again in ([], [first])
        self.model.unclaimed = first.pending > 0
        return first

    def _newest_stored(self) -> tuple[int, int]:
        with self.services.store.transaction() as transaction:
            return transaction.newest_claim()

    def _store(self, claim: Claim) -> int:
        with self.services.store.transaction() as transaction:
            return self._save(transaction, claim)

    def _save(self, transaction: FlushTransaction, claim: Claim) -> int:
        """Add the counts of a claim; those of every other one are sorted by Postgres."""
        self.saved += 1
        in_memory = 0 if self.saved % 2 else store.SORTED_IN_MEMORY
        with patch.object(store, "SORTED_IN_MEMORY", in_memory):
            saved = transaction.save(claim, self.services.claims.read_buckets(claim))
        assert saved is not None
        return saved

    def _apply(self, held: Held) -> int:
        applied = self.services.counters.apply(held.deliveries, datetime.now(UTC))
        return applied.counted + applied.duplicate

    def _text(self, tag: str) -> str:
        return json.dumps({"body": "", "properties": {"delivery_tag": tag, "priority": 0}})


@pytest.mark.timeout(120)
def test_any_order_of_steps_repeats_and_crashes_counts_exactly(services: Services) -> None:
    Pipeline.services = services
    run_state_machine_as_test(
        Pipeline,
        settings=settings(
            max_examples=25,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            # A failure has 40 steps at most, and making it shorter takes minutes.
            phases=set(Phase) - {Phase.shrink, Phase.explain},
            report_multiple_bugs=False,
        ),
    )
