"""A sealing that is killed at any point changes no measure of users, and the next one ends it."""

from __future__ import annotations

import signal
from datetime import date

import pytest

from pipeline.services import Services
from tests.acceptance.drivers.flushers import Flushers
from tests.acceptance.drivers.seal_driver import POINTS
from tests.helpers.measures.people import CLOCK, TODAY, Account, day_before, track, visit
from tests.helpers.processes import run_python
from tests.helpers.support import count_events

LIFE = [
    *[(day_before(70), name) for name in ("ann", "bob", "cid")],
    *[(day_before(3), name) for name in ("ann", "dan")],
    *[(day_before(1), name) for name in ("bob", "dan", "eve")],
    (TODAY, "ann"),
]
DAYS = [day_before(age) for age in (70, 3, 1, 0)]


def assert_exact(services: Services, seen: list[tuple[date, str]]) -> None:
    """Users and new users of every range of these days, as counted one by one; and the audit."""
    account = Account({(day, "page_view", name) for day, name in seen})
    for first in DAYS:
        for last in DAYS:
            if first <= last:
                found = services.stats.users([], first, last)
                assert (found.users, found.new) == account.count([], first, last)
    assert services.audit_users(date.min, date.max) == []


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_it_changes_no_measure(
    services: Services, redis_url: str, postgres_url: str, point: str
) -> None:
    track(services, *LIFE)
    killed = run_python(
        "-m",
        "tests.acceptance.drivers.seal_driver",
        *(point, CLOCK.isoformat(), redis_url, postgres_url),
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert_exact(services, LIFE)

    late = [(day_before(3), "late"), (day_before(40), "late")]
    track(services, *late)
    assert_exact(services, [*LIFE, *late])
    services.seal_users(CLOCK)
    assert_exact(services, [*LIFE, *late])
    assert services.seal_users(CLOCK) == []


@pytest.mark.parametrize(
    ("moment", "nth"),
    [
        ("after claim", 1),
        ("after upsert", 2),
        ("before commit", 1),
        ("after commit", 1),
    ],
)
def test_a_flush_of_late_events_that_is_killed_leaves_seals_and_rows_as_one(
    services: Services, redis_url: str, postgres_url: str, moment: str, nth: int
) -> None:
    track(services, *LIFE)
    services.seal_users(CLOCK)
    late = [(day, name) for day in DAYS for name in ("late", "later")]
    count_events(services, *[visit(*one) for one in late])

    Flushers(redis_url, postgres_url, 3).killed(moment, nth)

    assert services.audit_users(date.min, date.max) == []
    services.flush()
    assert_exact(services, [*LIFE, *late])
    services.seal_users(CLOCK)
    assert_exact(services, [*LIFE, *late])
