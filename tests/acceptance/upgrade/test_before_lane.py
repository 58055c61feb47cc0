"""Event workers of the version before the event lane and of today drain the same queue together,
exactly, also where one of them is killed with what it holds."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import pytest
import redis

from pipeline.producer.celery_tasks import track_event
from pipeline.services import Services
from tests.helpers.processes import piped_python
from tests.helpers.support import Workers, eventually, rows

EVENTS, USERS = 6_000, 50
BEFORE = "tests.helpers.before_lane.worker"


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("sending")
def test_workers_of_both_versions_drain_a_queue_together_and_are_exact(
    services: Services, workers: Workers, client: redis.Redis, redis_url: str
) -> None:
    sent: Counter[str] = Counter()
    now = datetime.now(UTC)

    def send(number: int) -> None:
        for n in range(number):
            user, priority = f"u{n % USERS}", 6 * (n % 100 == 0)
            options = {"priority": priority} if priority else {}
            track_event.apply_async(("page_view", user), {"timestamp": now}, **options)
            sent[user] += 1

    def consumed() -> int:
        return int(client.hget(services.keys.totals, "consumed") or 0)

    today = workers.start("events", VISIBILITY_TIMEOUT_S="1")
    with piped_python("-m", BEFORE, redis_url) as before:
        send(EVENTS // 3)
        today.kill()
        send(EVENTS // 3)
        alone = consumed()
        eventually(lambda: consumed() > alone, what="the version before counts alone")
        workers.start("events", VISIBILITY_TIMEOUT_S="1")
        send(EVENTS // 3)
        before.kill()

    eventually(lambda: consumed() == EVENTS)
    eventually(lambda: not client.exists(services.keys.unacked))
    services.flush()
    stored = {user: n for _, _, user, n in rows(services, "analytics_user_daily")}
    assert stored == dict(sent)
    assert services.status()["books"]["balanced"]
