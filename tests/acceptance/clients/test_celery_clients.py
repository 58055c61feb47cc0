"""Stock Celery on both sides of the queues: its client sends events, its commands look at us."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipeline.services import Services
from pipeline.upkeep import dead_letters
from pipeline.upkeep.dead_letters import DeadLetter
from tests.helpers.processes import run_python
from tests.helpers.support import Worker, Workers, environment_without_settings, eventually

TODAY = datetime.now(UTC).date()
AT = f"{TODAY}T12:00:00Z"
QUEUE = "analytics.events"

# Knows the names of the wire contract and nothing else of ours.
CLIENT = """
import json, sys
from celery import Celery

apps = {n: Celery(broker=sys.argv[1], task_protocol=n, set_as_current=False) for n in (1, 2)}
for task, args, kwargs, options in json.load(sys.stdin):
    app = apps[options.pop("protocol", 2)]
    app.send_task(task, args, kwargs, **{"queue": "analytics.events", **options})
assert not any(name.partition(".")[0] in ("pipeline", "tasks", "config") for name in sys.modules)
"""

Sent = tuple[str, list[Any], dict[str, Any], dict[str, Any]]


def event(args: list[Any], kwargs: dict[str, Any], **options: Any) -> Sent:
    return ("analytics.track_event", args, kwargs, options)


def events(args: list[Any], kwargs: dict[str, Any] | None = None, **options: Any) -> Sent:
    return ("analytics.track_events", args, kwargs or {}, options)


def send(redis_url: str, directory: Path, *messages: Sent) -> None:
    """Send the messages from a bare process, in another directory, with Celery's own client."""
    subprocess.run(
        [sys.executable, "-c", CLIENT, redis_url],
        cwd=directory,
        env=environment_without_settings(),
        input=json.dumps(messages),
        text=True,
        check=True,
        timeout=60,
    )


def all_consumed(services: Services) -> bool:
    status = services.status()
    return not status["queue_depth"] and not status["unacknowledged"]


def letters(services: Services) -> list[DeadLetter]:
    """The dead letters, oldest first, once nothing waits in the queue."""
    eventually(lambda: all_consumed(services))
    services.move_dead_letters()

    def entry(letter: DeadLetter) -> list[int]:
        return [int(part) for part in letter.id.split("-")]

    return sorted(dead_letters.list_stored(services.engine), key=entry)


@pytest.fixture
def worker(workers: Workers) -> Worker:
    """An event worker."""
    return workers.start("events", COUNT_BY='{"page_view": ["path"]}')


def test_an_event_sent_by_a_stock_client_is_counted(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    fields = {"user_id": "u1", "properties": {"path": "/pricing"}, "timestamp": AT}

    send(redis_url, tmp_path, event(["page_view"], fields))

    eventually(lambda: services.stats.daily_count("page_view", TODAY) == 1)
    assert services.stats.hourly_counts("page_view", TODAY)[12] == 1
    assert services.stats.user_count("u1", "page_view", TODAY, TODAY) == 1
    assert services.stats.property_count("page_view", "path", "/pricing", TODAY, TODAY) == 1


def test_an_event_sent_to_celerys_default_queue_is_counted_and_others_are_left_there(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    ours = event(["page_view"], {"user_id": "u1", "timestamp": AT}, queue=None)
    somebody_elses: Sent = ("shop.send_mail", [], {}, {"queue": None})

    send(redis_url, tmp_path, somebody_elses, ours, somebody_elses)

    eventually(lambda: services.stats.daily_count("page_view", TODAY) == 1)
    assert services.redis.llen("celery") == 2
    services.redis.delete("celery")


def test_a_task_delivered_twice_is_counted_once(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    once = event(["page_view", "u1"], {"timestamp": AT}, task_id="the-same")
    several = events([[{"event_type": "click", "timestamp": AT}] * 3], task_id="the-same-too")

    send(redis_url, tmp_path, once, several, once)
    eventually(lambda: all_consumed(services))
    send(redis_url, tmp_path, several, once)

    eventually(lambda: all_consumed(services))
    assert services.stats.daily_count("page_view", TODAY) == 1
    assert services.stats.daily_count("click", TODAY) == 3
    books = services.status()["books"]
    assert (books["consumed"], books["counted"], books["duplicate"]) == (9, 4, 5)


def test_options_that_stock_clients_use_change_nothing_about_the_count(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    fields = {"timestamp": AT}
    options: list[dict[str, Any]] = [
        {"countdown": 0.2},
        {"expires": 600},
        {"compression": "gzip"},
        {"priority": 9},
        {"ignore_result": True, "headers": {"trace": "abc"}},
        {"protocol": 1},
        {"link": None, "retries": 2, "shadow": "another name"},
    ]

    send(redis_url, tmp_path, *[event(["page_view"], fields, **o) for o in options])

    eventually(lambda: services.stats.daily_count("page_view", TODAY) == len(options))
    assert letters(services) == []
    assert services.stats.daily_count("page_view", TODAY) == len(options)


def test_bad_events_become_dead_letters_with_the_reason_and_the_rest_is_counted(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    good = {"event_type": "page_view", "user_id": "u1", "timestamp": AT}
    bad: dict[str, Any] = {
        "event_type": {**good, "event_type": ""},
        "user_id": {**good, "user_id": 7.5},
        "properties": {**good, "properties": ["path"]},
        "timestamp": {**good, "timestamp": "yesterday"},
        "event_id": {**good, "event_id": "x" * 101},
        "color": {**good, "color": "red"},
    }
    mixed = [good, *bad.values(), good, "no object", None]

    send(redis_url, tmp_path, events([mixed]), event(["page_view"], {"timestamp": "never"}))

    found = letters(services)
    assert services.stats.daily_count("page_view", TODAY) == 2
    assert services.stats.user_count("u1", "page_view", TODAY, TODAY) == 2
    in_order = [*bad.values(), "no object", None, {"event_type": "page_view", "timestamp": "never"}]
    assert [json.loads(letter.body) for letter in found] == in_order
    for letter, field in zip(found, bad, strict=False):
        assert field in letter.reason
    assert {letter.kind for letter in found} == {"event"}
    assert services.status()["dead_letters"] == len(in_order)
    assert services.status()["books"]["dead"] == len(in_order)


def test_a_task_with_wrong_arguments_becomes_a_dead_letter(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    wrong = [
        (event([], {}), "event_type"),
        (event(["page_view", "u1", {}, AT, "id", "extra"], {}), "arguments"),
        (event(["page_view"], {"event_type": "page_view"}), "event_type"),
        (event(["page_view"], {"colour": "red"}), "colour"),
        (events(["page_view"]), "events"),
        (events([]), "events"),
        (events([[]], {"events": []}), "events"),
        (events([[{"event_type": "page_view"}] * 1_001]), "1001"),
    ]

    send(
        redis_url, tmp_path, *[message for message, _ in wrong], event(["done"], {"timestamp": AT})
    )

    found = letters(services)
    assert services.stats.daily_count("done", TODAY) == 1
    assert services.status()["books"]["counted"] == 1
    assert len(found) == len(wrong)
    for letter, (_, reason) in zip(found, wrong, strict=True):
        assert reason in letter.reason
    assert services.status()["books"]["balanced"]


def test_messages_that_nobody_can_read_become_dead_letters_and_hold_up_no_other(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    clients = [
        (event(["page_view"], {"timestamp": AT}, serializer="pickle"), "x-python-serialize"),
        (event(["page_view"], {"timestamp": AT}, serializer="yaml"), "yaml"),
        (("somebody.elses_task", [1, 2], {}, {}), "somebody.elses_task"),
        (("somebody.elses_task", [1, 2], {}, {"protocol": 1}), "somebody.elses_task"),
    ]
    raw = [
        (b"no JSON", "is not a Celery message"),
        (b"\xff\xfe", "is not a Celery message"),
        (b"[]", "is not a Celery message"),
        (b"{}", "is not a Celery message"),
        (written_by_hand({"id": "1"}), "there is no task ''"),
        (written_by_hand({"id": "2", "task": "analytics.track_event"}, b"{"), "arguments"),
        (written_by_hand({"task": "analytics.track_event", "eta": [AT]}), "eta ["),
        (written_by_hand({"id": "3", "task": "analytics.track_event", "eta": "soon"}), "soon"),
        (written_by_hand({"id": "4", "task": "analytics.track_event", "expires": "x"}), "'x'"),
        (written_by_hand({"id": "5", "task": "analytics.track_event", "compression": "?"}), "?"),
    ]

    send(redis_url, tmp_path, *[message for message, _ in clients])
    for message, _ in raw:
        services.redis.lpush(QUEUE, message)
    send(redis_url, tmp_path, event(["done"], {"timestamp": AT}))

    found = letters(services)
    assert worker.alive()
    assert services.stats.daily_count("done", TODAY) == 1
    assert services.status()["books"]["counted"] == 1
    assert {letter.kind for letter in found} == {"message"}
    assert len(found) == len(clients) + len(raw)
    for _, reason in [*clients, *raw]:
        assert any(reason in letter.reason for letter in found), reason
    assert {b"no JSON", b"\xff\xfe", *[message for message, _ in raw[4:6]]} <= {
        letter.body for letter in found
    }


def written_by_hand(headers: dict[str, Any], body: bytes = b'[["page_view"], {}, {}]') -> bytes:
    """A message as it stands in Redis, with these headers alone."""
    message = {
        "body": b64encode(body).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": headers,
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": f"by-hand-{headers}",
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
        },
    }
    return json.dumps(message).encode()


def celery(workers: Workers, *arguments: str) -> str:
    """Run `celery -A tasks …`, which must end with exit code 0; returns what it printed."""
    command = ("-m", "celery", "-A", "tasks")
    done = run_python(*command, *arguments, environment=workers.environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_celerys_own_commands_see_our_workers_and_purge_our_queues(
    services: Services, worker: Worker, workers: Workers, redis_url: str, tmp_path: Path
) -> None:
    commands = ("inspect", "registered"), ("status",), ("report",), ("inspect", "conf")
    with ThreadPoolExecutor() as pool:
        found = pool.map(lambda command: celery(workers, *command), commands)
    registered, status, report, conf = found

    for task in ("track_event", "track_events", "flush_counters", "maintain"):
        assert f"analytics.{task}" in registered
    assert f"{worker.name}@tests: OK" in status
    assert "analytics.flush_counters" in report  # in the schedule
    assert "beat_schedule" in conf
    assert str(urlsplit(redis_url).password) not in report + conf

    later = [event(["page_view"], {"timestamp": AT}, countdown=3_600)] * 2
    send(redis_url, tmp_path, *later)
    eventually(lambda: services.status()["delayed"] == len(later))
    worker.stop()
    send(redis_url, tmp_path, *[event(["page_view"], {"timestamp": AT})] * 3)
    assert services.status()["queue_depth"] == 3
    assert "Purged 3 messages" in (purged := celery(workers, "purge", "-f"))
    assert "Purged 2 delayed messages" in purged
    assert services.status()["queue_depth"] == services.status()["delayed"] == 0
