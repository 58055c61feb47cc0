"""The version before gave each counter of a user or a value a key of its own: what it left is taken
up, and its workers and flushers may work beside those of today."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from subprocess import Popen

import pytest

from pipeline.services import Services
from tests.acceptance.drivers.before_driver import events_of
from tests.acceptance.drivers.flushers import Flushers, finish
from tests.acceptance.drivers.truth import Seen, Truth, assert_reads, assert_stored
from tests.helpers.before_buckets.processes import BatchBefore, FlusherBefore, WorkerBefore
from tests.helpers.processes import LIMIT_S, piped_python
from tests.helpers.support import event, message

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


def count_before(services: Services, *events: Seen) -> None:
    WorkerBefore(services).apply([as_message(events)], datetime.now(UTC))


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


@pytest.fixture
def left(services: Services) -> Truth:
    """What the version before leaves that is stopped in the middle of its work: a batch that is
    stored and not settled, one that was claimed in two parts and not stored, and live counters."""
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
    assert len(flusher.open_batches()) == 2
    return Truth(EVENTS)


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
    count_today(services, *EVENTS)
    left.add(EVENTS)
    assert_reads(services, left)


def test_it_is_flushed(services: Services, left: Truth) -> None:
    count_today(services, *EVENTS[:30])
    left.add(EVENTS[:30])
    services.flush()
    assert_stored(services, left)
    assert_reads(services, left)


def test_it_is_audited_and_rebuilt(services: Services, left: Truth) -> None:
    count_today(services, *EVENTS[:30])
    left.add(EVENTS[:30])
    assert services.audit(*DAYS) == []
    found = services.rebuild(DAYS, datetime.now(UTC), dry_run=False)
    assert [one.changed for one in found] == [{}, {}]
    assert_reads(services, left)
    services.flush()
    assert_stored(services, left)


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
    assert_reads(services, expected)
    services.flush()
    assert_stored(services, expected)
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
    """Each of them is killed once at some moment, the flushers while they flush."""
    flushers = [processes.start(version, "flush") for version in ("before", "today") * 2]
    workers = [
        processes.start(version, "work", "--seed", f"{seed}")
        for seed, version in enumerate(("before", "today") * 2)
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
    stored = [finish(one) for one in flushers[killed:]]

    assert killed == 2
    assert all(stored), "each of them has stored some"
    services.flush()
    assert_stored(services, truth)
    assert services.audit(*DAYS) == []


@pytest.mark.parametrize("moment", ["after claim", "after read", "after ledger", "after commit"])
def test_a_flusher_of_before_never_touches_a_batch_of_today(
    services: Services, processes: Processes, redis_url: str, postgres_url: str, moment: str
) -> None:
    truth = both_count(services)
    flushers = Flushers(redis_url, postgres_url, 1_000)
    with flushers.paused(moment) as ours:
        batch = {name: content(services, name) for name in journal_of_the_only_batch(services)}
        assert len(batch) > 3
        both_count(services, truth)

        theirs = processes.start("before", "flush", "--once")

        assert finish(theirs) > 0
        assert {name: content(services, name) for name in batch} == batch
        assert_reads(services, truth)
        finish(ours)
    assert_reads(services, truth)
    services.flush()
    assert_stored(services, truth)


def test_with_the_score_of_before_a_flusher_of_before_loses_a_batch_of_today(
    services: Services, processes: Processes, redis_url: str, postgres_url: str
) -> None:
    """What the other score of an open batch is for."""
    truth = both_count(services)
    flushers = Flushers(redis_url, postgres_url, 1_000)
    with flushers.paused("after claim", 1, "--score-of-before") as ours:
        finish(processes.start("before", "flush", "--once"))
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
    count: Callable[..., None]
    for count in (count_before, count_today):
        count(services, *EVENTS)
        found.add(EVENTS)
    return found


def journal_of_the_only_batch(services: Services) -> list[str]:
    """The keys of the batch that is open."""
    [batch_id] = services.claims.open_batches()
    names = [services.keys.inflight + batch_id, *services.keys.journal_buckets(batch_id)]
    return [name for name in names if services.redis.exists(name)]


def content(services: Services, name: str) -> dict[bytes, bytes]:
    return services.redis.hgetall(name)
