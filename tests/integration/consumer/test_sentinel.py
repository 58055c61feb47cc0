"""Redis behind Sentinel: a master, a replica that is promoted, and all of ours on `sentinel://`.

Redis replicates asynchronously. What a master has acknowledged and not sent on when it is lost is
lost with it: events accepted in that moment are not counted, and what a worker counted in it is
counted anew only if the removal of its messages is lost as well, as it is, since both are one step.
So a failover is exact for what the replica had: these tests wait until it has everything. (The
setting `min-replicas-to-write` bounds the loss; WAIT would have to follow every publish.)
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from pipeline.embedded.redis import find_binary
from pipeline.producer.app import configure
from pipeline.producer.celery_tasks import track_event
from pipeline.services import Services
from tests.conftest import chosen_programs
from tests.helpers.redis_nodes import Replicated
from tests.helpers.support import Worker, Workers, eventually, rows, stored_total


@pytest.fixture(scope="module")
def replicated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replicated]:
    binary = find_binary(chosen_programs()["redis_binary"])
    servers = Replicated(binary, tmp_path_factory.mktemp("sentinel"))
    try:
        servers.start()
        yield servers
    finally:
        servers.end()


@pytest.fixture
def redis_url(replicated: Replicated) -> str:
    return replicated.url


def send(first: int, last: int) -> None:
    for number in range(first, last):
        track_event.delay("page_view", f"u{number}")


def counted(services: Services) -> int:
    return int(services.redis.hget(services.keys.totals, "counted") or 0)


def ping(workers: Workers, worker: Worker) -> str:
    """What the worker answers to a control command, which takes its way through Redis too."""
    command = ("inspect", "ping", "-d", f"{worker.name}@tests", "-t", "20")
    asked = workers.celery("ping", *command)
    asked.wait(30)
    return asked.said()


def assert_each_counted_once(services: Services, number: int) -> None:
    eventually(lambda: counted(services) == number)
    services.flush()
    stored = {user: count for _, _, user, count in rows(services, "analytics_user_daily")}
    assert stored == {f"u{number}": 1 for number in range(number)}
    assert services.status()["books"]["balanced"]


def test_events_are_counted_once_when_the_master_is_killed(
    replicated: Replicated, sending: None, services: Services, workers: Workers
) -> None:
    configure(publish_timeout_s=30)
    worker = workers.start("events")
    send(0, 100)
    eventually(lambda: counted(services) == 100)
    worker.process.send_signal(signal.SIGSTOP)
    send(100, 200)
    replicated.wait_until_replicated()

    lost = replicated.master()
    lost.kill()
    worker.process.send_signal(signal.SIGCONT)
    send(200, 299)  # the first of these is tried until there is a master
    track_event.apply_async(("page_view", "u299"), expires=60)  # by Celery

    assert replicated.master() is not lost
    assert_each_counted_once(services, 300)
    assert "pong" in ping(workers, worker)
    lost.start()


def test_events_are_counted_once_when_master_and_replica_change_places(
    replicated: Replicated, sending: None, services: Services, workers: Workers
) -> None:
    configure(publish_timeout_s=30)
    replicated.wait_until_replicated()
    services.redis.flushdb()
    worker = workers.start("events")
    flusher = workers.start("flush")
    send(0, 100)
    eventually(lambda: counted(services) == 100)

    replicated.fail_over()  # connections stay, to a server that takes no writes any more

    send(100, 200)
    beat = workers.celery("beat", "beat", "--pidfile=", FLUSH_INTERVAL_S="0.5")
    eventually(lambda: stored_total(services) == 200, what="beat's flush did not come")
    assert_each_counted_once(services, 200)
    assert "pong" in ping(workers, worker)
    assert worker.alive()
    assert flusher.alive()
    assert beat.alive()
