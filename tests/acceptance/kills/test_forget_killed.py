"""An erasure that is killed at any point and repeated comes to the same end."""

from __future__ import annotations

import signal

import pytest
import redis

from pipeline import track_event
from pipeline.services import Services
from tests.acceptance.drivers.forget_driver import POINTS
from tests.helpers.processes import run_python
from tests.helpers.support import NOW, Workers, count_events, event, eventually
from tests.integration.upkeep.test_erase import ANN, DAYS, a_life, agree, totals, traces


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_repeated_it_comes_to_the_same_end(
    services: Services, client: redis.Redis, redis_url: str, postgres_url: str, point: str
) -> None:
    a_life(services)
    before = totals(services)

    killed = run_python(
        "-m", "tests.acceptance.drivers.forget_driver", point, ANN, redis_url, postgres_url
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert totals(services) == before
    services.flush()  # traffic goes on meanwhile
    count_events(services, event("later", "bob"))
    services.erase_user(ANN)

    assert totals(services) == before | {"bob": services.stats.user_counts("bob")}
    assert services.stats.user_counts(ANN) == {}
    assert traces(services, client, ANN) == []
    assert agree(services)


def test_what_waited_in_the_queue_for_workers_is_dropped_by_them(
    services: Services, client: redis.Redis, workers: Workers, sending: None
) -> None:
    """Plain tasks and those that go Celery's own way."""
    for _ in range(20):
        track_event.delay("page_view", user_id=ANN, timestamp=NOW)
        track_event.delay("page_view", user_id="bob", timestamp=NOW)
    for user_id in (ANN, "bob"):
        track_event.apply_async(
            ("page_view",), {"user_id": user_id, "timestamp": NOW}, countdown=0.1
        )
    services.erase_user(ANN)

    workers.start("events")

    eventually(lambda: services.status()["books"]["consumed"] == 42)
    books = services.status()["books"]
    assert (books["counted"], books["forgotten"], books["balanced"]) == (21, 21, True)
    assert services.stats.count("page_view", *DAYS) == 21
    assert services.stats.user_counts(ANN) == {}
    # Celery's own queue structures are gone with the messages.
    assert traces(services, client, ANN) == []
