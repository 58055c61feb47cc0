"""Celery's options, each unusual one with its reason."""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.schedule import TICK_S, beat_schedule
from config.settings import Settings
from pipeline.contract import ARCHIVE_EVENTS, FLUSH_COUNTERS, TRACK_EVENT, TRACK_EVENTS
from pipeline.installation import Queues, exchanges_of, queues_of
from pipeline.urls import redis_address

# Messages an event worker may hold unacknowledged from RabbitMQ, where they come one by one,
# without a bound on their bytes, and are counted one by one. Celery has one prefetch setting for
# all workers, and its command line always passes that on, so an event worker's consumer raises
# its own to this number; flush workers keep the 1 below.
RABBITMQ_PREFETCH = 200

_RESTORE_INTERVAL_S = 5
_SOCKET_TIMEOUT_S = 15
_CONNECT_TIMEOUT_S = 5


def celery_config(settings: Settings, redis_url: str) -> dict[str, Any]:
    """Celery's options for all processes of the pipeline: workers, beat and Flower.

    `redis_url` is the address in use, which for a private server is not in the settings. Raises
    ValueError when it cannot be one.
    """
    address = redis_address.parse_redis_url(redis_url)
    broker = address.celery_options(_transport_options(settings))
    if sentinels := broker["broker_transport_options"].get("sentinel_kwargs"):
        # redis-py would try a Sentinel that is down four times, for seconds, before the next.
        sentinels["retry"] = Retry(NoBackoff(), 0)
    return {
        **broker,
        # A worker outlives its broker, however long the broker stays away: Celery would give up
        # after 100 attempts, and at the start after none.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Nor does it end for what a server refuses: a full Redis takes no declaration.
        "broker_channel_error_retry": True,
        **_MESSAGES,
        **_queue_options(queues_of(settings.prefix)),
        **exchanges_of(settings.prefix),
        **_TASKS,
        **_WORKERS,
        **_BEAT,
        "beat_schedule": beat_schedule(settings.flush_interval_s),
    }


def redbeat_options(prefix: str, redis_url: str) -> dict[str, Any]:
    """Options of celery-redbeat, used where it is asked for: `analytics beat --redbeat`."""
    return {
        "redbeat_redis_url": redis_url,
        "redbeat_redis_options": {
            "socket_timeout": _SOCKET_TIMEOUT_S,
            "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        },
        "redbeat_key_prefix": f"{prefix}redbeat:",
    }


def _transport_options(settings: Settings) -> dict[str, Any]:
    jobs_unacked = f"{settings.prefix}jobs:unacked"
    return {
        # For jobs alone: the event lane has its own rules (tasks/consumer/lane.py). kombu's default
        # is an hour, and its look for messages of dead workers comes every tenth time of every ten
        # seconds. A run that takes longer is delivered again, and its lane says that it goes on.
        "visibility_timeout": settings.visibility_timeout_s,
        "unacked_restore_interval": min(_RESTORE_INTERVAL_S, settings.visibility_timeout_s),
        "unacked_restore_throttle": 1,
        # Who sweeps holds this; a worker killed meanwhile would keep it for five minutes.
        "unacked_mutex_expire": _RESTORE_INTERVAL_S,
        # kombu's own names are shared by every Celery application in the database, each with its
        # own visibility timeout.
        "unacked_key": jobs_unacked,
        "unacked_index_key": f"{jobs_unacked}_index",
        "unacked_mutex_key": f"{jobs_unacked}_mutex",
        # Without these a server that vanishes without closing its connections (a failover, a
        # firewall) is waited for without end. The longest blocking command takes one second.
        "socket_timeout": _SOCKET_TIMEOUT_S,
        "socket_connect_timeout": _CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        # Not set, each for a reason. global_keyprefix renames the queues under our scripts, and
        # ack_emulation=False turns redelivery off.
    }


def _queue_options(queues: Queues) -> dict[str, Any]:
    return {
        # The nameless exchange leads straight to the queue of the routing key: no binding tables
        # in Redis, and nothing that has to be declared before the first publish.
        "task_queues": [Queue(name, exchange=Exchange(""), routing_key=name) for name in queues],
        "task_default_queue": queues.maintenance,
        "task_default_exchange": "",
        "task_default_routing_key": queues.maintenance,
        "task_routes": {
            TRACK_EVENT: {"queue": queues.events},
            TRACK_EVENTS: {"queue": queues.events},
            FLUSH_COUNTERS: {"queue": queues.flush},
            ARCHIVE_EVENTS: {"queue": queues.flush},
            # All other tasks of ours are maintenance, which is also the default queue.
            "analytics.*": {"queue": queues.maintenance},
        },
    }


_MESSAGES: dict[str, Any] = {
    # JSON only: unpickling a message runs code that its sender chose.
    "accept_content": ["json"],
    "task_serializer": "json",
    "event_serializer": "json",
    "enable_utc": True,
    "timezone": "UTC",
    # A misspelt queue after -Q is an error, not a worker that waits for nothing.
    "task_create_missing_queues": False,
}

_TASKS: dict[str, Any] = {
    # Nobody waits for a result: what a task did is in Redis, in Postgres and in the metrics.
    "result_backend": None,
    "task_ignore_result": True,
    # Acknowledged when done, and given back when the process that ran it is killed: every task
    # can be repeated, none may be lost.
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
}

_WORKERS: dict[str, Any] = {
    # Celery's own, which would lose what it cannot read.
    "worker_consumer": "tasks.consumer.celery_consumer:Consumer",
    # One at a time on flush workers, so that a second worker gets the next flush.
    "worker_prefetch_multiplier": 1,
    # Flower shows workers and tasks from these events. Not task_send_sent_event: a second message
    # for every event tracked.
    "worker_send_task_events": True,
    # A flush that runs when the connection to the broker is lost can finish: it is repeatable,
    # and cancelling it would only put it off. (Celery 6 changes the default, hence explicit.)
    "worker_cancel_long_running_tasks_on_connection_loss": False,
    # No task has a rate limit; without the check there is no token bucket for each.
    "worker_disable_rate_limits": True,
    # config/logging.py sets the log up, and what is printed stays where it was printed.
    "worker_hijack_root_logger": False,
    "worker_redirect_stdouts": False,
}

_BEAT: dict[str, Any] = {
    # In memory: all entries are intervals, and Celery's schedule file is one more thing that a
    # kill can leave broken and that has to be kept somewhere.
    "beat_scheduler": "tasks.consumer.heartbeat:BeatScheduler",
    # `celery -A tasks inspect ping` is answered, for `analytics up` and `analytics status`.
    "beat_enable_remote_control": True,
    "beat_max_loop_interval": TICK_S,
}
