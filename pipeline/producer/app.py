"""The private Celery app of the producer's tasks, and what they publish and count with.

The app neither shows up in the application's own Celery app nor changes it. Everything here is made
when it is first used, and made anew after `configure`.
"""

from __future__ import annotations

import os
from collections import deque
from functools import cache
from typing import Any

from pipeline.celery_app import OwnCelery
from pipeline.counting.apply import Counters
from pipeline.errors import InvalidConfiguration
from pipeline.producer import rabbitmq
from pipeline.producer.publisher import Envelope, Publisher, TracedEnvelope
from pipeline.producer.settings import ProducerSettings, choose_settings, current_settings
from pipeline.redis.client import redis_client
from pipeline.redis.durability import warn_in_background
from pipeline.redis.keys import Keys
from pipeline.system.forks import at_fork
from pipeline.urls.redis_address import parse_redis_url

_CHECKED_WITHIN_S = 5
_TRANSPORT_OPTIONS = {
    "socket_timeout": 15,
    "socket_connect_timeout": 5,
    "socket_keepalive": True,
}


def configure(settings: ProducerSettings | None = None, /, **changes: Any) -> None:
    """Use these settings, or those in use with `changes`, from the next event on; nothing is
    connected yet."""
    choose_settings(settings, changes)
    counters.cache_clear()
    idle_publishers.cache_clear()
    envelope.cache_clear()
    if app.configured:
        app.conf.update(_celery_options())
        app._pool = None
        app.__dict__.pop("amqp", None)  # what Celery made of the options before: queues, producers


def _celery_options() -> dict[str, Any]:
    settings = current_settings()
    return {
        **_broker_options(settings),
        "broker_connection_timeout": 5,
        # Nothing would send heartbeats while the application has no events to send.
        "broker_heartbeat": 0,
        "task_serializer": "json",
        "accept_content": ["json"],
        "task_ignore_result": True,
        "task_default_exchange": "",
        "task_default_queue": settings.events_queue,
        "task_default_routing_key": settings.events_queue,
        # Pauses of a second at most, so the number of tries bounds the time.
        "task_publish_retry_policy": {
            "max_retries": int(settings.publish_timeout_s) + 3,
            "interval_start": 0.1,
            "interval_step": 0.3,
            "interval_max": 1.0,
        },
    }


def _broker_options(settings: ProducerSettings) -> dict[str, Any]:
    if settings.broker_url is not None:
        options = rabbitmq.celery_options(settings.broker_url, [settings.events_queue])
        # `publish_confirmed` tries again, and knows for how long.
        options["broker_transport_options"]["max_retries"] = 0
        return options
    try:
        return _redis_options(settings.redis_address())
    except InvalidConfiguration:
        # Raised when an event is sent. Raised here it would leave the tasks half made, for a
        # process that only imports them, such as a test runner that collects tests.
        return {"broker_url": None}


@cache
def _redis_options(redis_url: str) -> dict[str, Any]:
    try:
        options = parse_redis_url(redis_url).celery_options(_TRANSPORT_OPTIONS)
    except ValueError:  # a parameter that only redis-py knows
        options = {"broker_url": redis_url, "broker_transport_options": dict(_TRANSPORT_OPTIONS)}
    return {"broker_use_ssl": None, "task_queues": None, **options}


app = OwnCelery("analytics-producer")
app.add_defaults(_celery_options)


def use_redis_as_broker() -> None:
    """Have Celery publish to Redis where it is now: private servers may have begun since the app
    was made. Raises `InvalidConfiguration` when there is no address."""
    options = _redis_options(current_settings().redis_address())
    if app.conf.broker_url != options["broker_url"]:
        app.conf.update(options)


@cache
def no_results() -> Any:
    """The tasks' result backend, which keeps none; Celery searches for it anew at every call."""
    return app.backend


@cache
def envelope(task: str, pid: int) -> Envelope:
    """The envelope of a task's messages; the pid is part of it, as their origin."""
    settings = current_settings()
    make = TracedEnvelope if settings.traces else Envelope
    return make(app, task, settings.events_queue, settings.headers())


@cache
def idle_publishers(_pid: int) -> deque[Publisher]:
    """The publishers that no thread of this process uses now: take one and put it back. A server
    that forks in C, as uWSGI does, runs no hooks: the pid keeps its workers apart."""
    return deque()


at_fork(after_in_child=idle_publishers.cache_clear)  # their connections are the parent's


def new_publisher(producer_id: str | None = None, reply_within_s: float = 30) -> Publisher:
    """A publisher with a connection of its own, under a new id or that of a process that died.

    A connection without a reply for so long counts as lost. Raises `InvalidConfiguration` when
    there is no address of Redis.
    """
    settings = current_settings()
    client = redis_client(settings.redis_address(), reply_within_s)
    check_durability()
    return Publisher(client, Keys(settings.prefix), settings.events_queue, producer_id)


_checked: dict[tuple[str, str, int], object] = {}


def check_durability() -> None:
    """Log a warning, once a process and in the background, where Redis may lose what it
    acknowledges."""
    settings = current_settings()
    redis_url, first = settings.redis_address(), object()
    # Of threads that come at the same time one asks.
    of = redis_url, settings.appendfsync, os.getpid()
    if _checked.setdefault(of, first) is first:
        warn_in_background(redis_client(redis_url, _CHECKED_WITHIN_S), settings.appendfsync)


def check_address() -> None:
    """Raises `InvalidConfiguration` when no setting says where events go."""
    if current_settings().broker_url is None:
        current_settings().redis_address()


@cache
def counters() -> Counters:
    """The counters of this process, for events that it counts itself."""
    settings = current_settings()
    return Counters(redis_client(settings.redis_address()), Keys(settings.prefix), settings)
