"""The machine of `test_flush_models.py`: the steps of flushers, and the model beside them.

The steps are the real scripts on a real Redis and real transactions in Postgres.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, islice
from typing import Any, ClassVar, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from pipeline.counting import erased_users
from pipeline.event.model import Event
from pipeline.flushing import store
from pipeline.flushing.claims import Claim, Fields
from pipeline.postgres.tables import COUNTER_TABLES, flush_batches
from pipeline.reading.sums import PropertySum
from pipeline.services import Services
from pipeline.upkeep.erase import SoughtUser, erase_user
from pipeline.upkeep.event_types.removal import TypeRemover
from tests.helpers.before_buckets.processes import BatchBefore, FlusherBefore, WorkerBefore
from tests.helpers.support import NOW, TODAY, event, execute, message

COUNTED_BY_PATH, JUNK, OTHER = "page_view", "junk", "__other__"
USERS = [*(f"u{n}" for n in range(9)), "a: b%"]
"""More than one of them in some of the buckets."""
PATHS = [f"/{n}" for n in range(5)]
DAYS = (TODAY - timedelta(days=1), TODAY)

events = st.lists(
    st.builds(
        event,
        st.sampled_from([COUNTED_BY_PATH, JUNK]),
        st.sampled_from([None, *USERS]),
        properties=st.none()
        | st.fixed_dictionaries(
            {"path": st.sampled_from(PATHS)},
            optional={"ms": st.sampled_from([5, -0.25, 10**18, "x"])},
        ),
        timestamp=st.sampled_from([NOW, NOW - timedelta(days=1), NOW - timedelta(minutes=20)]),
    ),
    min_size=1,
    max_size=9,
)
LIMITS = st.sampled_from([1, 5, 30])
CALM = 7
TIMES = st.integers(1, 2)
"""Once, or again after a lost reply."""


@dataclass
class Flusher:
    """A flusher that sleeps between two steps: its claim, and the pages that it has read."""

    claim: Claim
    rest: Iterator[Fields]
    pages: list[Fields] = field(default_factory=list)


class Buckets(RuleBasedStateMachine):
    """Workers and flushers in one process. What they remember are lists: a rule takes one of them
    by a number."""

    services: ClassVar[Services]

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, ...]] = Counter()  # sums are decimal numbers
        self.erased: set[str] = set()
        self.flushers: list[Flusher] = []
        """Have claimed or taken over, and not stored."""
        self.stored: list[Claim] = []
        """Are stored, and not settled by the one who stored them."""
        self.of_before: list[BatchBefore] = []
        """The same of flushers of the version before that are still claiming."""
        self.names, self.looked = count(1), 0
        self.calm_until = CALM
        self.is_pending = False

    @initialize()
    def begin(self) -> None:
        self.before = FlusherBefore(self.services)
        self.services.redis.flushdb()
        self.services.counters.erased_users = erased_users.NO_ERASED_USERS
        execute(
            self.services,
            "; ".join(f"DELETE FROM {table.name}" for table in (*COUNTER_TABLES, flush_batches)),
        )

    # -- workers --

    @rule(batch=events, is_before=st.booleans())
    def count(self, batch: list[Event], is_before: bool) -> None:
        """A worker of today, or of the version before, counts events."""
        worker = WorkerBefore(self.services) if is_before else self.services.counters
        worker.apply([message(*batch)], datetime.now(UTC))
        self._add(batch, is_before=is_before)
        self.is_pending = True

    # -- flushers --

    @precondition(lambda self: self.is_pending)
    @rule(
        limit=LIMITS,
        times=TIMES,
        then=st.sampled_from(
            ["sleep", "sleep", "sleep", "die", "die before the commit", "store", "settle"]
        ),
    )
    def claim(self, limit: int, times: int, then: str) -> None:
        """A flusher claims (a repeat returns the same, and takes nothing more), and goes on; or
        sleeps; or dies and forgets what it has, which the journal does not."""
        batch_id, newest = self._name(), self._newest_stored()
        claim, *again = [self.services.claims.claim(batch_id, limit, newest) for _ in range(times)]
        assert again in ([], [claim])
        self.is_pending = claim.pending > 0
        if not claim.number:
            return
        assert claim.named or sum(claim.buckets)
        if then == "die before the commit":
            with pytest.raises(KeyboardInterrupt), self.services.store.transaction() as open_:
                open_.save(claim, self.services.claims.read_buckets(claim))
                raise KeyboardInterrupt
        flusher = self._flusher(claim)
        if then in ("store", "settle"):
            self._store(flusher, twice=True)
        if then == "settle":
            self.services.claims.settle(batch_id)
        if then == "sleep":
            self.flushers.append(flusher)
        if then == "store":
            self.stored.append(claim)

    @precondition(lambda self: self.flushers)
    @rule(which=st.integers(0), limit=LIMITS)
    def claim_again(self, which: int, limit: int) -> None:
        """A flusher asks once more for the claim whose reply was lost long ago: nothing is added,
        also where more was counted since, or another flusher has stored the batch."""
        known = self._pick(self.flushers, which).claim
        again = self.services.claims.claim(known.batch_id, limit, self._newest_stored())
        assert not again.number or self._content(again) == self._content(known)

    @rule(which=st.integers(0))
    def take_over(self, which: int) -> None:
        """Another flusher finds an open batch: several may store it."""
        if open_ := self.services.claims.open_batches():
            found = self.services.claims.take_over(self._pick(open_, which))
            assert found.number
            self.flushers.append(self._flusher(found))

    @precondition(lambda self: self.flushers)
    @rule(which=st.integers(0), pages=st.integers(1, 9))
    def read(self, which: int, pages: int) -> None:
        """A flusher reads some of the pages of its buckets, and sleeps on."""
        flusher = self._pick(self.flushers, which)
        flusher.pages += islice(flusher.rest, pages)

    @precondition(lambda self: self.flushers)
    @rule(which=st.integers(0), times=TIMES, staged=st.booleans(), twice=st.booleans())
    def store(self, which: int, times: int, staged: bool, twice: bool) -> None:
        """A flusher stores what it claimed, in memory or by way of a temporary table, and again
        when the reply to its commit was lost. Redis may have given pages twice."""
        flusher = self._pick(self.flushers, which)
        self.flushers.remove(flusher)
        for _ in range(times):
            self._store(flusher, staged=staged, twice=twice)
        self.stored.append(flusher.claim)

    @precondition(lambda self: self.stored)
    @rule(which=st.integers(0))
    def store_again(self, which: int) -> None:
        """A flusher that slept for an hour wakes up: the batch is stored already."""
        assert self._store(self._flusher(self._pick(self.stored, which))) == 0

    @precondition(lambda self: self.stored)
    @rule(which=st.integers(0), times=TIMES)
    def settle(self, which: int, times: int) -> None:
        for _ in range(times):
            self.services.claims.settle(self._pick(self.stored, which).batch_id)

    @precondition(lambda self: self.looked >= self.calm_until)
    @rule()
    def flush(self) -> None:
        """A flush from end to end, which first stores what others left."""
        self._disturb()
        assert self.services.repair_counters() == 0
        self.services.flush()
        assert self.services.claims.pending() == 0
        assert self.services.claims.open_batches() == []

    # -- flushers of the version before --

    @precondition(lambda self: self.is_pending)
    @rule(limit=st.integers(1, 3))
    def claim_as_before(self, limit: int) -> None:
        batch = BatchBefore(self._name())
        self.before.claim_part(batch, limit, self._newest_stored())
        if batch.claim[1]:
            self.of_before.append(batch)

    @precondition(lambda self: self.of_before)
    @rule(which=st.integers(0), limit=LIMITS, is_taken_over=st.booleans())
    def claim_more_as_before(self, which: int, limit: int, is_taken_over: bool) -> None:
        """Another part, unless another flusher has taken the batch over, or settled it. One may
        take it over at this moment, and store it after."""
        batch = self._pick(self.of_before, which)
        others = [self.services.claims.take_over(batch.batch_id)] if is_taken_over else []
        self.before.claim_part(batch, limit, self._newest_stored())
        if not batch.claim[1]:
            self.of_before.remove(batch)
        for other in others:
            if other.number:
                self._store(self._flusher(other))
                self.stored.append(other)

    @precondition(lambda self: self.of_before)
    @rule(which=st.integers(0), then=st.sampled_from(["die", "store", "settle"]))
    def end_as_before(self, which: int, then: str) -> None:
        """A flusher of the version before has its batch together, and stores it."""
        batch = self._pick(self.of_before, which)
        self.of_before.remove(batch)
        if then != "die":
            self.before.store(batch.as_claim())
        if then == "settle":
            self.before.settle(batch.batch_id)

    @precondition(lambda self: self.looked >= self.calm_until)
    @rule(size=LIMITS, part=st.integers(1, 9))
    def flush_as_before(self, size: int, part: int) -> None:
        """A whole flush of the version before: it stores all that is its own, and nothing else."""
        self._disturb()
        of_today = set(self.services.claims.open_batches()) - set(self.before.open_batches())
        held = {batch_id: self._content(self._look(batch_id)) for batch_id in of_today}
        self.before.flush(size, part)
        assert self.before.open_batches() == []
        assert self.services.redis.scard(self.services.keys.pending_flush) == 0
        for batch_id, content in held.items():
            assert self._content(self._look(batch_id)) == content

    # -- upkeep --

    @precondition(lambda self: self.looked >= self.calm_until)
    @rule(which=st.integers(0))
    def erase(self, which: int) -> None:
        """Transfers are held off: a flusher that had claimed and not stored has lost its
        transaction."""
        self._disturb()
        self.flushers.clear()
        self.of_before.clear()
        user = self._pick(
            sorted({key[1] for key in self.counts if key[0] == "user"}) or USERS, which
        )
        erase_user(self.services.counters, self.services.engine, SoughtUser((user,)), "a test")
        self.erased.add(user)
        for key in [key for key in self.counts if key[:2] == ("user", user)]:
            del self.counts[key]
        self._check_user(user)

    @precondition(lambda self: self.looked >= self.calm_until)
    @rule()
    def remove_type(self) -> None:
        """Fold a type into the rest, and let it be counted again."""
        self._disturb()
        self.flushers.clear()
        self.of_before.clear()
        services = self.services
        remover = TypeRemover(services.counters, services.event_log, services.archive)
        remover.remove([JUNK], TODAY)
        remover.restore([JUNK], TODAY)
        for key in [key for key in self.counts if JUNK in key]:
            self.counts[tuple(OTHER if part == JUNK else part for part in key)] += self.counts.pop(
                key
            )

    # -- readers --

    @invariant()
    def reads_are_exact(self) -> None:
        """At every step: a day, a user and a value, each time others."""
        if not hasattr(self, "before"):
            return
        self.looked += 1
        event_type = (COUNTED_BY_PATH, JUNK, OTHER)[self.looked % 3]
        self._check_type(event_type)
        self._check_user(USERS[self.looked % len(USERS)])
        self._check_value(PATHS[self.looked % len(PATHS)])

    def teardown(self) -> None:
        """In the end all is stored, and nothing is left in Redis."""
        if not hasattr(self, "before"):
            return
        self.services.flush()
        assert list(self.services.redis.scan_iter(f"{self.services.keys.inflight}*")) == []
        self.services.redis.delete(*self.services.keys.live_buckets)
        for event_type in (COUNTED_BY_PATH, JUNK, OTHER):
            self._check_type(event_type)
        for user in USERS:
            self._check_user(user)
        for path in PATHS:
            self._check_value(path)

    def _check_type(self, event_type: str) -> None:
        for day, n in self.services.stats.series(event_type, *DAYS, "day"):
            assert n == self.counts["daily", event_type, f"{day}"]
        every = sum(n for key, n in self.counts.items() if key[:2] == ("daily", event_type))
        assert sum(n for _, n in self.services.stats.series(event_type, *DAYS, "hour")) == every
        found = self.services.stats.quarter_counts(event_type, *DAYS)
        assert sum(found.quarters.values()) == self.counts["quarters", event_type]
        assert sum(found.unsplit.values()) == every - self.counts["quarters", event_type]

    def _check_user(self, user: str) -> None:
        found = {
            ("user", user, event_type, f"{day}"): n
            for event_type, days in self.services.stats.user_counts(user).items()
            for day, n in days.items()
        }
        assert found == {key: n for key, n in self.counts.items() if key[:2] == ("user", user)}

    def _check_value(self, path: str) -> None:
        count = self.services.stats.property_count(COUNTED_BY_PATH, "path", path, *DAYS)
        assert count == self.counts["value", path]
        self._check_sums(path)

    def _check_sums(self, path: str) -> None:
        sums, counts = self.services.stats.sums, self.counts
        total = sums.read_sum(COUNTED_BY_PATH, "ms", *DAYS)
        assert total == PropertySum(*(counts[one,] for one in ("sum", "numbers", "others")))  # type: ignore[arg-type]
        assert sums.read_distribution(COUNTED_BY_PATH, "ms", *DAYS).count == total.count
        of_values = sums.read_value_sums((COUNTED_BY_PATH, "ms", "path"), *DAYS)
        assert of_values.get(path, PropertySum()).sum == counts["sum", path]

    def _add(self, batch: list[Event], *, is_before: bool) -> None:
        for one in batch:
            if one.user_id in self.erased:
                continue
            day = f"{one.timestamp.date()}"
            self.counts["daily", one.event_type, day] += 1
            if one.user_id is not None:
                self.counts["user", one.user_id, one.event_type, day] += 1
            if one.properties and one.event_type == COUNTED_BY_PATH:
                self.counts["value", one.properties["path"]] += 1
            if not is_before:
                self.counts["quarters", one.event_type] += 1
                self._add_number(one)

    def _add_number(self, one: Event) -> None:
        number = (one.properties or {}).get("ms") if one.event_type == COUNTED_BY_PATH else None
        if isinstance(number, str):
            self.counts["others",] += 1
        elif number is not None:
            self.counts["numbers",] += 1
            for key in (("sum",), ("sum", cast("dict[str, Any]", one.properties)["path"])):
                self.counts[key] += Decimal(str(number))  # type: ignore[assignment]

    def _name(self) -> str:
        return f"batch{next(self.names)}"

    def _pick(self, some: list[Any], which: int) -> Any:
        return some[which % len(some)]

    def _flusher(self, claim: Claim) -> Flusher:
        return Flusher(claim, self.services.claims.read_buckets(claim))

    def _disturb(self) -> None:
        """What ends much that is under way comes after some steps without: they get on."""
        self.calm_until = self.looked + CALM

    def _look(self, batch_id: str) -> Claim:
        return self.services.claims.claim(batch_id, 1, (0, 0))

    def _content(self, claim: Claim) -> dict[str, Any]:
        fields: dict[bytes, bytes] = {}
        for page in self.services.claims.read_buckets(claim):
            fields |= page
        return {"named": claim.named, "buckets": claim.buckets, "fields": fields}

    def _store(self, flusher: Flusher, *, staged: bool = False, twice: bool = False) -> int | None:
        flusher.pages += flusher.rest
        pages = flusher.pages * (1 + twice)
        store.SORTED_IN_MEMORY = 0 if staged else 1_000
        with self.services.store.transaction() as transaction:
            return transaction.save(flusher.claim, pages)

    def _newest_stored(self) -> tuple[int, int]:
        with self.services.store.transaction() as transaction:
            return transaction.newest_claim()
