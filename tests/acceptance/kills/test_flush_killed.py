"""A flush that dies at any step, or runs beside another, stores every count exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipeline.services import Services
from tests.acceptance.drivers.flushers import Flushers, finish, go_on
from tests.acceptance.drivers.truth import Seen, Truth, assert_reads, assert_stored, stored
from tests.helpers.support import count_events, event, stored_total

# Small batches, so that a flush of these few counters takes many.
BATCH_SIZE = 1
NOON = datetime(2025, 3, 14, 12, tzinfo=UTC)
EVENTS = [
    Seen(f"user {n % 9}", f"/{n % 7}", NOON - timedelta(hours=9 * (n % 4), days=n % 3))
    for n in range(90)
]
MORE = EVENTS[::2]

# The end of a step is the beginning of the next: "after ledger" is "before upsert", "after commit"
# is "before settle".
MOMENTS = [
    ("before claim", 1),
    ("after claim", 1),
    ("before read", 1),
    ("after read", 2),
    ("before ledger", 1),
    ("after ledger", 1),
    ("after upsert", 2),
    ("before commit", 1),
    ("after commit", 1),
    ("after settle", 1),
    ("after settle", 10),
    ("after claim", 12),
    ("after read", 20),
    ("after commit", 2),
    ("after commit", 12),
]
# The first batches are of event types, whose counters are in no temporary table.
MOMENTS_WITH_TABLES = [
    ("before stage", 1),
    ("after stage", 2),
    ("after stage", 30),
    ("before ledger", 10),
    ("after ledger", 10),
    ("after upsert", 20),
    ("before commit", 10),
    ("after commit", 10),
]


@pytest.fixture
def flushers(redis_url: str, postgres_url: str) -> Flushers:
    return Flushers(redis_url, postgres_url, BATCH_SIZE)


def count(services: Services, events: Sequence[Seen]) -> None:
    count_events(
        services,
        *(event(e.event_type, e.user, properties={"path": e.path}, timestamp=e.at) for e in events),
    )


def add_up(tables: Mapping[str, Sequence[tuple[Any, ...]]]) -> int:
    """The sum of all counts of all tables."""
    return sum(row[-1] for rows in tables.values() for row in rows)


def held_by_the_only_batch(services: Services) -> int:
    """The sum of all counts of the batch that is open."""
    [batch_id] = services.claims.open_batches()
    claim = services.claims.take_over(batch_id)
    fields = dict(one for page in services.claims.read_buckets(claim) for one in page.items())
    return sum(claim.named.values()) + sum(map(int, fields.values()))


def claim_and_leave(services: Services, batches: int) -> None:
    """What a flush leaves that dies before it stores anything."""
    for n in range(batches):
        assert services.claims.claim(f"left-{n}", BATCH_SIZE, (0, 0)).number


@pytest.mark.parametrize(
    ("moment", "nth", "options"),
    [
        *(pytest.param(*at, (), id=" ".join(map(str, at))) for at in MOMENTS),
        *(
            pytest.param(*at, ("--staged",), id=" ".join(map(str, (*at, "staged"))))
            for at in MOMENTS_WITH_TABLES
        ),
    ],
)
def test_a_flush_killed_at_any_step_and_run_again_stores_exact_counts(
    services: Services, flushers: Flushers, moment: str, nth: int, options: tuple[str, ...]
) -> None:
    count(services, EVENTS)
    truth = Truth(EVENTS)

    flushers.killed(moment, nth, *options)

    assert_reads(services, truth, every=3)
    count(services, MORE)
    truth.add(MORE)
    assert_reads(services, truth, every=3)
    services.flush()
    assert_stored(services, truth)
    assert_reads(services, truth)


@pytest.mark.parametrize(
    "moment",
    [
        *("after take over", "after read", "after ledger", "before commit", "after commit"),
    ],
)
def test_a_flush_killed_while_it_repeats_a_killed_one_stores_exact_counts(
    services: Services, flushers: Flushers, moment: str
) -> None:
    count(services, EVENTS)
    claim_and_leave(services, batches=9)  # the last of them are buckets
    count(services, MORE)
    truth = Truth([*EVENTS, *MORE])

    flushers.killed(moment, 2)  # the second of the batches left over

    assert_reads(services, truth)
    services.flush()
    assert_stored(services, truth)


@pytest.mark.parametrize("options", [(), ("--staged",)], ids=["", "staged"])
@pytest.mark.parametrize("nth", [1, 10], ids=["types", "a bucket"])
def test_without_the_ledger_a_flush_killed_before_it_settles_is_counted_twice(
    services: Services, flushers: Flushers, nth: int, options: tuple[str, ...]
) -> None:
    count(services, EVENTS)

    flushers.killed("before settle", nth, "--without-ledger", *options)
    stored_and_left = held_by_the_only_batch(services)
    flushers.whole("--without-ledger")

    # The sabotage is seen by the same comparison that passes with the ledger.
    assert stored_and_left > 0
    assert add_up(stored(services)) == add_up(Truth(EVENTS).tables()) + stored_and_left
    with pytest.raises(AssertionError):
        assert_stored(services, Truth(EVENTS))


def test_without_the_ledger_an_undisturbed_flush_is_exact(
    services: Services, flushers: Flushers
) -> None:
    count(services, EVENTS)

    flushers.whole("--without-ledger")

    assert_stored(services, Truth(EVENTS))


def test_batches_of_a_flush_that_stands_still_are_stored_by_another_and_not_again(
    services: Services, flushers: Flushers
) -> None:
    count(services, EVENTS)
    with flushers.paused("before ledger") as slow:
        services.flush()
        stored_by_the_other = stored_total(services)
        assert_reads(services, Truth(EVENTS))

        finish(slow)

    assert stored_by_the_other == len(EVENTS)
    assert_stored(services, Truth(EVENTS))


def test_a_batch_that_another_flush_is_storing_is_left_to_it(
    services: Services, redis_url: str, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.flushing.flush._LEFT_OVER_LOCK_TIMEOUT_S", 1)
    count(services, EVENTS)
    with Flushers(redis_url, postgres_url, 1_000).paused("before commit") as slow:
        services.flush()
        assert_reads(services, Truth(EVENTS))

        finish(slow)

    assert_reads(services, Truth(EVENTS))
    services.flush()
    assert_stored(services, Truth(EVENTS))


def test_two_flushers_at_once_store_exact_counts(services: Services, flushers: Flushers) -> None:
    many = [Seen(f"user {n}", f"/{n}", NOON) for n in range(300)]
    count(services, many)
    truth = Truth(many)
    with flushers.paused("before claim") as first, flushers.paused("before claim") as second:
        go_on(first)
        go_on(second)
        while first.poll() is None or second.poll() is None:
            count(services, MORE)
            truth.add(MORE)
            assert_reads(services, truth, every=100)
        stored_by_each = [finish(first), finish(second)]

    assert all(stored_by_each)
    services.flush()
    assert_stored(services, truth)
