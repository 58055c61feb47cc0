"""Flower, as `celery -A tasks flower` starts it, shows workers, queues and flush tasks."""

from __future__ import annotations

import json
import re
import socket
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.services import Services
from tests.helpers.support import Workers, count_events, event, eventually, stored_total

ANSWER_S = 10
Read = Callable[..., str]


@pytest.fixture
def flower(workers: Workers) -> Read:
    """Starts Flower; returns a function that reads one of its pages, or sends JSON to it."""
    port = free_port()
    # Flower's API asks for a password unless it is told not to.
    workers.environment["FLOWER_UNAUTHENTICATED_API"] = "true"
    process = workers.celery("flower", "flower", "--address=127.0.0.1", f"--port={port}")

    def read(path: str, send: object = None) -> str:
        data = None if send is None else json.dumps(send).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data)
        with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
            return str(answer.read().decode())

    def answers() -> bool:
        assert process.alive(), process.said()
        try:
            return read("/healthcheck") == "OK"
        except OSError:
            return False

    eventually(answers, 30, "Flower does not answer")
    return read


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def cells(page: str) -> list[str]:
    """The texts of a page's table cells."""
    return [cell.strip() for cell in re.findall(r"<td[^>]*>([^<]*)</td>", page)]


def test_flower_shows_workers_queues_and_flush_tasks(
    services: Services, workers: Workers, flower: Read
) -> None:
    events_worker = workers.start("events")
    flush_worker = workers.start("flush")
    names = [f"{worker.name}@tests" for worker in (events_worker, flush_worker)]
    eventually(lambda: all(name in flower("/workers") for name in names), what="no workers")
    queues = eventually(lambda: _queues(flower("/api/workers?refresh=1"), names))
    assert queues == {
        names[0]: {"analytics.events"},
        names[1]: {"analytics.flush", "analytics.maintenance"},
    }

    events_worker.stop()
    services.redis.lpush("analytics.events", "one", "two")
    eventually(lambda: "analytics.events" in cells(flower("/broker")))
    shown = cells(flower("/broker"))
    assert shown[shown.index("analytics.events") + 1] == "2"
    assert {"analytics.flush", "analytics.maintenance"} <= set(shown)

    count_events(services, event(), event())
    flower("/api/task/async-apply/analytics.flush_counters", send={"args": []})
    flushed: dict[str, Any] = eventually(lambda: _succeeded(flower, "analytics.flush_counters"))
    assert stored_total(services) == 2
    assert flushed["worker"] == names[1]
    assert flushed["result"] == "2"  # a counter of the day, and one of the hour
    assert "analytics.flush_counters" in flower(f"/task/{flushed['uuid']}")


def _queues(answer: str, names: list[str]) -> dict[str, set[str]]:
    """The queues of each worker; none before Flower has heard of all workers."""
    found = {
        name: {queue["name"] for queue in worker.get("active_queues", ())}
        for name, worker in json.loads(answer).items()
    }
    return found if all(found.get(name) for name in names) else {}


def _succeeded(flower: Read, name: str) -> dict[str, Any] | None:
    """A task of this name that Flower has seen succeed."""
    tasks = json.loads(flower(f"/api/tasks?taskname={name}&state=SUCCESS"))
    return next(iter(tasks.values()), None)
