"""A Celery application with plain tasks on our transport, and a worker that kills itself.

`CRASH_AT` names a point of a message's way through the transport; the worker gets SIGKILL when it
comes there for the `CRASH_TIME`-th time.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

import redis
from celery import Celery

from tasks.transport import transport

UNACKED, INDEX = "analytics:unacked", "analytics:unacked_index"
QUEUE = "transport.test"  # a queue of ours would want its servers checked at the start
URL = os.environ["ANALYTICS_REDIS_URL"]

transport.install()
app = Celery("transport_test", broker=URL, set_as_current=False)
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_default_queue=QUEUE,
    worker_prefetch_multiplier=int(os.environ.get("TEST_PREFETCH", "20")),
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    broker_transport_options={
        "visibility_timeout": int(os.environ.get("TEST_VISIBILITY_TIMEOUT_S", "1")),
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
        "unacked_key": UNACKED,
        "unacked_index_key": INDEX,
        "socket_timeout": 5,
    },
)


@app.task(name="record")
def record(number: int, pause_s: float = 0.0) -> None:
    """Note that the message arrived."""
    time.sleep(pause_s)
    crash("in the task")
    with redis.Redis.from_url(URL) as client:
        client.sadd("done", number)


_visits: dict[str, int] = {}


def crash(point: str) -> None:
    """The end, if it is to come here."""
    _visits[point] = _visits.get(point, 0) + 1
    time_to_crash = int(os.environ.get("CRASH_TIME", "1"))
    if os.environ.get("CRASH_AT") == point and _visits[point] == time_to_crash:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: type, name: str, before: str | None, after: str | None) -> None:
    original: Callable[..., Any] = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if before:
            crash(before)
        result = original(self, *args, **kwargs)
        if after:
            crash(after)
        return result

    setattr(owner, name, wrapped)


def _sent(self: Any, request: str, *command: Any) -> None:
    _ask(self, request, *command)
    if request == "FETCH":
        crash("fetch sent")


def _read(self: Any) -> Any:
    found = _read_answer(self)
    if found:
        crash("messages read")
    return found


if os.environ.get("CRASH_AT"):
    _ask, _read_answer = transport.Channel._ask, transport.Channel._read_answer
    transport.Channel._ask, transport.Channel._read_answer = _sent, _read
    _around(transport.Channel, "_deliver_one", "before delivery", "after delivery")
    _around(transport.QoS, "ack", "before acknowledgement", "after acknowledgement")
    _around(transport.QoS, "give_back", "before giving back", "after giving back")
