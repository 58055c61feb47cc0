"""A version before gave each counter of a user or a value a key of its own, and the one after it
counted hours by keys: what they left is taken up, and their workers may work beside those of today.
Their flushers may try: the ledger takes no batch from them, since they do not know all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from subprocess import Popen

import pytest

from pipeline.redis.keys import QUARTERS
from pipeline.services import Services
from tests.acceptance.drivers.before_driver import events_of
from tests.acceptance.drivers.flushers import Flushers, finish
from tests.acceptance.drivers.truth import Seen, Truth, assert_reads, assert_stored
from tests.helpers.before_buckets.processes import BatchBefore, FlusherBefore, WorkerBefore
from tests.helpers.measures.before_quarters import FlusherOfHours, WorkerOfHours
from tests.helpers.processes import LIMIT_S, piped_python
from tests.helpers.support import event, execute, message, rows, store

NOON = datetime(2025, 3, 14, 12, tzinfo=UTC)
TODAY = NOON.date()
YESTERDAY = TODAY - timedelta(days=1)
DAYS = (YESTERDAY, TODAY)
# Names with what a key escapes, and one type that is to go.
EVENTS = [
    Seen(
        ("ann", "a: b%", "цвет", "{x}")[n % 4],
        f"/{n % 5}" if n % 3 == 0 else None,
        NOON - timedelta(hours=9 * (n % 4)),
        ("page_view", "junk", "order")[n % 3],
    )
    for n in range(60)
]


VERSIONS = {"keys": WorkerBefore, "hours": WorkerOfHours}
"""Those before, with what counts as their workers do."""


def count_before(services: Services, *events: Seen, version: str = "keys") -> None:
    VERSIONS[version](services).apply([as_message(events)], datetime.now(UTC))


def count_today(services: Services, *events: Seen) -> None:
    services.counters.apply([as_message(events)], datetime.now(UTC))


def as_message(events: tuple[Seen, ...]) -> object:
    return message(
        *(
            event(
                one.event_type,
                one.user,
                properties={"path": one.path} if one.path else None,
                timestamp=one.at,
            )
            for one in events
        )
    )


@pytest.fixture(params=VERSIONS)
def left(services: Services, request: pytest.FixtureRequest) -> Truth:
    """What a version before leaves that is stopped in the middle of its work: a batch that is
    stored and not settled, one that is claimed and not stored, and live counters. All of its hours
    are without quarters."""
    (leave_keys if request.param == "keys" else leave_hours)(services)
    assert [*services.redis.scan_iter("analytics:counter:*:2025-03-14:03")]
    assert rows(services, "analytics_hourly")
    assert rows(services, "analytics_quarter_hourly") == []
    assert not services.redis.exists(services.keys.live_buckets[QUARTERS])
    assert len(services.claims.open_batches()) == 2
    return Truth(EVENTS)


def leave_keys(services: Services) -> None:
    """One batch was claimed in two parts."""
    flusher = FlusherBefore(services)
    count_before(services, *EVENTS[:20])
    stored = flusher.claim_batch(1_000, 7, (0, 0))
    assert flusher.store(stored.as_claim()) == len(stored.counts)
    count_before(services, *EVENTS[20:40])
    claimed = BatchBefore("claimed in parts")
    for _ in range(2):
        flusher.claim_part(claimed, 9, stored.claim)
    assert len(claimed.counts) == 18
    count_before(services, *EVENTS[40:])
    assert [*services.redis.scan_iter("analytics:user:*")]
    assert [*services.redis.scan_iter("analytics:dim:*")]
    assert flusher.open_batches() == services.claims.open_batches()


def leave_hours(services: Services) -> None:
    """A batch that was stored is in the ledger with the form that the migration gave it."""
    claims = FlusherOfHours(services).claims
    count_before(services, *EVENTS[:20], version="hours")
    stored = claims.claim("stored", 1_000, (0, 0))
    assert store(services, stored) == stored.size
    execute(services, "UPDATE flush_batches SET form = 1")
    count_before(services, *EVENTS[20:40], version="hours")
    claimed = claims.claim("claimed", 25, (stored.epoch, stored.number))
    assert claimed.named
    assert sum(claimed.buckets)
    assert claimed.pending
    count_before(services, *EVENTS[40:], version="hours")


def test_it_is_read_at_once_and_while_today_counts_on(services: Services, left: Truth) -> None:
    assert_reads(services, left)
    assert services.stats.user_counts("a: b%") == {
        event_type: {
            day: n
            for (day, kind, user), n in left.users.items()
            if (kind, user) == (event_type, "a: b%")
        }
        for event_type in {kind for _, kind, user in left.users if user == "a: b%"}
    }
    assert_splits(services, left, Truth())
    count_today(services, *EVENTS)
    assert_splits(services, left, Truth(EVENTS))
    left.add(EVENTS)
    assert_reads(services, left)


def assert_splits(services: Services, before: Truth, today: Truth) -> None:
    """The hours of before are read whole, those of today by their quarters."""
    for event_type in {of for of, _ in (before.hourly | today.hourly)}:
        found = services.stats.quarter_counts(event_type, *DAYS)
        for said, truth in ((found.unsplit, before), (found.quarters, today)):
            assert said == {at: n for (of, at), n in truth.hourly.items() if of == event_type}


def test_it_is_flushed(services: Services, left: Truth) -> None:
    before, today = Truth(EVENTS), Truth(EVENTS[:30])
    count_today(services, *EVENTS[:30])
    left.add(EVENTS[:30])
    services.flush()
    assert_stored(services, left)
    assert_reads(services, left)
    assert_splits(services, before, today)
    assert rows(services, "analytics_quarter_hourly") == today.tables()["analytics_hourly"]


def test_it_is_audited_and_rebuilt(services: Services, left: Truth) -> None:
    count_today(services, *EVENTS[:30])
    left.add(EVENTS[:30])
    assert services.audit(*DAYS) == []
    found = services.rebuild(DAYS, datetime.now(UTC), dry_run=False)
    changed = {name: pair for one in found for name, pair in one.changed.items()}
    assert all(name.startswith("analytics:quarter:") for name in changed)
    assert sum(after - before for before, after in changed.values()) == len(EVENTS)
    assert_reads(services, left)
    assert_splits(services, Truth(), left)
    services.flush()
    assert_stored(services, left)
    assert_splits(services, Truth(), left)
    assert services.audit(*DAYS) == []
    again = services.rebuild(DAYS, datetime.now(UTC), dry_run=False)
    assert [one.changed for one in again] == [{}, {}]


def test_a_user_is_erased_from_it(services: Services, left: Truth) -> None:
    count_today(services, *EVENTS[:30])
    kept = Truth([*EVENTS, *EVENTS[:30]])
    for key in [key for key in kept.users if key[2] == "a: b%"]:
        del kept.users[key]

    services.erase_user("a: b%")

    assert services.stats.user_counts("a: b%") == {}
    assert_reads(services, kept)
    assert list(services.redis.scan_iter("*a%3A%20b*")) == []
    services.flush()
    assert_stored(services, kept)


def test_a_type_is_removed_from_it(services: Services, left: Truth) -> None:
    def folded(one: Seen) -> Seen:
        return Seen(one.user, None, one.at, "__other__") if one.event_type == "junk" else one

    count_today(services, *EVENTS[:30])
    expected = Truth(map(folded, [*EVENTS, *EVENTS[:30]]))

    services.remove_types(["junk"], TODAY)

    assert services.stats.count("junk", *DAYS) == 0
    of_before, of_today = Truth(map(folded, EVENTS)), Truth(map(folded, EVENTS[:30]))
    assert_reads(services, expected)
    assert_splits(services, of_before, of_today)
    services.flush()
    assert_stored(services, expected)
    assert_splits(services, of_before, of_today)
    assert services.audit(*DAYS) == []


# Side by side


class Processes:
    """Workers and flushers of both versions at the test's servers."""

    def __init__(self, stack: ExitStack, *urls: str) -> None:
        self._stack, self._urls = stack, urls

    def start(self, version: str, role: str, *options: str) -> Popen[str]:
        command = ("-m", "tests.acceptance.drivers.before_driver", *self._urls, version, role)
        return self._stack.enter_context(piped_python(*command, *options))


@pytest.fixture
def processes(redis_url: str, postgres_url: str) -> Iterator[Processes]:
    with ExitStack() as stack:
        yield Processes(stack, redis_url, postgres_url)


@pytest.mark.timeout(180)
def test_workers_and_flushers_of_both_versions_at_once_are_exact(
    services: Services, processes: Processes
) -> None:
    """Two flushers are killed at some moment, while they flush. The ledger takes no batch of the
    versions before: what they claim waits for a flusher of today."""
    flushers = [processes.start(of, "flush", *refused(of)) for of in ("hours", "today") * 2]
    flushers.append(processes.start("keys", "flush", *refused("keys")))
    workers = [
        processes.start(version, "work", "--seed", f"{seed}")
        for seed, version in enumerate(("keys", "today", "hours", "today"))
    ]
    truth = Truth(one for seed in range(4) for one in events_of(seed))
    highest: dict[object, int] = {}
    killed = 0
    while any(one.poll() is None for one in workers):
        counts: dict[object, int] = {
            user: sum(days.get("page_view", {}).values())
            for user in ("user 1", "user 2")
            for days in [services.stats.user_counts(user, *DAYS)]
        }
        counts |= {day: services.stats.daily_count("page_view", day) for day in DAYS}
        for key, n in counts.items():
            assert n >= highest.get(key, 0), f"{key} fell from {highest[key]} to {n}"
        highest |= counts
        if killed < 2 and counts[TODAY] > (killed + 1) * 400:
            flushers[killed].kill()
            killed += 1
    for worker in workers:
        assert worker.communicate(timeout=LIMIT_S)[1] == ""
        assert worker.returncode == 0
    assert_reads(services, truth)
    hours, today, keys = [finish(one) for one in flushers[killed:]]

    assert killed == 2
    assert today, "it has stored some"
    assert hours, "the ledger has refused some, and they have stored none"
    assert keys
    services.flush()
    assert_stored(services, truth)
    assert services.audit(*DAYS) == []


def refused(version: str) -> tuple[str, ...]:
    """What a flusher is started with, of which nothing but refusals is expected before today."""
    return () if version == "today" else ("--refused",)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("moment", ["after claim", "after read", "after ledger", "after commit"])
def test_a_flusher_of_before_never_touches_a_batch_of_today(
    services: Services,
    processes: Processes,
    redis_url: str,
    postgres_url: str,
    moment: str,
    version: str,
) -> None:
    truth = both_count(services)
    flushers = Flushers(redis_url, postgres_url, 1_000)
    with flushers.paused(moment) as ours:
        batch = {name: content(services, name) for name in journal_of_the_only_batch(services)}
        assert len(batch) > 3
        both_count(services, truth)

        theirs = processes.start(version, "flush", "--once", "--refused")

        assert finish(theirs) == 1
        assert {name: content(services, name) for name in batch} == batch
        assert_reads(services, truth)
        finish(ours)
    assert_reads(services, truth)
    services.flush()
    assert_stored(services, truth)


@pytest.mark.parametrize(
    ("version", "options"), [("keys", ("--score-of-before",)), ("hours", ())], ids=VERSIONS
)
def test_without_the_form_of_a_batch_a_flusher_of_before_loses_one_of_today(
    services: Services,
    processes: Processes,
    redis_url: str,
    postgres_url: str,
    version: str,
    options: tuple[str, ...],
) -> None:
    """What the form in the ledger is for."""
    execute(services, "ALTER TABLE flush_batches ALTER form SET DEFAULT 1")
    truth = both_count(services)
    flushers = Flushers(redis_url, postgres_url, 1_000)
    with flushers.paused("after claim", 1, *options) as ours:
        finish(processes.start(version, "flush", "--once"))
        finish(ours)
    services.flush()
    with pytest.raises(AssertionError):
        assert_stored(services, truth)
    lost = list(services.redis.scan_iter("analytics:inflight:*"))
    assert lost
    services.redis.delete(*lost)


def both_count(services: Services, truth: Truth | None = None) -> Truth:
    """Events counted by a worker of each version, for the same users."""
    found = truth or Truth()
    for version in VERSIONS:
        count_before(services, *EVENTS, version=version)
    count_today(services, *EVENTS)
    found.add(EVENTS * 3)
    return found


def journal_of_the_only_batch(services: Services) -> list[str]:
    """The keys of the batch that is open."""
    [batch_id] = services.claims.open_batches()
    names = [services.keys.inflight + batch_id, *services.keys.journal_buckets(batch_id)]
    return [name for name in names if services.redis.exists(name)]


def content(services: Services, name: str) -> dict[bytes, bytes]:
    """What is counted in it; not the mark of a flusher that has looked at it."""
    found = services.redis.hgetall(name)
    found.pop(b"#taken_over", None)
    return found
