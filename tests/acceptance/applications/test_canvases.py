"""Events in the chains, groups and chords of an application, run by its own worker and counted by
ours; and what a client without a queue sends to Celery's default queue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from celery import Celery
from sqlalchemy import make_url

from pipeline.contract import TRACK_EVENT
from pipeline.redis.keys import Keys
from pipeline.upkeep.condition.discarding import read_discarding
from tests.helpers.applications.serving import running
from tests.helpers.applications.shop_app import NOTED, SENT
from tests.helpers.processes import run_python
from tests.helpers.support import Workers, counted_here, eventually

_APP = "tests.helpers.applications.shop_app"
_WORKER = f"celery --app {_APP} worker --pool solo --loglevel INFO --without-gossip"
_COMMAND = (*_WORKER.split(), "--hostname")
_LOOK = "from tasks.overdue import look_for_discarding; look_for_discarding()"
"""What a flush worker does once a minute."""
_LOADED = {"LOADS_OUR_TASKS": "1"}


@pytest.fixture
def theirs(redis_url: str) -> Iterator[str]:
    """The application's own database of Redis."""
    url = make_url(redis_url).set(database="1").render_as_string(hide_password=False)
    with redis.Redis.from_url(url) as client:
        yield url
        client.flushdb()


@pytest.mark.parametrize("worker", ["our broker, not loaded", "its own broker, loaded"])
def test_events_of_canvases_are_counted_whichever_worker_sends_them(
    redis_url: str, theirs: str, client: redis.Redis, workers: Workers, tmp_path: Path, worker: str
) -> None:
    is_loaded, its_own = "not loaded" not in worker, "its own" in worker
    settings = {
        "THEIR_BROKER": theirs if its_own else redis_url,
        "THEIR_BACKEND": theirs,
        # A worker that has not loaded our tasks does not say to ours where its own tasks go.
        "THEIR_QUEUE": "shop" if is_loaded else "celery",
        "ANALYTICS_REDIS_URL": redis_url,
    }
    loaded = _LOADED if is_loaded else {}
    with running(_WORKER.split(), tmp_path / "log", **settings, **loaded) as shop:
        workers.start("events")
        send = f"import {_APP} as shop; shop.send_canvases()"
        done = run_python("-W", "ignore", "-c", send, environment=settings)
        assert done.returncode == 0, done.stderr
        with redis.Redis.from_url(theirs) as results:
            counted = eventually(
                lambda: (
                    (found := counted_here(client))
                    and sum(found.values()) >= sum(SENT.values())
                    and found
                ),
                what=shop.output,
            )
            assert counted == SENT
            eventually(lambda: results.llen("noted") >= len(NOTED), what=shop.output)
            noted = sorted(name.decode() for name in results.lrange("noted", 0, -1))
            assert noted == NOTED
        shop.end()
    for name in client.scan_iter("*.pidbox"):
        client.delete(name)


def test_what_a_client_sends_without_a_queue_is_forwarded_once_by_a_worker_that_loads_our_tasks(
    redis_url: str, theirs: str, client: redis.Redis, workers: Workers, tmp_path: Path
) -> None:
    settings = {"THEIR_BROKER": theirs, "THEIR_BACKEND": theirs, "ANALYTICS_REDIS_URL": redis_url}
    with (
        Celery("stock", broker=theirs, set_as_current=False) as stock,
        redis.Redis.from_url(theirs) as broker,
    ):
        for _ in range(20):
            stock.send_task(TRACK_EVENT, ("page_view",))
        twice = broker.lrange("celery", 0, -1)
        broker.rpush("celery", *twice)  # as when a worker is killed before it acknowledged
        with running(_WORKER.split(), tmp_path / "log", **settings, **_LOADED) as worker:
            workers.start("events")
            eventually(lambda: counted_here(client) == {"page_view": 20}, what=worker.output)
            eventually(lambda: client.hget("analytics:totals", "duplicate") == b"20")
            worker.end()
        assert not broker.llen("celery")
    assert counted_here(client) == {"page_view": 20}


def test_a_message_that_cannot_be_forwarded_goes_back_to_its_queue(
    redis_url: str, theirs: str, tmp_path: Path
) -> None:
    away = {"ANALYTICS_REDIS_URL": "redis://127.0.0.1:1/0", "ANALYTICS_PUBLISH_TIMEOUT_S": "0.1"}
    settings = {"THEIR_BROKER": theirs, "THEIR_BACKEND": theirs, **away}
    with (
        Celery("stock", broker=theirs, set_as_current=False) as stock,
        running(_WORKER.split(), tmp_path / "log", **settings, **_LOADED) as worker,
        redis.Redis.from_url(theirs) as broker,
    ):
        stock.send_task(TRACK_EVENT, ("page_view",))
        eventually(lambda: "goes back to its queue, not forwarded" in worker.output)
        worker.end()
        assert broker.llen("celery") == 1


def test_a_worker_that_discards_what_comes_by_celerys_default_queue_is_named(
    redis_url: str, theirs: str, client: redis.Redis, workers: Workers, tmp_path: Path
) -> None:
    ours = workers.start("events")
    with Celery("stock", broker=redis_url, set_as_current=False) as stock:
        stock.send_task(TRACK_EVENT, ("page_view",))
    eventually(lambda: "1 tasks came by Celery's default queue, celery: have" in ours.said())
    settings = {"THEIR_BROKER": redis_url, "THEIR_BACKEND": theirs}
    both = {**settings, "ANALYTICS_REDIS_URL": redis_url}
    with (
        running([*_COMMAND, "loaded@tests"], tmp_path / "loaded", **both, **_LOADED) as loaded,
        running([*_COMMAND, "stock@tests"], tmp_path / "stock", **settings) as stock_worker,
    ):
        for worker in (loaded, stock_worker):
            eventually(lambda worker=worker: "ready." in worker.output, what=worker.output)
        said = run_python("-m", "pipeline.cli", "status", environment=workers.environment)
        run_python("-c", _LOOK, environment=workers.environment)
        loaded.end()
        stock_worker.end()
    # "listens": only one of them is named.
    assert "stock@tests of another application listens on Celery's" in said.stdout, said.stdout
    assert read_discarding(client, Keys()) == ["stock@tests"]
    for name in client.scan_iter("*.pidbox"):
        client.delete(name)
