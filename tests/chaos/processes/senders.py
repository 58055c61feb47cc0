"""The ways in which producers publish: with `pipeline`, as a stock Celery client, and in the
control."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

import redis
from celery import Celery
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.checks.account import DEAD

EVENTS_QUEUE = "analytics.events"
_COUNTDOWNS_S = (0.2, 1.0, 3.0)
_RETRY_POLICY = {"max_retries": 3, "interval_start": 0.05, "interval_max": 0.2}


class Sender(Protocol):
    """Sends events. All raise kombu's OperationalError when a publish was not confirmed."""

    def send(self, events: list[dict[str, Any]], *, retry: bool) -> None:
        """Send one event or a batch; without `retry` try once. May take out of `events` what was
        accepted, so that a second call sends the rest."""

    def send_foreign(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        """Send in another way, under `task_id`, which is the same when the caller tries again."""

    def send_delayed(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        """The same with a countdown."""


class GivenUp(Exception):
    """What cannot be tried again, since it could then be there twice."""


class OurSender:
    """Publishes with `pipeline`; in other ways: a stock client, options that go Celery's own way,
    and rubbish."""

    def __init__(self, redis_url: str) -> None:
        from pipeline.producer import celery_tasks

        self._one, self._many = celery_tasks.track_event, celery_tasks.track_events
        self._stock = Celery("stock", broker=redis_url, set_as_current=False)
        self._stock.conf.task_publish_retry_policy = _RETRY_POLICY
        self._redis = redis.Redis.from_url(redis_url, retry=Retry(NoBackoff(), 0))

    def send(self, events: list[dict[str, Any]], *, retry: bool) -> None:
        if len(events) > 1:
            self._many.apply_async([events], retry=retry)
        elif retry:
            self._one.delay(**events[0])
        else:
            self._one.apply_async(kwargs=events[0], retry=False)

    def send_foreign(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        way = random.random()
        if DEAD in events[0]:
            self._send_bad(events[0][DEAD], task_id, rubbish=task_id < "8")
        elif way < 0.1:
            self._send_by_celery(events, task_id=task_id, expires=3_600)
        else:
            for _ in range(2 if way > 0.8 else 1):  # as after a lost reply: twice under one id
                if len(events) == 1:
                    self._send_stock("track_event", [], events[0], task_id)
                else:
                    self._send_stock("track_events", [events], {}, task_id)

    def send_delayed(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        self._send_by_celery(events, task_id=task_id, countdown=random.choice(_COUNTDOWNS_S))

    def _send_by_celery(self, events: list[dict[str, Any]], **options: Any) -> None:
        """With options that our own script does not send."""
        if len(events) == 1:
            self._one.apply_async(kwargs=events[0], **options)
        else:
            self._many.apply_async([events], **options)

    def _send_bad(self, mark: str, task_id: str, *, rubbish: bool) -> None:
        if not rubbish:
            self._send_stock("track_event", [""], {"user_id": mark}, task_id)
            return
        try:
            self._redis.lpush(EVENTS_QUEUE, f"rubbish {mark}")
        except redis.RedisError as error:
            raise GivenUp from error

    def _send_stock(self, name: str, args: list[Any], kwargs: dict[str, Any], task_id: str) -> None:
        self._stock.send_task(
            f"analytics.{name}",
            args,
            kwargs,
            task_id=task_id,
            queue=EVENTS_QUEUE,
            ignore_result=True,
            retry_policy=_RETRY_POLICY,
        )


class ControlSender:
    """Publishes plain Celery tasks, each event a message of its own, with Celery's own retries."""

    def __init__(self) -> None:
        from tests.chaos.processes import control

        self._track = control.track

    def send(self, events: list[dict[str, Any]], *, retry: bool) -> None:
        while events:
            self._track.apply_async([events[0]], retry_policy=_RETRY_POLICY)
            del events[0]  # when the next one fails, those before it are not sent again

    def send_foreign(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        self.send(events, retry=True)

    def send_delayed(self, events: list[dict[str, Any]], task_id: str, random: Random) -> None:
        self.send(events, retry=True)
