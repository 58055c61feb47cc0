"""A rolling upgrade: processes of the release before and of this one on one queue and one database,
with some of both killed meanwhile. Every event is counted and stored once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from pipeline.producer.celery_tasks import track_event
from pipeline.services import Services
from tests.acceptance.upgrade.previous_release import PreviousRelease
from tests.helpers.support import Worker, Workers, eventually, execute, rows

USERS, A_PART = 40, 1_000
SETTINGS = {"VISIBILITY_TIMEOUT_S": "2", "FLUSH_INTERVAL_S": "0.5", "METRICS_PORT": "0"}
"""One of them the release before may not know."""

APPLICATION = """
import sys
import pipeline
from pipeline import Tracker, track_event
assert "previous" in pipeline.__file__
for line in sys.stdin:
    first, number, users, at = line.split()
    with Tracker() as tracker:
        for n in range(int(first), int(first) + int(number)):
            event = "page_view", f"u{n % int(users)}"
            if n % 2:
                tracker.track(*event, timestamp=at)
            else:
                track_event.delay(*event, timestamp=at)
    print("done", flush=True)
"""


@pytest.fixture
def previous(tmp_path: Path, workers: Workers) -> PreviousRelease:
    return PreviousRelease(tmp_path, workers)


@pytest.fixture
def send_by_previous(previous: PreviousRelease) -> Iterator[Callable[..., None]]:
    """Has an application that has the release before send events."""
    with previous.application(APPLICATION) as order:
        yield order


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("sending")
def test_a_rolling_upgrade_counts_and_stores_every_event_once(
    services: Services,
    workers: Workers,
    previous: PreviousRelease,
    send_by_previous: Callable[..., None],
    client: redis.Redis,
) -> None:
    sent: Counter[str] = Counter()
    at = datetime.now(UTC).isoformat()

    def send(by_previous: bool, killed: Worker | None = None) -> None:
        """Send a part; `killed` is killed meanwhile, while messages are held."""
        first = sent.total()
        if by_previous:
            send_by_previous(first, A_PART, USERS, at)
        for n in range(first, first + A_PART):
            if not by_previous:
                track_event.delay("page_view", f"u{n % USERS}", timestamp=at)
            sent[f"u{n % USERS}"] += 1
            if killed is not None and client.hlen(services.keys.unacked) > 0:
                killed.kill()
                killed = None

    def counted() -> int:
        return int(client.hget(services.keys.totals, "counted") or 0)

    old = [previous.start("worker", kind, **SETTINGS) for kind in ("events", "flush")]
    old.append(previous.start("beat", **SETTINGS))
    send(by_previous=True)
    eventually(lambda: counted() == sent.total(), what="the release before does not count")

    ours = [workers.start(kind, ready=False, **SETTINGS) for kind in ("events", "flush")]
    send(by_previous=True)
    send(by_previous=False)
    send(by_previous=False, killed=old[0])
    ours[1].kill()  # in the middle of a flush, maybe
    back = previous.start("worker", "events", "--name", "again", **SETTINGS)
    send(by_previous=False, killed=ours[0])
    workers.start("flush", **SETTINGS)
    eventually(lambda: "ready." in back.said(), what="one of before starts beside ours")
    for one in (old[1], old[2], back):
        one.kill()

    workers.start("events", **SETTINGS)
    send(by_previous=True)
    send(by_previous=False)
    eventually(lambda: counted() == sent.total(), what="all is counted")
    eventually(lambda: not client.exists(services.keys.unacked), what="nothing is held")

    services.flush()
    services.archive_events()
    stored = {user: n for _, _, user, n in rows(services, "analytics_user_daily")}
    assert stored == dict(sent)
    assert execute(services, "SELECT count(*) FROM events") == [(sent.total(),)]
    status = services.status()
    assert status["books"]["balanced"], json.dumps(status["books"])
    assert (status["dead_letters"], status["inflight_batches"]) == (0, 0)
    for process in workers.started:
        assert "Traceback" not in process.said(), process.name
