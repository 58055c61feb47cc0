"""With a secret, every way in stores pseudonyms and nothing else, and none of a pseudonym."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from pipeline.contract import EVENTS_QUEUE, TRACK_EVENT, TRACK_EVENTS
from pipeline.counting.batch import BadEvent
from pipeline.event.pseudonyms import pseudonym
from pipeline.producer.app import configure
from pipeline.producer.celery_tasks import track_event, track_events
from pipeline.producer.tracking.tracker import Tracker
from pipeline.services import Services
from tests.conftest import MakeServices
from tests.helpers.support import Workers, event, eventually, execute, message
from tests.helpers.web_server import serving

SECRET = "a secret of the tests, long enough"
HASHED = hashlib.sha256(b"ann@example.org").hexdigest()  # an application's own id may be such
STORED = pseudonym(SECRET, "ann")


@pytest.fixture
def services(make_services: MakeServices, sending: None) -> Services:
    return make_services(user_id_secret=SECRET)


def stored_users(services: Services) -> dict[str, int]:
    """Events by user, from the tables; archive and counters agree."""
    services.flush()
    services.archive_events()
    counted = {
        row.user_id: int(row.n)
        for row in execute(
            services, "SELECT user_id, sum(count) AS n FROM analytics_user_daily GROUP BY user_id"
        )
    }
    logged = execute(services, "SELECT user_id, count(*) AS n FROM events GROUP BY user_id")
    assert {row.user_id: row.n for row in logged} == counted
    return counted


def analytics(workers: Workers, *arguments: str, given: str = "") -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments],
        env={**workers.environment, "ANALYTICS_USER_ID_SECRET": SECRET},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout + ran.stderr


def by_tracker(user_id: str) -> None:
    with Tracker() as tracker:
        tracker.track("sale", user_id)
        tracker.track_many([{"event_type": "sale", "user_id": user_id}])


def by_stock_client(redis_url: str, user_id: str) -> None:
    with Celery(broker=redis_url) as stock:
        stock.send_task(TRACK_EVENT, ("sale", user_id), queue=EVENTS_QUEUE)
        stock.send_task(TRACK_EVENT, ("sale",), {"user_id": user_id}, queue=EVENTS_QUEUE)
        many = [{"event_type": "sale", "user_id": user_id}]
        stock.send_task(TRACK_EVENTS, (many,), queue=EVENTS_QUEUE)
        stock.send_task(TRACK_EVENTS, (many,), queue=EVENTS_QUEUE, countdown=0.1)
        stock.send_task(TRACK_EVENTS, (), {"events": many}, queue=EVENTS_QUEUE, task_protocol=1)


def by_web(services: Services, redis_url: str, user_id: str) -> None:
    with serving(services, redis_url, user_id_secret=SECRET) as web:
        configure(plain_user_ids=False)  # as the web server's process has it
        assert web.post("/v1/track", {"event": "sale", "userId": user_id}).status == 200
        assert web.post("/track", {"event_type": "sale", "user_id": user_id}).status == 200
        marked = {"event_type": "sale", "user_id": user_id, "analytics_plain_user_ids": True}
        assert web.post("/track", marked).status == 400


def test_every_way_in_stores_the_pseudonym(
    services: Services, workers: Workers, redis_url: str, client: redis.Redis
) -> None:
    workers.start("events", USER_ID_SECRET=SECRET)
    track_event.delay("sale", "ann")
    track_event.apply_async(("sale",), {"user_id": "ann"}, countdown=0.1)
    track_events.delay([{"event_type": "sale", "user_id": "ann"}])
    by_tracker("ann")
    by_stock_client(redis_url, "ann")
    by_web(services, redis_url, "ann")
    analytics(workers, "track", "sale", "--user", "ann")
    exported = json.dumps({"event_type": "sale", "user_id": STORED})
    line = json.dumps({"event_type": "sale", "user_id": "ann"})
    analytics(workers, "import", "-", "--format", "ndjson", given=f"{line}\n{exported}\n")
    expected = 3 + 2 + 5 + 2 + 1 + 2

    eventually(lambda: services.status()["books"]["counted"] == expected)

    assert stored_users(services) == {STORED: expected}
    assert sum(services.stats.counts_of_user(["ann", STORED])["sale"].values()) == expected


def test_an_id_that_looks_like_a_pseudonym_is_still_an_application_s_own(
    services: Services, workers: Workers, redis_url: str
) -> None:
    workers.start("events", USER_ID_SECRET=SECRET)
    track_event.delay("sale", HASHED)
    track_event.apply_async(("sale", HASHED), countdown=0.1)
    by_tracker(HASHED)
    by_web(services, redis_url, HASHED)
    analytics(workers, "track", "sale", "--user", HASHED)
    expected = 2 + 2 + 2 + 1

    eventually(lambda: services.status()["books"]["counted"] == expected)

    assert stored_users(services) == {pseudonym(SECRET, HASHED): expected}


def test_what_a_collector_of_before_put_into_the_queue_is_not_hashed_twice(
    services: Services, workers: Workers
) -> None:
    configure(plain_user_ids=False)  # its messages say nothing about their ids
    track_events.delay([{"event_type": "sale", "user_id": STORED}])
    workers.start("events", USER_ID_SECRET=SECRET)

    eventually(lambda: services.status()["books"]["counted"] == 1)

    assert stored_users(services) == {STORED: 1}


def test_events_counted_in_the_calling_process_have_pseudonyms_too(services: Services) -> None:
    configure(user_id_secret=SECRET)
    track_event("sale", "ann")
    track_events.apply(([{"event_type": "sale", "user_id": "ann"}],))

    assert stored_users(services) == {STORED: 2}


def test_a_dead_letter_sent_again_is_stored_under_the_pseudonym(
    services: Services, workers: Workers
) -> None:
    for user_id in ("ann", STORED):
        raw = json.dumps({"event_type": "sale", "user_id": user_id}).encode()
        services.counters.apply([message(bad=[BadEvent(raw, "once bad")])], datetime.now(UTC))
    services.move_dead_letters()
    ids = [row.id for row in execute(services, "SELECT id FROM dead_letters")]
    workers.start("events", USER_ID_SECRET=SECRET)

    analytics(workers, "dead-letters", "replay", *ids)

    eventually(lambda: services.status()["books"]["counted"] == 2)
    assert stored_users(services) == {STORED: 2}


@pytest.mark.parametrize("given", ["ann", STORED])
def test_a_user_is_forgotten_in_both_forms_whichever_is_given(
    make_services: MakeServices, services: Services, workers: Workers, given: str
) -> None:
    """What was stored before the secret was set goes too, and dead letters in either form."""
    before = make_services()
    for pipeline in (before, services):
        pipeline.counters.apply(
            [message(event("sale", "ann"), event("sale", "bob"))], datetime.now(UTC)
        )
    services.flush()
    for pipeline in (before, services):
        pipeline.counters.apply(
            [message(event("sale", "ann"), event("sale", "bob"))], datetime.now(UTC)
        )
    for user_id in ("ann", STORED, "bob"):
        raw = json.dumps({"event_type": "sale", "user_id": user_id, "properties": 1}).encode()
        services.counters.apply([message(bad=[BadEvent(raw, "bad")])], datetime.now(UTC))
    assert json.loads(analytics(workers, "stats", "user", "ann", "--json"))["counts"]["sale"]

    said = analytics(workers, "forget", given)
    again = analytics(workers, "forget", given)

    assert "Forgotten: " in said
    assert "2 dead letters removed, 4 archived events" in said
    assert "the command line had a user forgotten (digest " in said
    assert "ann" not in said
    assert "Nothing is stored for this user" in again
    assert services.stats.counts_of_user(["ann", STORED]) == {}
    services.flush()
    assert {
        row.user_id for row in execute(services, "SELECT user_id FROM analytics_user_daily")
    } == {
        "bob",
        pseudonym(SECRET, "bob"),
    }
    assert services.status()["dead_letters"] == 1


def test_what_was_in_flight_is_dropped_whichever_form_it_has(
    services: Services, workers: Workers, redis_url: str
) -> None:
    track_event.delay("sale", "ann")
    track_event.delay("sale", "ann", timestamp="2025-01-01T00:00:00Z")
    track_event.delay("sale", "bob")
    with Celery(broker=redis_url) as stock:
        at = {"timestamp": "2025-01-01T00:00:00Z"}  # else it is of the moment in which it arrives
        stock.send_task(TRACK_EVENT, ("sale", STORED), at, queue=EVENTS_QUEUE)
        bad: dict[str, Any] = {"user_id": "ann", "properties": 1}
        stock.send_task(TRACK_EVENT, ("sale",), bad, queue=EVENTS_QUEUE)
        stock.send_task(TRACK_EVENT, ("sale", "ann", 1, 2, 3, 4), queue=EVENTS_QUEUE)
    analytics(workers, "forget", STORED, "--pseudonym")

    workers.start("events", USER_ID_SECRET=SECRET)

    eventually(lambda: services.status()["books"]["consumed"] == 6)
    books = services.status()["books"]
    assert (books["counted"], books["forgotten"], books["dead"]) == (1, 5, 0)
    assert stored_users(services) == {pseudonym(SECRET, "bob"): 1}


def test_the_secret_is_in_no_log_and_no_message(
    services: Services, workers: Workers, client: redis.Redis, tmp_path: Path
) -> None:
    worker = workers.start("events", "-l", "DEBUG", USER_ID_SECRET=SECRET)
    track_event.delay("sale", "ann")
    eventually(lambda: services.status()["books"]["counted"] == 1)
    analytics(workers, "track", "sale", "--user", "ann")
    eventually(lambda: services.status()["books"]["counted"] == 2)

    shown: list[Callable[[], str]] = [
        worker.said,
        lambda: repr(services.options),
        lambda: repr(services.counters.options),
        lambda: analytics(workers, "settings"),
        lambda: analytics(workers, "settings", "--json"),
    ]
    assert [show() for show in shown if SECRET in show()] == []
