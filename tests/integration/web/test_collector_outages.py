"""Redis away, standing still and back; the web server killed under its clients: what was answered
with success counts once, and nobody waits for long."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from http.client import HTTPConnection, HTTPException

import psutil
import pytest
import redis

from config.options import pipeline_options
from config.settings import Settings
from pipeline.access.key_store import AccessKeyStore
from pipeline.embedded import PrivateServers
from pipeline.producer.app import configure
from pipeline.producer.settings import ProducerSettings
from pipeline.services import Services, connect
from tests.helpers.support import Workers, arguments, counted_here, eventually, sent
from tests.helpers.web_process import WebProcess, wait_until_consumed
from tests.helpers.web_server import Answer, WebServer, basic, serving

SALE = {"type": "track", "event": "sale"}


@pytest.fixture
def web(own_servers: PrivateServers) -> Iterator[WebServer]:
    """A server whose Redis the test may stop."""
    url = own_servers.redis_url
    assert url is not None
    assert own_servers.postgres_url is not None
    configure(ProducerSettings(redis_url=url))
    services = connect(pipeline_options(Settings()), url, own_servers.postgres_url)
    options = {"key_events_per_s": 1_000_000, "address_requests_per_s": 100_000}
    with serving(services, url, **options) as web:
        yield web
    services.close()


def timed(web: WebServer, number: int = 0) -> tuple[Answer, float]:
    began_s = time.monotonic()
    answer = web.post("/v1/batch", {"batch": [{**SALE, "messageId": f"m{number}"}]})
    return answer, time.monotonic() - began_s


def check_unavailable(answers: list[tuple[Answer, float]]) -> None:
    for answer, took_s in answers:
        assert answer.status == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert took_s < 2
        assert b"Traceback" not in answer.body


def test_while_redis_is_away_clients_are_told_to_come_back_and_then_nothing_is_missing(
    web: WebServer, own_servers: PrivateServers
) -> None:
    assert timed(web)[0].status == 200
    own_servers.redis.kill()
    with ThreadPoolExecutor(8) as threads:
        check_unavailable(list(threads.map(lambda n: timed(web, n), range(24))))
    own_servers.redis.start()
    eventually(lambda: timed(web, 100)[0].status == 200, 10)
    with redis.Redis.from_url(str(own_servers.redis_url)) as client:
        eventually(lambda: len(sent(client)) >= 2)


def test_while_redis_stands_still_nobody_waits_for_more_than_two_seconds(
    web: WebServer, own_servers: PrivateServers
) -> None:
    assert timed(web)[0].status == 200
    pid = own_servers.redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(8) as threads:
            check_unavailable(list(threads.map(lambda n: timed(web, n), range(24))))
    finally:
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: timed(web, 100)[0].status == 200, 10)


def test_a_full_redis_refuses_and_takes_again_when_there_is_room(
    web: WebServer, own_servers: PrivateServers
) -> None:
    assert timed(web)[0].status == 200
    with redis.Redis.from_url(str(own_servers.redis_url)) as client:
        client.config_set("maxmemory", "1")
        check_unavailable([timed(web, 1)])
        client.config_set("maxmemory", "0")
        assert timed(web, 2)[0].status == 200
        assert len(sent(client)) == 2


def test_the_server_starts_without_redis_and_works_when_it_is_there(
    own_servers: PrivateServers,
) -> None:
    url, postgres_url = own_servers.redis_url, own_servers.postgres_url
    assert url is not None
    assert postgres_url is not None
    configure(ProducerSettings(redis_url=url))
    services = connect(pipeline_options(Settings()), url, postgres_url)
    with serving(services, url) as web:
        own_servers.redis.kill()
    with serving(services, url, key=web.key) as again:
        check_unavailable([timed(again)])
        own_servers.redis.start()
        eventually(lambda: timed(again)[0].status == 200, 10)
    services.close()


def test_what_waits_for_redis_takes_bounded_memory(
    workers: Workers, services: Services, client: redis.Redis, servers: PrivateServers
) -> None:
    web = WebProcess(workers).start(ADDRESS_REQUESTS_PER_S="0", KEY_EVENTS_PER_S="0")
    key = make_key(services)
    body = json.dumps({"batch": [{**SALE, "properties": {"text": "x" * 30_000}}] * 16}).encode()
    assert post(web, key, body) == 200
    process = psutil.Process(web.pid)
    before = process.memory_info().rss
    pid = servers.redis.pid
    assert pid is not None
    highest = 0
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(64) as threads:
            waiting = [threads.submit(post, web, key, body) for _ in range(500)]
            while wait(waiting, 0.01).not_done:
                highest = max(highest, process.memory_info().rss)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert {one.result() for one in waiting} == {503}
    # 500 requests hold 240 MB; the server holds 64 MiB of events and what it needs for them.
    assert highest - before < 200 * 1024 * 1024
    eventually(lambda: post(web, key, body) == 200, 10)


def events_sent(client: redis.Redis) -> list[object]:
    """The events in the queue."""
    return [event for message in sent(client) for event in arguments(message)[0][0]]


def make_key(services: Services) -> str:
    return AccessKeyStore(services.redis, services.keys).create("write", "tests")[1]


def post(web: WebProcess, key: str, body: bytes) -> int:
    """Send a batch; returns the status, 0 when there was no answer."""
    connection = HTTPConnection("127.0.0.1", web.port, timeout=10)
    try:
        connection.request("POST", "/v1/batch", body, basic(key))
        return connection.getresponse().status
    except (OSError, HTTPException):
        return 0
    finally:
        connection.close()


def test_events_of_clients_that_try_again_count_once_when_the_server_is_killed(
    workers: Workers, services: Services, client: redis.Redis
) -> None:
    web = WebProcess(workers).start()
    workers.start("events")
    key = make_key(services)
    kills, clients, batches = 5, 6, 40
    accepted = threading.Semaphore(0)

    def send(number: int) -> None:
        """What Segment's clients do: the same batch, until somebody says that it was taken."""
        for batch in range(batches):
            items = [{**SALE, "messageId": f"{number}-{batch}-{n}"} for n in range(10)]
            body = json.dumps({"batch": items}).encode()
            eventually(lambda body=body: post(web, key, body) == 200)
            accepted.release()

    with ThreadPoolExecutor(clients) as threads:
        sending = [threads.submit(send, number) for number in range(clients)]
        for _ in range(kills):
            for _ in range(clients * batches // (kills + 1)):
                accepted.acquire()
            web.kill()
            web.start()
        for one in sending:
            one.result()
    wait_until_consumed(services)
    assert counted_here(client) == {"sale": clients * batches * 10}


def test_a_server_told_to_stop_answers_what_it_has(
    workers: Workers, services: Services, client: redis.Redis
) -> None:
    web = WebProcess(workers).start()
    key = make_key(services)
    body = json.dumps({"batch": [SALE]}).encode()
    with ThreadPoolExecutor(8) as threads:
        answers = [threads.submit(post, web, key, body) for _ in range(100)]
        eventually(lambda: len(sent(client)) > 3)
        assert web.process is not None
        assert web.process.stop() == 0
        statuses = [one.result() for one in answers]
    assert 0 < statuses.count(200) == len(events_sent(client))
