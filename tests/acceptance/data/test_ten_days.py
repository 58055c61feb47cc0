"""Everything stopped for ten days, wherever an event was just then: nothing is lost or doubled.

No clock is moved: everything grows ten days older instead (`tests/helpers/aging.py`).
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
import redis
from celery import Celery

from pipeline import track_event
from pipeline.counting.batch import BadEvent
from pipeline.event.model import Event
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.conftest import MakeServices
from tests.helpers.aging import grow_older
from tests.helpers.support import QUEUE, Workers, count_events, eventually, fetch, message, rows

TEN_DAYS = timedelta(days=10)
AT = datetime.now(UTC) - TEN_DAYS
DAY = AT.date()
COUNT_BY = {"queued": ["path"], "live": ["path"]}

pytestmark = pytest.mark.usefixtures("sending")


@pytest.fixture
def services(make_services: MakeServices) -> Services:
    """With the shortest memory that the settings allow."""
    return make_services(count_by=COUNT_BY, ledger_days=7)


def happened(event_type: str, event_id: str | None = None) -> Event:
    return Event.create(event_type, "u1", {"path": "/"}, AT, event_id, now=AT)


def send(event_type: str, event_id: str | None = None) -> None:
    track_event.delay(event_type, "u1", {"path": "/"}, AT, event_id)


def claim_and_store(services: Services, batch_id: str) -> None:
    claim = services.claims.claim(batch_id, 1_000, (0, 0))
    with services.store.transaction() as transaction:
        transaction.save(claim, services.claims.read_buckets(claim))


def stop_everywhere(services: Services, redis_url: str) -> Counter[str]:
    """Events at every place where one can be; returns how many there are of each type."""
    count_events(services, happened("settled", event_id="k"))
    services.flush()
    count_events(services, happened("stored"))
    claim_and_store(services, "stored")
    count_events(services, happened("claimed"))
    services.claims.claim("claimed", 1_000, (0, 0))
    count_events(services, happened("live"), happened("live"))
    services.counters.apply([message(bad=[BadEvent(b"in Postgres", "reason")])], AT)
    services.move_dead_letters()
    services.counters.apply([message(bad=[BadEvent(b"in Redis", "reason")])], AT)
    send("fetched")
    assert len(fetch(services)) == 1
    send("queued", event_id="l")
    send("queued")
    send("queued", event_id="l")
    stock = Celery(broker=redis_url, set_as_current=False)
    fields = {"user_id": "u1", "timestamp": AT.isoformat()}
    for _ in range(2):
        stock.send_task(
            "analytics.track_event", ["sent twice"], fields, queue=QUEUE, task_id="the-same"
        )
    return Counter(
        {"settled": 1, "stored": 1, "claimed": 1, "live": 2}
        | {"fetched": 1, "queued": 2, "sent twice": 1}
    )


def read(services: Services, *event_types: str) -> dict[str, int]:
    return {one: services.stats.daily_count(one, DAY) for one in event_types}


def kinds_of_keys(client: redis.Redis) -> Counter[str]:
    return Counter(name.decode().split(":")[1] for name in client.scan_iter("analytics:*"))


def test_what_stood_still_for_ten_days_is_counted_once(
    services: Services, workers: Workers, client: redis.Redis, redis_url: str
) -> None:
    expected = stop_everywhere(services, redis_url)
    before = kinds_of_keys(client)

    grow_older(services, TEN_DAYS)

    # By design these end: what producers were at, the ids of the duplicate window, and the values
    # and types seen (for the caps on their numbers).
    ended = {"producer": 1, "seen": 2, "values": 1, "types": 1}
    assert before - kinds_of_keys(client) == ended
    counted = ("settled", "stored", "claimed", "live")
    assert read(services, *counted) == {one: expected[one] for one in counted}
    services.maintain(datetime.now(UTC))
    assert read(services, *counted) == {one: expected[one] for one in counted}

    settings = {"COUNT_BY": json.dumps(COUNT_BY), "VISIBILITY_TIMEOUT_S": "1"}
    workers.start("events", ready=False, **settings)
    eventually(lambda: not client.exists(QUEUE, services.keys.unacked))
    send("queued")  # by the producer that Redis has forgotten
    expected["queued"] += 1
    eventually(lambda: read(services, *expected) == expected)
    services.flush()
    services.maintain(datetime.now(UTC))

    assert read(services, *expected) == expected
    assert {event_type: n for event_type, _, n in rows(services, "analytics_daily")} == expected
    users = {row[1]: row[-1] for row in rows(services, "analytics_user_daily")}
    assert users == expected
    paths = {row[1]: row[-1] for row in rows(services, "analytics_dimension_daily")}
    assert paths == {"queued": 3, "live": 2}
    status = services.status()
    books = status["books"]
    assert books["balanced"]
    assert books["missing_messages"] == 0
    assert books["counted"] == expected.total()
    assert (books["duplicate"], books["dead"], status["dead_letters"]) == (2, 2, 2)
    assert (status["pending_counters"], status["inflight_batches"]) == (0, 0)
    services.move_dead_letters()
    for letter in dead_letters.list_stored(services.engine):
        assert letter.created_at < datetime.now(UTC) - TEN_DAYS

    # The id of an event that was counted eleven days ago is a new one.
    assert count_events(services, happened("settled", event_id="k")).counted == 1
