"""Two installations on one Redis: each counts its own events, and its commands reach its own
workers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from celery import Celery
from celery.app.control import Control

from config.celery import celery_config
from config.settings import Settings
from pipeline.celery_app import OwnCelery
from pipeline.contract import EVENTS_QUEUE, PLAIN_USER_IDS, TRACK_EVENT
from pipeline.errors import InvalidConfiguration
from pipeline.installation import queues_of
from pipeline.producer.app import app, configure
from pipeline.producer.celery_tasks import track_event, track_events
from pipeline.producer.publisher import Envelope, Publisher
from pipeline.producer.settings import ProducerSettings
from pipeline.redis import installations
from pipeline.redis.keys import Keys
from tests.helpers.support import Worker, Workers, eventually, start_group

PREFIXES = ["analytics:", "a:", "a:b:"]
"""The default, one, and one that begins with it."""


@pytest.fixture(autouse=True)
def _clean(client: redis.Redis) -> Iterator[None]:
    """Other prefixes' books stay in Redis, which other tests look at."""
    yield
    client.flushdb()


def start(workers: Workers, prefix: str, *options: str) -> Worker:
    """An event worker of an installation; all have the same name."""
    arguments = ["worker", "-Q", queues_of(prefix).events, "-P", "solo", "-n", "events@tests"]
    arguments += ["--without-gossip", "--without-mingle"]
    name = f"worker-of-{prefix}{len(workers.started)}".replace(":", "-")
    worker = workers.celery(name, *arguments, "-l", "INFO", *options, PREFIX=prefix)
    eventually(lambda: "ready." in worker.said() or not worker.alive(), 30, worker.said())
    assert worker.alive(), worker.said()
    return worker


def counted(client: redis.Redis, prefix: str) -> int:
    return int(client.hget(Keys(prefix).totals, "counted") or 0)


def send(redis_url: str, prefix: str, events: int) -> None:
    configure(ProducerSettings(redis_url=redis_url, prefix=prefix))
    for _ in range(events):
        track_event.delay("page_view", user_id="u")
    track_events.apply_async(([{"event_type": "page_view"}] * 3,), countdown=0.1)


def control(redis_url: str, prefix: str) -> Control:
    """Control commands, as `celery -A tasks` has them with this prefix."""
    app = OwnCelery("control")
    app.conf.update(celery_config(Settings(prefix=prefix), redis_url))
    return app.control


def test_each_counts_its_own_events_and_pings_its_own_workers(
    client: redis.Redis, redis_url: str, workers: Workers
) -> None:
    for events, prefix in enumerate(PREFIXES, 10):
        send(redis_url, prefix, events)
    for prefix in PREFIXES:
        start(workers, prefix)
    for events, prefix in enumerate(PREFIXES, 10):
        eventually(lambda p=prefix, n=events: counted(client, p) == n + 3, what=prefix)
        own = control(redis_url, prefix)
        assert own.ping(timeout=2) == [{"events@tests": {"ok": "pong"}}], prefix
    control(redis_url, "a:b:").shutdown()
    last = workers.started[-1]
    eventually(lambda: not last.alive(), what="the worker that was told to end")
    assert all(worker.alive() for worker in workers.started[:-1])
    names = {name.decode() for name in client.scan_iter()}
    shared = [
        name
        for name in names
        if not name.startswith(("analytics:", "a:"))
        and not name.startswith("_kombu.binding.celery")
        and not name.startswith("_kombu.binding.reply.celery")
        and name != "_kombu.binding_deadlines"  # of kombu's, an entry for each exchange
    ]
    assert not shared


def put_as_before(client: redis.Redis, redis_url: str, prefix: str, events: int) -> None:
    """Publish as a producer of the version before does: into the queue of the default prefix."""
    configure(ProducerSettings(redis_url=redis_url, prefix=prefix))
    publisher = Publisher(client, Keys(prefix), EVENTS_QUEUE)
    envelope = Envelope(app, TRACK_EVENT, EVENTS_QUEUE, {PLAIN_USER_IDS: True})
    for number in range(1, events + 1):
        tag = f"{publisher.tag_prefix}{number}"
        text = envelope.message(f"{prefix}{number}", tag, ("page_view",), {}, "()")
        publisher.send(text, 1, 5, number)


def send_by_stock_client(redis_url: str, events: int, queue: str | None) -> None:
    stock = Celery(broker=redis_url, set_as_current=False)
    at = datetime.now(UTC).isoformat()
    for _ in range(events):
        stock.send_task("analytics.track_event", ["sale"], {"timestamp": at}, queue=queue)


def test_what_waits_in_the_old_queue_goes_to_the_installation_that_published_it(
    client: redis.Redis, redis_url: str, workers: Workers
) -> None:
    for _ in range(3):
        put_as_before(client, redis_url, "a:", 250)
        put_as_before(client, redis_url, "b:", 150)
    first = start(workers, "a:")
    eventually(lambda: counted(client, "a:") == 750)
    assert client.llen(EVENTS_QUEUE) == 450
    eventually(lambda: "name no installation" in first.said())
    start(workers, "b:")
    eventually(lambda: counted(client, "b:") == 450)
    assert not client.exists(EVENTS_QUEUE)
    assert counted(client, "a:") == 750


@pytest.mark.parametrize("queue", [EVENTS_QUEUE, None])
def test_the_only_installation_takes_what_names_none(
    client: redis.Redis, redis_url: str, workers: Workers, queue: str | None
) -> None:
    send_by_stock_client(redis_url, 7, queue)
    start(workers, "a:")
    eventually(lambda: counted(client, "a:") == 7)
    assert not client.exists(EVENTS_QUEUE, "celery")


def test_what_names_no_installation_is_the_default_ones(
    client: redis.Redis, redis_url: str, workers: Workers
) -> None:
    other = start(workers, "a:")
    start(workers, "analytics:")
    send_by_stock_client(redis_url, 7, EVENTS_QUEUE)
    send_by_stock_client(redis_url, 5, None)
    eventually(lambda: counted(client, "analytics:") == 12)
    assert counted(client, "a:") == 0
    assert "name no installation" not in other.said()


def test_of_several_none_takes_what_names_none_until_the_operator_says_so(
    client: redis.Redis, redis_url: str, workers: Workers, tmp_path: Path
) -> None:
    send(redis_url, "b:", 1)
    send_by_stock_client(redis_url, 7, EVENTS_QUEUE)
    worker = start(workers, "a:")
    eventually(lambda: "run `analytics worker events --shared-queue`" in worker.said())
    assert "ANALYTICS_PREFIX=b:" in worker.said()
    assert (counted(client, "a:"), client.llen(EVENTS_QUEUE)) == (0, 7)
    worker.stop()
    command = [sys.executable, "-m", "pipeline.cli", "worker", "events", "--shared-queue"]
    log = tmp_path / "once.log"
    with log.open("wb") as output:
        process = start_group(command, output, workers.environment | {"ANALYTICS_PREFIX": "a:"})
    workers.started.append(Worker("once", process, log))
    eventually(lambda: counted(client, "a:") == 7)
    assert workers.started[-1].stop() == 0


@pytest.mark.parametrize(
    ("there", "then"), [("a:", "a:user:"), ("a:user:", "a:"), ("a:", "a:dim:x:")]
)
def test_an_installation_whose_keys_are_another_ones_is_refused(
    client: redis.Redis, there: str, then: str
) -> None:
    for _ in range(2):
        installations.enter(client, there)
        with pytest.raises(InvalidConfiguration, match="would mix two installations"):
            installations.enter(client, then)


def test_a_worker_of_such_an_installation_ends_with_one_line(
    client: redis.Redis, workers: Workers
) -> None:
    installations.enter(client, "a:")
    worker = workers.celery(
        "refused", "worker", "-Q", "a:user.events", "-P", "solo", PREFIX="a:user:"
    )
    assert worker.wait(30) == 1
    assert worker.said().splitlines()[-1] == (
        "analytics: ANALYTICS_PREFIX=a:user: would mix two installations: keys of 'a:user:' can be "
        "keys of 'a:', and both are on this Redis; give one of them another prefix, or another "
        "Redis"
    )


def test_a_queue_of_another_installation_is_refused_in_one_line(
    redis_url: str, workers: Workers
) -> None:
    worker = workers.celery("other", "worker", "-Q", EVENTS_QUEUE, "-P", "solo", PREFIX="a:")
    assert worker.wait(30) == 1
    assert worker.said().strip() == (
        "analytics: there is no queue analytics.events for a worker of ANALYTICS_PREFIX=a:: it has "
        "a.events, a.flush, a.maintenance; name one of these after -Q, or run `analytics worker "
        "events` or `analytics worker flush`"
    )


@pytest.mark.parametrize("prefix", ["shop", "shop*:", "{shop}:"])
def test_a_producer_refuses_a_prefix_that_workers_refuse(
    redis_url: str, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidConfiguration, match="must end with ':'"):
        configure(ProducerSettings(redis_url=redis_url, prefix=prefix))
    monkeypatch.setenv("ANALYTICS_PREFIX", prefix)
    with pytest.raises(InvalidConfiguration, match="ANALYTICS_PREFIX="):
        ProducerSettings.from_environment()
