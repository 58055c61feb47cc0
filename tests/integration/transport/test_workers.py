"""Celery workers on the transport: killed, stopped, controlled, with Redis restarted under them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery

from pipeline.embedded import PrivateServers
from tests.helpers.support import environment_without_settings, eventually, start_group
from tests.integration.transport.support import KEYS

QUEUE = "transport.test"
APP = "tests.integration.transport.worker_app"
OPTIONS = ("-l", "INFO", "--without-gossip", "--without-mingle")
POINTS = [
    "fetch sent",
    "messages read",
    "before delivery",
    "after delivery",
    "in the task",
    "before acknowledgement",
    "after acknowledgement",
]

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a worker: `start(url, "-P", "solo", CRASH_AT="in the task")`."""
    started: list[subprocess.Popen[bytes]] = []

    def worker(url: str, *options: str, ready: bool = True, **environment: str) -> Any:
        log = tmp_path / f"{len(started)}.log"
        name = f"worker{len(started)}@tests"
        with log.open("wb") as output:
            command = [sys.executable, "-m", "celery", "-A", APP, "worker", *OPTIONS, "-n", name]
            settings = {"ANALYTICS_REDIS_URL": url, **environment}
            process = start_group(
                [*command, *(options or ("-P", "solo"))],
                output,
                environment_without_settings() | settings,
            )
        started.append(process)
        if ready:
            eventually(lambda: b"ready." in log.read_bytes(), 30, f"{name} is not ready")
        return process

    yield worker
    for number, process in enumerate(started):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        print((tmp_path / f"{number}.log").read_text()[-3_000:])


@pytest.fixture
def server(redis_url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_url) as client:
        yield client
        client.flushdb()


def send(url: str, *numbers: int, pause_s: float = 0.0) -> Celery:
    client = Celery("sender", broker=url, set_as_current=False)
    client.conf.update(task_default_queue=QUEUE, task_ignore_result=True)
    for number in numbers:
        client.send_task("record", (number,), {"pause_s": pause_s})
    return client


def waiting(server: redis.Redis) -> int:
    return server.llen(QUEUE)


def done(server: redis.Redis) -> set[int]:
    return {int(number) for number in server.smembers("done")}


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_at_any_point_loses_nothing(
    redis_url: str, server: redis.Redis, start: Start, point: str
) -> None:
    send(redis_url, *range(50))

    victim = start(redis_url, ready=False, CRASH_AT=point, CRASH_TIME="2", TEST_PREFETCH="10")
    assert victim.wait(30) == -signal.SIGKILL

    assert waiting(server) + server.hlen(KEYS.unacked) + len(done(server)) >= 50
    start(redis_url)
    eventually(lambda: done(server) == set(range(50)), 60)
    # What the victim had done but not acknowledged is restored to the queue first, then done again.
    eventually(lambda: not server.exists(KEYS.unacked, KEYS.unacked_index, QUEUE), 45)


def test_at_no_instant_is_a_message_in_a_process_alone(
    redis_url: str, server: redis.Redis, start: Start
) -> None:
    numbers = set(range(3_000))
    send(redis_url, *numbers)
    first, second = start(redis_url), start(redis_url, TEST_PREFETCH="700")
    samples = 0

    def all_accounted_for() -> bool:
        nonlocal samples
        with server.pipeline(transaction=True) as pipe:
            pipe.lrange(QUEUE, 0, -1).hvals(KEYS.unacked).smembers("done")
            queued, held, finished = pipe.execute()
        ids = {number_in(text) for text in (*queued, *held)} | {int(number) for number in finished}
        samples += 1
        assert ids == numbers
        return len(finished) == len(numbers)

    eventually(all_accounted_for, 60)
    assert samples > 20
    assert first.poll() is second.poll() is None


def number_in(text: bytes) -> int:
    """The argument of the task in a message or an unacknowledged entry."""
    start = text.index(b'"argsrepr": "(') + len(b'"argsrepr": "(')
    return int(text[start : text.index(b",", start)])


# What Celery has handed to the processes of a pool is finished first: 200 times 0.05 s.
@pytest.mark.parametrize(("pool", "ends_within_s"), [("solo", 10), ("prefork", 60)])
def test_a_stopped_worker_returns_what_it_held(
    redis_url: str, server: redis.Redis, start: Start, pool: str, ends_within_s: int
) -> None:
    send(redis_url, *range(300), pause_s=0.05)
    worker = start(
        redis_url, "-P", pool, "-c", "1", TEST_PREFETCH="200", TEST_VISIBILITY_TIMEOUT_S="600"
    )
    eventually(lambda: len(done(server)) >= 5, 30)
    assert server.hlen(KEYS.unacked) > 50

    worker.send_signal(signal.SIGTERM)
    worker.wait(ends_within_s)

    assert not server.exists(KEYS.unacked, KEYS.unacked_index)
    assert waiting(server) + len(done(server)) == 300
    assert waiting(server) > 0


def test_inspect_purge_and_cancel_work(redis_url: str, server: redis.Redis, start: Start) -> None:
    client = send(redis_url, *range(300), pause_s=0.2)
    start(redis_url, "-P", "threads", "-c", "1", TEST_PREFETCH="4", TEST_VISIBILITY_TIMEOUT_S="60")
    inspect = client.control.inspect(timeout=5, limit=1)
    assert "record" in next(iter(inspect.registered().values()))
    assert len(next(iter(inspect.active().values()))) == 1
    assert len(next(iter(inspect.reserved().values()))) >= 1
    assert next(iter(inspect.active_queues().values()))[0]["name"] == QUEUE

    client.control.cancel_consumer(QUEUE, reply=True, limit=1, timeout=5)
    eventually(lambda: not server.exists(KEYS.unacked), 30)
    left = waiting(server)
    assert left > 200
    assert left + len(done(server)) == 300

    purged = client.connection_for_write().channel().queue_purge(QUEUE)
    assert purged == left
    client.control.add_consumer(QUEUE, reply=True, limit=1, timeout=5)
    send(redis_url, 1_000)
    eventually(lambda: 1_000 in done(server), 30)


def test_a_consumer_cancelled_under_load_does_not_end_the_worker(
    redis_url: str, server: redis.Redis, start: Start
) -> None:
    worker = start(redis_url, TEST_PREFETCH="2000", TEST_VISIBILITY_TIMEOUT_S="600")
    client = send(redis_url)
    for round_ in range(3):
        numbers = range(round_ * 500, round_ * 500 + 500)
        send(redis_url, *numbers, pause_s=0.002)
        client.control.cancel_consumer(QUEUE, reply=True, limit=1, timeout=10)
        eventually(lambda: not server.exists(KEYS.unacked), 30)
        client.control.add_consumer(QUEUE, reply=True, limit=1, timeout=10)
    eventually(lambda: done(server) == set(range(1_500)), 60)
    assert worker.poll() is None


@pytest.mark.parametrize("pool", ["solo", "prefork"])
def test_redis_restarted_under_a_worker_loses_nothing(
    tmp_path: Path, start: Start, pool: str
) -> None:
    with PrivateServers.start(tmp_path / "redis", postgres=False) as servers:
        assert servers.redis_url is not None
        assert servers.redis is not None
        client = redis.Redis.from_url(servers.redis_url)
        worker = start(servers.redis_url, "-P", pool, "-c", "1")
        expected: set[int] = set()
        for round_ in range(3):
            numbers = set(range(round_ * 100, round_ * 100 + 100))
            send(servers.redis_url, *numbers)
            expected |= numbers
            eventually(lambda expected=expected: len(done(client)) > len(expected) - 90, 40)
            servers.redis.kill()
            servers.redis.start()
            assert worker.poll() is None
        # A task that failed because Redis was away is acknowledged, as for any Celery task: what
        # must not happen is that a message is neither done nor failed nor waiting.
        eventually(lambda: not waiting(client) and not client.exists(KEYS.unacked), 60)
        log = (tmp_path / "0.log").read_text()
        failed = log.count("raised unexpected")
        assert len(done(client)) + failed >= len(expected)
        assert worker.poll() is None
        client.close()
