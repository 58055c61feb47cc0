"""A `Tracker` whose events Celery sends, or this process counts."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from celery import Celery, signals
from sqlalchemy import make_url

from pipeline import Tracker
from pipeline.producer import app as producer
from pipeline.producer.app import configure
from pipeline.services import Services
from tests.helpers.reply_cutter import ReplyCutter
from tests.helpers.support import counted_here, eventually, sent
from tests.helpers.tracking import count_queue, refusing, track_all, users

pytestmark = pytest.mark.usefixtures("sending")


def test_in_eager_mode_events_are_counted_here(client: redis.Redis) -> None:
    app = Celery("theirs")
    app.conf.task_always_eager = True
    app.set_current()
    try:
        with Tracker() as tracker:
            track_all(tracker, users(3))
    finally:
        app.close()
        producer.app.set_current()
    assert counted_here(client) == {"page_view": 3}
    assert sent(client) == []


def test_where_somebody_listens_celery_publishes(services: Services, client: redis.Redis) -> None:
    heard: list[object] = []

    def listen(sender: object = None, **_: Any) -> None:
        heard.append(sender)

    signals.before_task_publish.connect(listen)
    try:
        with Tracker(max_events=10) as tracker:
            with refusing(client):
                track_all(tracker, users(15))
                eventually(lambda: len(heard) > 1)  # tried, and tried again
            tracker.flush()
    finally:
        signals.before_task_publish.disconnect(listen)
    assert set(heard) == {"analytics.track_events"}
    assert count_queue(services) == dict.fromkeys(users(15), 1)


def test_what_celery_has_published_twice_is_counted_once(
    services: Services, client: redis.Redis, redis_url: str
) -> None:
    cutter = ReplyCutter(make_url(redis_url).port or 0)
    through = make_url(redis_url).set(port=cutter.port).render_as_string(hide_password=False)
    configure(redis_url=through)

    def listen(**_: Any) -> None:
        """Somebody who listens may change the message, so Celery publishes it."""

    signals.before_task_publish.connect(listen)
    try:
        with Tracker() as tracker:
            cutter.lose_the_answer_to(b"LPUSH")
            track_all(tracker, users(3))
    finally:
        signals.before_task_publish.disconnect(listen)
        cutter.close()
    assert cutter.cut == 1
    assert len(sent(client)) == 2
    assert count_queue(services) == dict.fromkeys(users(3), 1)
