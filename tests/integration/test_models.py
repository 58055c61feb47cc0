"""The pipeline against a plain model of it: any order of steps, repeats and crashes counts exactly.

The steps are the real scripts on a real Redis and real transactions in Postgres. The model is a few
sets and sums: what has been published, where each message is, and what has been counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from pipeline.counters import Claim
from pipeline.deliveries import TAG_PREFIX, Delivery
from pipeline.events import Event
from pipeline.publisher import Publisher
from pipeline.scripts import script
from pipeline.services import Services
from tests.support import NOW, QUEUE, TODAY, event, execute

TYPES = ("page_view", "sale")
USERS = ("u1", "u2")
PATHS = ("/a", "/b", "/c")
YESTERDAY = NOW - timedelta(days=1)
MAX_BYTES = 4 * 1024 * 1024

Key = tuple[str, ...]


@dataclass
class Message:
    """A message as the model knows it; a stock client's is known by its task id."""

    events: list[Event]
    task_id: str | None = None


@dataclass
class Model:
    """What must be true of the real thing."""

    counts: Counter[Key] = field(default_factory=Counter)
    duplicates: int = 0
    counted: int = 0
    seen: set[str] = field(default_factory=set)
    """Event ids and task ids that were counted."""
    queued: list[str] = field(default_factory=list)
    """Names of messages, the next to be fetched first. A name can be there twice."""
    unacked: dict[str, str] = field(default_factory=dict)
    """Delivery tag -> name."""

    def apply(self, tags: list[str], messages: dict[str, Message]) -> None:
        for tag in tags:
            name = self.unacked.pop(tag, None)
            if name is None:
                continue
            message = messages[name]
            repeated = message.task_id in self.seen
            if message.task_id is not None:
                self.seen.add(message.task_id)
            for one in message.events:
                if repeated or one.event_id in self.seen:
                    self.duplicates += 1
                else:
                    self._count(one)

    def _count(self, one: Event) -> None:
        self.counted += 1
        if one.event_id is not None:
            self.seen.add(one.event_id)
        day = f"{one.timestamp.date()}"
        self.counts["daily", one.event_type, day] += 1
        self.counts["hourly", one.event_type, f"{one.timestamp:%Y-%m-%d:%H}"] += 1
        if one.user_id is not None:
            self.counts["user", one.user_id, one.event_type, day] += 1
        if one.properties and one.event_type == TYPES[0]:
            self.counts["value", one.event_type, one.properties["path"]] += 1


events = st.lists(
    st.builds(
        event,
        st.sampled_from(TYPES),
        st.none() | st.sampled_from(USERS),
        properties=st.none() | st.fixed_dictionaries({"path": st.sampled_from(PATHS)}),
        timestamp=st.sampled_from([NOW, YESTERDAY]),
        event_id=st.none() | st.sampled_from(["e1", "e2"]),
    ),
    min_size=1,
    max_size=3,
)


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
        self.last: dict[int, tuple[str, int]] = {}
        self.fetch = script(services.redis, "fetch")
        self.restore = script(services.redis, "restore")

    # -- producers --

    @rule(of=st.sampled_from([0, 1]), batch=events)
    def publish(self, of: int, batch: list[Event]) -> None:
        """A producer publishes under its next number."""
        tag = self.publishers[of].next_tag(TAG_PREFIX)
        self.last[of] = self._text(tag), len(batch)
        self.messages[tag] = Message(batch)
        self.publishers[of].send(*self.last[of], timeout_s=0)
        self.model.queued.append(tag)
        self.published += len(batch)

    @rule(of=st.sampled_from([0, 1]))
    def publish_again(self, of: int) -> None:
        """The reply was lost, so the producer tries again under the same number: taken once."""
        if of in self.last:
            self.publishers[of].send(*self.last[of], timeout_s=0)

    @rule(batch=events, copies=st.integers(1, 2))
    def publish_as_stock_client(self, batch: list[Event], copies: int) -> None:
        """A stock client pushes, and perhaps once more after a lost reply."""
        name = f"stock{len(self.messages)}"
        self.messages[name] = Message(batch, task_id=f"task of {name}")
        for _ in range(copies):
            self.services.redis.lpush(QUEUE, self._text(name))
            self.model.queued.append(name)

    # -- workers --

    @rule(target=workers, limit=st.integers(1, 4))
    def fetch_some(self, limit: int) -> Held:
        """A worker fetches: the oldest messages, in their order."""
        reply = self.fetch(
            keys=[*self._transport_keys(), self.services.keys.totals, QUEUE],
            args=[limit, MAX_BYTES, json.dumps(QUEUE)],
        )
        parts = [part.decode() for part in reply[0][1:]] if reply else []
        tags, texts = parts[::2], parts[1::2]
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

    @rule(target=applied, held=consumes(workers))
    def apply(self, held: Held) -> Held:
        """It counts what it holds, and what was given to others meanwhile is not its own."""
        self._apply(held)
        self.model.apply(list(held.tags), self.messages)
        return held

    @rule(held=applied)
    def apply_again(self, held: Held) -> None:
        """The reply was lost, so it counts again, perhaps much later: nothing changes."""
        assert self._apply(held) == 0

    @rule(target=workers, held=st.lists(consumes(workers), min_size=2, max_size=3))
    def gather(self, held: list[Held]) -> Held:
        """A worker that could not count goes on fetching, and counts all as one batch."""
        return Held(
            tuple(tag for one in held for tag in one.tags),
            tuple(delivery for one in held for delivery in one.deliveries),
        )

    @rule(held=consumes(workers))
    def crash_worker(self, held: Held) -> None:
        """A worker forgets what it holds."""

    @rule()
    def restore_all(self) -> None:
        """The visibility timeout passes: messages return to the consuming end of the queue."""
        older_than_s, at_most = -1, 500
        args = ["RPUSH", MAX_BYTES, "\x06\x16", "0,3,6,9", "older", older_than_s, at_most]
        index = self.services.redis.zrange(self.services.keys.unacked_index, 0, -1)
        dealt, restored, *_ = self.restore(keys=self._transport_keys(), args=args)
        assert dealt == restored == len(index) == len(self.model.unacked)
        self.model.queued[:0] = [self.model.unacked[tag.decode()] for tag in index]
        self.model.unacked.clear()

    # -- flushers --

    @rule(target=claims, limit=st.integers(1, 6), name=st.uuids())
    def claim(self, limit: int, name: object) -> object:
        """A flusher takes counters; with none pending it takes nothing."""
        with self.services.store.transaction() as transaction:
            newest = transaction.newest_claim()
        claim = self.services.counters.claim(f"{name}", limit, newest)
        return claim if claim.number else multiple()

    @rule(claim=claims)
    def claim_again(self, claim: Claim) -> None:
        """The reply was lost: the same batch holds the same, and takes nothing more."""
        again = self.services.counters.claim(claim.batch_id, 1_000, (0, 0))
        assert (again.number, again.counts) == (claim.number, claim.counts)

    @rule(target=stored, claim=consumes(claims))
    def store(self, claim: Claim) -> Claim:
        """A flusher stores what it claimed, which another may have done before."""
        with self.services.store.transaction() as transaction:
            transaction.save([claim])
        return claim

    @rule(claim=stored)
    def store_again(self, claim: Claim) -> None:
        """The reply to the commit was lost, or the flusher slept for an hour."""
        with self.services.store.transaction() as transaction:
            assert transaction.save([claim]) == 0

    @rule(claim=claims)
    def store_and_die_before_the_commit(self, claim: Claim) -> None:
        """Nothing is stored."""
        with pytest.raises(KeyboardInterrupt), self.services.store.transaction() as transaction:
            transaction.save([claim])
            raise KeyboardInterrupt

    @rule(claim=consumes(claims))
    def crash_flusher(self, claim: Claim) -> None:
        """A flusher forgets what it claimed; the journal does not."""

    @rule(claim=stored)
    def settle(self, claim: Claim) -> None:
        """A flusher ticks a batch off, and perhaps once more."""
        self.services.counters.settle(claim.batch_id)

    @rule()
    def flush(self) -> None:
        """A flush from end to end, which first stores what others left."""
        self.services.flush()
        assert self.services.counters.pending() == 0
        assert self.services.counters.journal().open == []

    # -- readers --

    @invariant()
    def reads_are_exact(self) -> None:
        """A reader sees each event that was counted, once."""
        if self.published:
            read = self.services.stats.series(TYPES[0], YESTERDAY.date(), TODAY, "day")
            for day, count in read:
                assert count == self.model.counts["daily", TYPES[0], f"{day}"]

    @rule()
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
        self.restore_all()
        while self.model.queued:
            self.apply(self.fetch_some(500))
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

    def _apply(self, held: Held) -> int:
        applied = self.services.counters.apply(held.deliveries, datetime.now(UTC))
        return applied.counted + applied.duplicate

    def _transport_keys(self) -> list[str]:
        keys = self.services.keys
        return [keys.unacked, keys.unacked_index, keys.dead]

    def _text(self, tag: str) -> str:
        return json.dumps({"body": "", "properties": {"delivery_tag": tag, "priority": 0}})


@pytest.mark.timeout(120)
def test_any_order_of_steps_repeats_and_crashes_counts_exactly(services: Services) -> None:
    Pipeline.services = services
    run_state_machine_as_test(
        Pipeline,
        settings=settings(
            max_examples=30,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
