"""RabbitMQ as the broker: the same events, counted once, as long as the duplicate window lasts."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from uuid import uuid4

import kombu
import pytest
from celery import Celery, current_app
from kombu import Connection, Exchange, Queue
from kombu.exceptions import OperationalError

from pipeline.contract import FLUSH_COUNTERS
from pipeline.event.pseudonyms import pseudonym
from pipeline.producer import rabbitmq
from pipeline.producer.app import configure
from pipeline.producer.celery_tasks import track_event, track_events
from pipeline.producer.publisher import PublishUnconfirmed
from pipeline.producer.settings import ProducerSettings
from pipeline.services import Services
from pipeline.upkeep import dead_letters
from tests.helpers.rabbitmq_server import RabbitMQ, need_rabbitmq
from tests.helpers.support import (
    NOW,
    TODAY,
    Workers,
    counted_here,
    event,
    eventually,
    message,
    stored_total,
)
from tests.helpers.web_server import serving

QUEUES = ("analytics.events", "analytics.flush", "analytics.maintenance")
EVENTS = QUEUES[0]

pytestmark = pytest.mark.timeout(240)  # a server that starts, and starts again, on a busy machine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitMQ]:
    running = RabbitMQ(need_rabbitmq(), tmp_path_factory.mktemp("rabbitmq"))
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def broker_url(server: RabbitMQ, redis_url: str) -> Iterator[str]:
    """RabbitMQ without queues; this process's producer sends there."""
    server.forget(*QUEUES)
    settings = ProducerSettings(redis_url=redis_url, broker_url=server.url, publish_timeout_s=5)
    configure(settings)
    yield server.url
    kombu.pools.reset()
    # Groups of tasks use Celery's current app, which would keep its closed pools.
    current_app._pool = None
    current_app.__dict__.pop("amqp", None)
    configure(broker_url=None)


@pytest.fixture
def services(services: Services, broker_url: str) -> Services:
    return replace(services, broker_url=broker_url)


def counted(services: Services, event_type: str = "page_view") -> int:
    return services.stats.daily_count(event_type, TODAY)


def books(services: Services) -> dict[str, int]:
    found: dict[str, int] = services.status()["books"]
    return found


def waiting(services: Services) -> int:
    depth: int = services.status()["queue_depth"]
    return depth


def send_as_stock_client(url: str, task: str, args: list[object], task_id: str) -> None:
    app = Celery(broker=url, set_as_current=False)
    queue = Queue(
        EVENTS, Exchange(""), routing_key=EVENTS, queue_arguments=rabbitmq.QUEUE_ARGUMENTS
    )
    with app.connection_for_write() as connection:
        app.send_task(task, args, task_id=task_id, queue=queue, connection=connection)


def test_events_sent_through_rabbitmq_are_counted_once(
    broker_url: str, services: Services, workers: Workers
) -> None:
    track_event.delay("page_view", user_id="u1", timestamp=NOW)  # before any worker was there
    workers.start("events", BROKER_URL=broker_url)
    track_events.delay([{"event_type": "page_view", "timestamp": NOW.isoformat()}] * 3)
    for _ in range(20):
        track_event.delay("page_view", timestamp=NOW, event_id="the same")
    eventually(lambda: books(services)["consumed"] == 24)
    assert counted(services) == 5
    assert books(services)["duplicate"] == 19
    assert books(services)["balanced"]
    assert waiting(services) == 0


def test_a_message_sent_twice_by_a_stock_client_is_counted_once(
    broker_url: str, services: Services, workers: Workers
) -> None:
    task_id = str(uuid4())
    for _ in range(2):
        event = ["page_view", None, None, NOW.isoformat()]
        send_as_stock_client(broker_url, "analytics.track_event", event, task_id)
    workers.start("events", BROKER_URL=broker_url)
    eventually(lambda: books(services)["consumed"] == 2)
    assert counted(services) == 1
    assert books(services)["duplicate"] == 1


def test_a_worker_killed_between_the_count_and_the_acknowledgement_counts_once(
    broker_url: str, services: Services, workers: Workers
) -> None:
    track_event.delay("page_view", timestamp=NOW)
    include = ("--include", "tests.integration.consumer.killed_before_ack")
    killed = workers.start("events", *include, ready=False, BROKER_URL=broker_url)
    eventually(lambda: not killed.alive(), 60, "the worker did not kill itself")
    eventually(lambda: waiting(services) == 1, what="the message did not come back")
    assert counted(services) == 1
    workers.start("events", BROKER_URL=broker_url)
    eventually(lambda: books(services)["duplicate"] == 1)
    eventually(lambda: waiting(services) == 0)
    assert counted(services) == 1


def test_nothing_is_lost_or_counted_twice_when_the_broker_is_killed_under_traffic(
    server: RabbitMQ, broker_url: str, services: Services, workers: Workers
) -> None:
    configure(publish_timeout_s=120)
    workers.start("events", BROKER_URL=broker_url)
    accepted = 0
    enough = threading.Event()

    def send() -> None:
        nonlocal accepted
        while not enough.is_set():
            track_event.delay("page_view", timestamp=NOW)
            accepted += 1

    sender = threading.Thread(target=send)
    sender.start()
    try:
        eventually(lambda: accepted > 50)
        server.remember_queues()
        server.kill()
        server.start()
        before = accepted
        eventually(lambda: accepted > before + 50, 60, "publishing did not go on")
    finally:
        enough.set()
        sender.join(timeout=60)
    # A publish that lost its confirm was sent again: one more message, and one more duplicate.
    eventually(lambda: counted(services) == accepted, 60, "events are missing")
    eventually(lambda: waiting(services) == 0)
    assert counted(services) == accepted


def test_a_broker_that_stays_away_makes_a_publish_raise_in_time(
    broker_url: str, services: Services
) -> None:
    configure(broker_url="amqp://127.0.0.1:9//", publish_timeout_s=0.3)
    with pytest.raises(OperationalError, match=r"did not confirm the event in 0\.3 s"):
        track_event.delay("page_view")


def test_a_broker_short_of_memory_makes_a_publish_raise_in_time_and_its_backlog_is_counted(
    server: RabbitMQ, broker_url: str, services: Services, workers: Workers
) -> None:
    for _ in range(100):
        track_event.delay("page_view", timestamp=NOW)
    server.control("set_vm_memory_high_watermark", "absolute", "1000000")
    try:
        configure(publish_timeout_s=0.5)
        with pytest.raises(PublishUnconfirmed) as caught:
            track_event.delay("page_view", timestamp=NOW)
        workers.start("events", BROKER_URL=broker_url)
        eventually(lambda: counted(services) == 100)
    finally:
        server.control("set_vm_memory_high_watermark", "0.4")
    caught.value.retry(timeout_s=30)
    eventually(lambda: counted(services) == 101)


def test_an_event_is_not_lost_when_its_queue_was_deleted(
    server: RabbitMQ, broker_url: str, services: Services
) -> None:
    track_event.delay("page_view")
    server.forget(EVENTS)
    track_event.delay("page_view")
    eventually(lambda: waiting(services) == 1)


def test_what_no_worker_can_count_becomes_a_dead_letter(
    broker_url: str, services: Services, workers: Workers
) -> None:
    workers.start("events", BROKER_URL=broker_url)
    send_as_stock_client(broker_url, "analytics.track_event", ["x" * 201], str(uuid4()))
    send_as_stock_client(broker_url, "analytics.no_such_task", [1], str(uuid4()))
    with Connection(broker_url) as connection, connection.Producer() as stranger:
        header = {"task": "analytics.track_event", "id": str(uuid4())}
        body = {"content_type": "application/json", "content_encoding": "utf-8"}
        stranger.publish(b"{", routing_key=EVENTS, headers=header, **body)
        stranger.publish(b"{}", routing_key=EVENTS, **body)
    track_event.delay("page_view", timestamp=NOW)
    eventually(lambda: counted(services) == 1)
    eventually(lambda: dead_letters.count_waiting(services.redis, services.keys) == 4)
    eventually(lambda: waiting(services) == 0)
    services.move_dead_letters()
    reasons = " | ".join(letter.reason for letter in dead_letters.list_stored(services.engine))
    for reason in ("1 to 200", "no_such_task", "cannot be read", "not a Celery message"):
        assert reason in reasons


def test_the_queues_are_quorum_queues_and_nothing_else_is_declared(
    server: RabbitMQ, broker_url: str, workers: Workers
) -> None:
    track_event.delay("page_view")
    workers.start("flush", BROKER_URL=broker_url)
    listed = server.control("list_queues", "--formatter", "json", "name", "type", "durable")
    durable = {row["name"]: row["type"] for row in json.loads(listed) if row["durable"]}
    assert durable == dict.fromkeys(QUEUES, "quorum")


def test_beat_flush_worker_and_control_commands_work_through_rabbitmq(
    broker_url: str, services: Services, workers: Workers
) -> None:
    chosen = {"BROKER_URL": broker_url, "FLUSH_INTERVAL_S": "0.5"}
    workers.start("events", **chosen)
    workers.start("flush", **chosen)
    workers.celery("beat", "beat", **chosen)
    track_event.delay("page_view", timestamp=NOW)
    eventually(lambda: stored_total(services) == 1, 60, "beat and flush worker stored nothing")
    inspect = workers.celery("inspect", "inspect", "ping", **chosen)
    assert inspect.wait(timeout_s=60) == 0
    assert "events1@tests" in inspect.said()
    assert "flush2@tests" in inspect.said()


def test_events_taken_over_http_count_once_and_while_it_is_away_clients_are_told_to_come_back(
    services: Services, workers: Workers, server: RabbitMQ, broker_url: str, redis_url: str
) -> None:
    configure(publish_timeout_s=1)  # as the web server has it
    workers.start("events", BROKER_URL=broker_url)
    with serving(services, redis_url) as web:
        batch = [{"type": "track", "event": "sale", "messageId": f"m{n}"} for n in range(50)]
        for _ in range(2):
            assert web.post("/v1/batch", {"batch": batch}).status == 200
        eventually(lambda: books(services)["consumed"] == 100)
        server.remember_queues()
        server.kill()
        away = web.post("/v1/batch", {"batch": batch})
        assert (away.status, away.json["code"]) == (503, "unavailable")
        server.start()
        eventually(lambda: web.post("/v1/batch", {"batch": batch}).status == 200, 60)
    eventually(lambda: books(services)["duplicate"] >= 100)
    assert counted_here(services.redis) == {"sale": 50}


@pytest.mark.parametrize("kind", ["events", "flush"])
def test_no_message_ends_a_worker(
    broker_url: str, services: Services, workers: Workers, kind: str
) -> None:
    """Celery lets an error of its own code end the worker, and the broker sends the message on."""
    task = "analytics.track_event" if kind == "events" else "analytics.flush_counters"
    queue = f"analytics.{kind}"
    worker = workers.start(kind, BROKER_URL=broker_url)
    body = {"content_type": "application/json", "content_encoding": "utf-8"}
    odd = [
        *({"task": []}, {"id": 7}, {"id": []}, {"eta": 7}, {"eta": False}, {"expires": []}),
        *({"stamped_headers": 5}, {"stamps": 5}, {"timelimit": ["x", "y"]}, {"compression": []}),
    ]
    deep = b"[[" + b"[" * 900 + b"]" * 900 + b"],{},{}]"
    bodies = [b"[]", b"[[]]", b"7", b"{}", b"[" * 100_000, b"\xff", b"[7,8,9]", deep]
    with Connection(broker_url) as connection, connection.Producer() as stranger:
        for header in odd:
            headers = {"task": task, "id": str(uuid4()), **header}
            stranger.publish(b"[[],{},{}]", routing_key=queue, headers=headers, **body)
        for text in bodies:
            headers = {"task": task, "id": str(uuid4())}
            stranger.publish(text, routing_key=queue, headers=headers, **body)
    send_as_stock_client(broker_url, task, ["sale"] if kind == "events" else [], str(uuid4()))

    eventually(lambda: dead_letters.count_waiting(services.redis, services.keys) >= len(odd))
    eventually(lambda: rabbitmq.queue_depth(broker_url, queue) == 0)
    track_event.delay("page_view", timestamp=NOW)
    if kind == "events":
        eventually(lambda: counted(services) == 1)
    assert worker.alive()
    assert "Unrecoverable" not in worker.said()


def test_user_ids_become_pseudonyms_through_rabbitmq(
    broker_url: str, services: Services, workers: Workers
) -> None:
    secret, hashed = "a secret of the tests, long enough", "ab" * 32
    workers.start("events", BROKER_URL=broker_url, USER_ID_SECRET=secret)
    track_event.delay("sale", "ann", timestamp=NOW)
    track_event.delay("sale", hashed, timestamp=NOW)
    eventually(lambda: books(services)["counted"] == 2)
    for user_id in ("ann", hashed):
        assert services.stats.user_counts(pseudonym(secret, user_id)) == {"sale": {TODAY: 1}}
        assert services.stats.user_counts(user_id) == {}


def test_ticks_of_two_beats_are_one_request_and_each_leads_to_a_run(
    services: Services, broker_url: str, workers: Workers
) -> None:
    for name in ("beat1", "beat2"):
        options = ("--pidfile=", "-l", "DEBUG")  # less talkative, it says nothing of its ticks
        workers.celery(name, "beat", *options, BROKER_URL=broker_url, FLUSH_INTERVAL_S="0.1")
    for beat in workers.started:
        eventually(lambda beat=beat: beat.said().count("(analytics.flush_counters)") > 20)  # type: ignore[misc]
        beat.kill()
    assert rabbitmq.queue_depth(broker_url, "analytics.flush") <= 2

    services.counters.apply([message(event())], NOW)
    workers.start("flush", BROKER_URL=broker_url)
    eventually(lambda: stored_total(services) == 1)
    eventually(lambda: rabbitmq.queue_depth(broker_url, "analytics.flush") == 0)
    assert int(services.redis.hget(services.keys.requests, f"{FLUSH_COUNTERS}:runs") or 0) <= 2
