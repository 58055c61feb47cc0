"""Redis put back to an older state of its append-only file: the real files, real processes."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from celery import Celery

from pipeline import track_event
from pipeline.cli import main
from pipeline.counting.batch import Delivery
from pipeline.embedded import PrivateServers
from pipeline.event.model import Event
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.services import Services
from tests.helpers.support import (
    Worker,
    Workers,
    count_events,
    eventually,
    fetch,
    rows,
    stored_total,
)

NOW = datetime.now(UTC).replace(microsecond=0)
TODAY = NOW.date()


def happened(event_type: str) -> Event:
    return Event.create(event_type, now=NOW)


def count_queue(services: Services) -> None:
    """What an event worker does with the messages that wait."""
    deliveries = [Delivery([happened("queued")], tag=tag) for tag, _ in fetch(services)]
    services.counters.apply(deliveries, NOW)


def ask_for_flush(redis_url: str) -> None:
    """Have the flush worker flush."""
    client = Celery(broker=redis_url, set_as_current=False)
    client.send_task("analytics.flush_counters", queue="analytics.flush")


def alarms(worker: Worker) -> list[str]:
    return [line for line in worker.said().splitlines() if " CRITICAL " in line]


def accept_redis_state(workers: Workers, capsys: pytest.CaptureFixture[str]) -> str:
    """Run the command that the alarm names; returns what it says."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as ended:
        for name, value in workers.environment.items():
            patch.setenv(name, value)
        main(["accept-redis-state"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def daily(services: Services) -> dict[str, int]:
    return {event_type: n for event_type, _, n in rows(services, "analytics_daily")}


def test_before_an_older_append_only_file_flushing_stops_until_its_state_is_accepted(
    own_servers: PrivateServers,
    services: Services,
    workers: Workers,
    redis_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    redis, files = own_servers.redis, tmp_path / "servers" / "redis" / "appendonlydir"
    assert redis is not None
    configure(ProducerSettings(redis_url=redis_url))
    count_events(services, happened("stored"))
    services.flush()
    # What the copy holds: a batch that was claimed, counters that were not, and a message.
    count_events(services, happened("claimed"))
    services.claims.claim("b1", 1_000, (0, 0))
    count_events(services, happened("live"), happened("live"))
    track_event.delay("queued", timestamp=NOW)
    redis.stop()
    shutil.copytree(files, tmp_path / "copy")
    redis.start()
    # What happened afterwards: all of it is counted and stored.
    count_queue(services)
    services.flush()
    count_events(services, happened("later"))
    services.flush()
    before = daily(services)
    assert before == {"stored": 1, "claimed": 1, "live": 2, "queued": 1, "later": 1}

    redis.stop()
    shutil.rmtree(files)
    shutil.copytree(tmp_path / "copy", files)
    redis.start()
    assert services.status()["queue_depth"] == 1, "Redis is back where it was"
    worker = workers.start("flush")

    for times in (1, 2):
        ask_for_flush(redis_url)
        eventually(lambda times=times: len(alarms(worker)) == times)
        assert "what it holds may be counted twice" in alarms(worker)[-1]
        assert "analytics accept-redis-state" in alarms(worker)[-1]
        assert daily(services) == before, "nothing is stored twice, and nothing else either"
    count_events(services, happened("new"))
    assert services.claims.pending() == 4

    assert "epoch 1" in accept_redis_state(workers, capsys)

    count_queue(services)
    services.flush()
    # Whoever accepted it was told: what the copy held and what was stored since is there twice,
    # except for what had been claimed, which the ledger knows.
    assert daily(services) == before | {"live": 4, "queued": 2, "new": 1}
    for event_type, count in daily(services).items():
        assert services.stats.daily_count(event_type, TODAY) == count
    status = services.status()
    assert (status["pending_counters"], status["inflight_batches"]) == (0, 0)
    assert status["books"]["balanced"]
    count_events(services, happened("new"))
    ask_for_flush(redis_url)
    eventually(lambda: stored_total(services) == sum(before.values()) + 5)
    assert len(alarms(worker)) == 2
