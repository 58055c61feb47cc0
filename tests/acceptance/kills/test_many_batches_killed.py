"""A flush of many buckets dies in a later batch: counts are exact all the same."""

from __future__ import annotations

import pytest

from pipeline.services import Services
from tests.acceptance.drivers.flushers import Flushers
from tests.helpers.support import TODAY, count_users, execute, stored_total

USERS = 40_000
BATCH_SIZE = 10_000


@pytest.fixture
def flushers(redis_url: str, postgres_url: str) -> Flushers:
    return Flushers(redis_url, postgres_url, BATCH_SIZE)


@pytest.mark.parametrize(
    ("moment", "nth"),
    [("after claim", 3), ("after read", 9_000), ("before commit", 3), ("after commit", 3)],
    ids=lambda value: f"{value}",
)
def test_a_flush_killed_in_a_later_batch_and_run_again_stores_exact_counts(
    services: Services, flushers: Flushers, moment: str, nth: int
) -> None:
    count_users(services, USERS)

    flushers.killed(moment, nth)

    assert services.stats.daily_count("page_view", TODAY) == USERS
    count_users(services, USERS // 4)
    events = USERS + USERS // 4
    assert services.stats.daily_count("page_view", TODAY) == events
    flushers.whole()
    assert services.claims.pending() == 0
    assert stored_total(services) == events
    of_users = "SELECT count(*), sum(count) FROM analytics_user_daily"
    assert execute(services, of_users) == [(USERS, events)]
    assert services.stats.daily_count("page_view", TODAY) == events
