"""A stock client whose reply was lost sends its message again under the same task id: two workers
get the copies in any order and at any time, and count one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from pipeline.services import Services
from tests.helpers.support import (
    QUEUE,
    Workers,
    environment_without_settings,
    eventually,
    rows,
    stored_total,
)

TODAY = datetime.now(UTC).date()
AT_ONCE = 500
"""So many messages a worker fetches at once."""
TASKS = 6 * AT_ONCE
CLIENT = """
import sys
from celery import Celery

app = Celery(broker=sys.argv[1], set_as_current=False)
for _ in range(2):
    args = ["page_view"], {"user_id": "u1", "timestamp": sys.argv[2]}
    app.send_task("analytics.track_event", *args, queue="analytics.events", task_id="the-same")
"""


@pytest.fixture
def template(client: redis.Redis, redis_url: str, tmp_path: Path) -> bytes:
    """A message as Celery's own client sends it, after the two that it has sent."""
    at = f"{TODAY}T12:00:00Z"
    subprocess.run(
        [sys.executable, "-c", CLIENT, redis_url, at],
        cwd=tmp_path,
        env=environment_without_settings(),
        check=True,
        timeout=60,
    )
    found = client.lindex(QUEUE, 0)
    assert isinstance(found, bytes)
    return found


def copy(template: bytes, task_id: str) -> bytes:
    """The message under another task id; every publish has a delivery tag of its own."""
    message = json.loads(template)
    message["headers"]["id"] = message["headers"]["root_id"] = task_id
    message["properties"]["correlation_id"] = task_id
    message["properties"]["delivery_tag"] = str(uuid4())
    return json.dumps(message).encode()


def send(client: redis.Redis, template: bytes, task_ids: Iterable[str]) -> None:
    client.lpush(QUEUE, *[copy(template, task_id) for task_id in task_ids])


def wait_until_all_is_consumed(services: Services) -> None:
    def consumed() -> bool:
        status = services.status()
        return not status["queue_depth"] and not status["unacknowledged"]

    eventually(consumed)


def test_each_message_that_was_sent_twice_is_counted_once(
    services: Services, workers: Workers, client: redis.Redis, template: bytes
) -> None:
    for _ in range(2):
        workers.start("events", ready=False)
    wait_until_all_is_consumed(services)
    for worker in workers.started:
        eventually(lambda worker=worker: "ready." in worker.said(), 30)
    assert services.stats.daily_count("page_view", TODAY) == 1

    task_ids = [uuid4().hex for _ in range(TASKS)]
    blocks = [task_ids[first : first + AT_ONCE] for first in range(0, TASKS, AT_ONCE)]
    copies: list[str] = []
    for number, block in enumerate(blocks):
        if number % 2:  # beside each other: one batch has both
            copies += [task_id for task_id in block for _ in range(2)]
        else:  # one after the other: while one worker has the first, the other gets the second
            copies += block + block
    send(client, template, copies)

    wait_until_all_is_consumed(services)
    assert services.stats.daily_count("page_view", TODAY) == 1 + TASKS

    services.flush()
    send(client, template, [*task_ids[::100], "the-same"])

    wait_until_all_is_consumed(services)
    services.flush()
    assert stored_total(services) == services.stats.daily_count("page_view", TODAY) == 1 + TASKS
    assert rows(services, "analytics_user_daily") == [(TODAY, "page_view", "u1", 1 + TASKS)]
    books = services.status()["books"]
    assert (books["counted"], books["duplicate"]) == (1 + TASKS, 1 + TASKS + TASKS // 100 + 1)
    assert books["balanced"]
