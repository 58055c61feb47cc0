"""SIGTERM ends a worker within ten seconds, whatever it is doing; nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import signal
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from pipeline import track_event
from pipeline.embedded import PrivateServers, Server
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script
from pipeline.services import Services
from tests.conftest import chosen_programs
from tests.helpers.support import QUEUE, Worker, Workers, eventually

ENDS_WITHIN_S = 10
BACKLOG = 20_000
USERS = 400
TODAY = datetime.now(UTC).date()
AT = f"{TODAY}T12:00:00Z"
KEYS = Keys()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[Server]:
    """A Redis to stop."""
    with PrivateServers.start(tmp_path / "redis", postgres=False, **chosen_programs()) as servers:
        assert servers.redis is not None
        yield servers.redis


@pytest.fixture
def redis_url(own_redis: Server) -> str:
    return own_redis.url


@pytest.fixture
def postgres_url() -> str:
    """None: an event worker needs none."""
    return "postgresql://nobody@127.0.0.1:1/none"


def fill_queue(client: redis.Redis, redis_url: str, messages: int) -> Counter[str]:
    """Publish so many single events, much faster than one by one; returns those of each user."""
    configure(ProducerSettings(redis_url=redis_url))
    track_event.delay("page_view", "u0", timestamp=AT)
    template = json.loads(client.lindex(QUEUE, 0) or b"")
    bodies = [
        b64encode(
            json.dumps([["page_view"], {"user_id": f"u{n}", "timestamp": AT}, {}]).encode()
        ).decode()
        for n in range(USERS)
    ]
    publish = client.script_load(Script("pipeline.producer.publish").source)
    calls = client.pipeline(transaction=False)
    for number in range(1, messages):
        template["body"] = bodies[number % USERS]
        template["properties"]["delivery_tag"] = f"analytics/backlog/{number}"
        keys = [QUEUE, KEYS.producer("backlog"), KEYS.totals]
        args = [3_600, number, 1, json.dumps(template)]
        calls.evalsha(publish, len(keys), *keys, *args)
    calls.execute()
    return Counter(f"u{number % USERS}" for number in range(messages))


class Producer(threading.Thread):
    """Sends single events until it is stopped; `accepted` has those of each user."""

    def __init__(self) -> None:
        super().__init__()
        self.accepted: Counter[str] = Counter()
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            user = f"u{self.accepted.total() % USERS}"
            track_event.delay("page_view", user, timestamp=AT)
            self.accepted[user] += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        self.start()
        try:
            yield
        finally:
            self._stopping.set()
            self.join()


def stop(worker: Worker) -> None:
    """SIGTERM, and the promised end."""
    worker.ask_to_stop()
    assert worker.process.wait(ENDS_WITHIN_S) == 0


def consumed(client: redis.Redis) -> int:
    return int(client.hget(KEYS.totals, "consumed") or 0)


def books_balance(services: Services) -> int:
    """What came in and what became of it agree, and no message is missing; returns the events
    consumed."""
    books = services.status()["books"]
    assert books["balanced"]
    assert books["missing_messages"] == 0
    return int(books["consumed"])


def live_count(client: redis.Redis, user: str) -> bytes | None:
    place = KEYS.field_of(KEYS.user(user, "page_view", f"{TODAY}"))
    assert place is not None
    return client.hget(KEYS.live_buckets[place[0]], place[1])


def assert_counted_once(client: redis.Redis, accepted: Counter[str]) -> None:
    """Each user's count is that of the events accepted, and so is the day's."""
    users = {user: live_count(client, user) for user in accepted}
    assert users == {user: b"%d" % n for user, n in accepted.items()}
    assert client.get(KEYS.daily("page_view", f"{TODAY}")) == b"%d" % accepted.total()


def test_a_worker_stopped_under_load_ends_and_the_next_one_counts_the_rest(
    services: Services, workers: Workers, client: redis.Redis, redis_url: str
) -> None:
    accepted = fill_queue(client, redis_url, BACKLOG)
    producing = Producer()
    with producing.running():
        first = workers.start("events", ready=False)
        eventually(lambda: consumed(client) > BACKLOG // 10)

        stop(first)

        status = services.status()
        assert status["queue_depth"] > BACKLOG // 10, "it had nothing left to do"
        assert status["unacknowledged"] == 0, "it gives back what it holds"
        workers.start("events", ready=False)
        # While the next one works the books are looked at all the time.
        eventually(lambda: books_balance(services) > BACKLOG)

    accepted += producing.accepted
    eventually(lambda: books_balance(services) == accepted.total())
    assert_counted_once(client, accepted)
    assert services.status()["books"]["published"] == accepted.total()


def hang(server: Server) -> None:
    os.kill(server.pid, signal.SIGSTOP)


def shut_down(server: Server) -> None:
    server.stop()


def come_back(server: Server) -> None:
    if server.alive():
        os.kill(server.pid, signal.SIGCONT)
    server.start()


@pytest.mark.parametrize("go_away", [hang, shut_down])
def test_a_worker_stopped_while_redis_does_not_answer_ends_and_the_next_one_counts_the_rest(
    own_redis: Server, workers: Workers, client: redis.Redis, go_away: Callable[[Server], None]
) -> None:
    accepted = fill_queue(client, own_redis.url, BACKLOG)
    first = workers.start("events", ready=False)
    eventually(lambda: consumed(client) > BACKLOG // 10)
    go_away(own_redis)
    try:
        stop(first)
    finally:
        come_back(own_redis)
    client.connection_pool.disconnect()
    assert consumed(client) < BACKLOG, "it had nothing left to do"

    workers.start("events", ready=False, VISIBILITY_TIMEOUT_S="1")

    eventually(lambda: consumed(client) == accepted.total())
    eventually(lambda: not client.exists(QUEUE, KEYS.unacked))
    assert_counted_once(client, accepted)
