"""Stock Celery on both sides of the queues: its client sends events, its command line looks at us."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pipeline import dead_letters
from pipeline.dead_letters import DeadLetter
from pipeline.services import Services
from tests.support import ROOT, Worker, Workers, environment_without_settings, eventually

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
    app.send_task(task, args, kwargs, queue="analytics.events", **options)
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

    return sorted(dead_letters.stored(services.engine), key=entry)


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
        "user_id": {**good, "user_id": 7},
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


def test_messages_that_are_none_of_ours_become_dead_letters_as_they_came(
    services: Services, worker: Worker, redis_url: str, tmp_path: Path
) -> None:
    send(
        redis_url,
        tmp_path,
        event(["page_view"], {"timestamp": AT}, serializer="pickle"),
        event(["page_view"], {"timestamp": AT}, serializer="yaml"),
        ("somebody.elses_task", [1, 2], {}, {}),
    )
    for raw in (b"no JSON", b"\xff\xfe", b"[]", b"{}", b"null", b'{"body": "AAAA", "headers": {}}'):
        services.redis.lpush(QUEUE, raw)
    send(redis_url, tmp_path, event(["done"], {"timestamp": AT}))

    found = letters(services)
    assert worker.alive()
    assert services.stats.daily_count("done", TODAY) == 1
    assert services.status()["books"]["counted"] == 1
    assert len(found) == 9
    assert {letter.kind for letter in found} == {"message"}
    assert "application/x-python-serialize" in found[0].reason
    assert "yaml" in found[1].reason
    assert "somebody.elses_task" in found[2].reason
    assert [letter.body for letter in found[3:5]] == [b"no JSON", b"\xff\xfe"]


def celery(workers: Workers, *arguments: str) -> str:
    """Run `celery -A tasks …`, which must end with exit code 0; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tasks", *arguments],
        cwd=ROOT,
        env=workers.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_celerys_own_commands_see_our_workers_and_purge_our_queues(
    services: Services, worker: Worker, workers: Workers, redis_url: str, tmp_path: Path
) -> None:
    registered = celery(workers, "inspect", "registered")
    for task in ("track_event", "track_events", "flush_counters", "maintain"):
        assert f"analytics.{task}" in registered

    assert f"{worker.name}@tests" in celery(workers, "status")
    report = celery(workers, "report")
    assert "redis" in report
    assert urlsplit(redis_url).password not in report

    worker.stop()
    send(redis_url, tmp_path, *[event(["page_view"], {"timestamp": AT})] * 3)
    assert services.status()["queue_depth"] == 3
    assert "3" in celery(workers, "purge", "-f")
    assert services.status()["queue_depth"] == 0
