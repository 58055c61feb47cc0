"""Trackers in the tasks of an application's own Celery, in each of its pools."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from sqlalchemy import make_url

from tests.helpers.applications.load import tracked_for
from tests.helpers.applications.serving import counts_sent, running
from tests.helpers.support import eventually
from tests.helpers.tracking import users

_WORKER = "celery --app tests.helpers.applications.celery_app worker --loglevel WARNING"


@pytest.fixture
def their_broker(redis_url: str) -> Iterator[str]:
    """A broker of the application's own: another database."""
    url = make_url(redis_url).set(database="1").render_as_string(hide_password=False)
    with redis.Redis.from_url(url) as broker:
        yield url
        broker.flushdb()


@pytest.mark.parametrize(
    "pool",
    [
        "--concurrency 2",
        "--concurrency 2 --max-tasks-per-child 9",
        "--pool threads --concurrency 4",
        "--pool solo",
        "--pool gevent --concurrency 10",
    ],
)
def test_what_tasks_tracked_is_counted_once_when_the_worker_is_terminated(
    client: redis.Redis, redis_url: str, their_broker: str, tmp_path: Path, pool: str
) -> None:
    settings = {"ANALYTICS_REDIS_URL": redis_url, "THEIR_BROKER": their_broker}
    with (
        Celery("theirs", broker=their_broker, backend=their_broker, set_as_current=False) as app,
        running(f"{_WORKER} {pool}".split(), tmp_path / "log", **settings) as worker,
    ):
        for result in [_send(app, "work", user) for user in users(60)]:
            assert result.get(timeout=60) == "tracked", worker.output
        worker.end()
        assert counts_sent(client) == tracked_for(users(60)), worker.output


def test_a_task_that_is_terminated_loses_nothing_of_its_process(
    client: redis.Redis, redis_url: str, their_broker: str, tmp_path: Path
) -> None:
    settings = {"ANALYTICS_REDIS_URL": redis_url, "THEIR_BROKER": their_broker}
    command = f"{_WORKER} --concurrency 1".split()
    with (
        Celery("theirs", broker=their_broker, backend=their_broker, set_as_current=False) as app,
        running(command, tmp_path / "log", **settings) as worker,
    ):
        hanging = _send(app, "hang", "u0", 600)
        eventually(lambda: ("click", "u0") in counts_sent(client), what=worker.output)
        hanging.revoke(terminate=True)
        eventually(lambda: counts_sent(client) == tracked_for(["u0"]), what=worker.output)


def _send(app: Celery, name: str, *arguments: Any) -> Any:
    return app.send_task(f"tests.helpers.applications.celery_app.{name}", arguments)
