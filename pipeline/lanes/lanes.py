"""Lanes: flushes, archive runs and maintenance have one each, in which one run is under way.

A message is a request for a run. A run serves every request made before it begins: those in the
queue leave it, and one that comes meanwhile is noted as *wanted*, which leads to one more run. All
of it is in Redis, so it holds for any number of workers, beats and machines, and under RabbitMQ:

- A lane is a key with a lifetime, extended while its run goes on: that of a killed worker is free
  again after `LANE_S`.
- `wanted` outlives everything. The run that ends sends a message for it; where that was lost, or
  the run was killed, any worker finds it (`find_overdue`) and sends one.
- Requests have numbers: one whose number a finished run has served is late, and needs no other.

Lanes order work and save it; they guard nothing: what runs in them may run twice at once.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, cast
from uuid import uuid4

import redis

from pipeline import contract
from pipeline.lanes.due import Due
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

Lane = Literal["flush", "archive", "maintenance"]

LANE_TASKS: dict[Lane, tuple[str, ...]] = {
    "flush": (contract.FLUSH_COUNTERS,),
    "archive": (contract.ARCHIVE_EVENTS,),
    # What takes minutes now and then, one after the other.
    "maintenance": (
        contract.MOVE_DEAD_LETTERS,
        contract.REPAIR_COUNTERS,
        contract.MAINTAIN,
        contract.AUDIT,
        contract.RECOUNT,
        contract.PRUNE,
    ),
}
LANES: dict[str, Lane] = {task: lane for lane, tasks in LANE_TASKS.items() for task in tasks}
"""Task -> its lane."""

LANE_S = 3.0
"""A run that has not said for so long that it goes on is dead."""
ASK_AGAIN_S = 60.0
"""After so long a request that no run has served is sent again, where no queue shows it waiting."""
_LOST_AFTER_S = 10.0
"""After so long a request that has not begun and does not wait in its list was lost on its way."""
NO_NUMBER = 0

_ASK = Script("pipeline.lanes.ask")
_BEGIN = Script("pipeline.lanes.begin")
_END = Script("pipeline.lanes.end")
_EXTEND = Script("pipeline.lanes.extend")
_LOOKED_AT = 100
_NO_CALLBACKS = '{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'
_PLAIN_TEXTS = [
    text
    for embedded in (_NO_CALLBACKS, "{}", "null")
    for whole in [f"[[], {{}}, {embedded}]"]
    for text in (whole, whole.replace(" ", ""))
]
_PLAIN_BODIES = [
    *_PLAIN_TEXTS,
    *(b64encode(text.encode()).decode() for text in _PLAIN_TEXTS),
]
"""Bodies of messages without arguments and callbacks, as Celery's clients write them."""


@dataclass(frozen=True)
class Run:
    """A run under way: of which task, for the request of which id, and the newest request number
    that it serves. `joined` requests left the queue when it began."""

    task: str
    request_id: str
    token: str
    number: int
    joined: int


class Lanes:
    """The lanes of one Redis under one prefix. Holds no state but the client. Every method raises
    redis.RedisError when Redis is away."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def ask(self, task: str, queue: str | None, ask_again_s: float = ASK_AGAIN_S) -> int | None:
        """The number of a new request, to be sent with it; None where one is on its way that does
        as well.

        `queue` is the Redis list in which requests wait, None where RabbitMQ has them: there one
        sent within `ask_again_s` counts as waiting.
        """
        if queue is not None:
            if any(_asks_for(text, task) for text in self._newest(queue)):
                return None
            ask_again_s = 0
        return self._ask(task, ask_again_s)

    def ask_if_due(self, task: str, queue: str | None, due: Due) -> int | None:
        """As `ask`, and None too where the run is not due yet. Of any number of processes that ask
        at once, one is given a number."""
        if queue is not None and any(_asks_for(text, task) for text in self._newest(queue)):
            return None
        return self._ask(task, ASK_AGAIN_S if queue is None else _LOST_AFTER_S, due)

    def _ask(self, task: str, ask_again_s: float, due: Due | None = None) -> int | None:
        waits_s = [ask_again_s, *((due.after_s, due.retry_s, due.first_s) if due else (0, 0, 0))]
        return (
            _ASK.run(
                self._client,
                keys=[self._keys.requests, self._keys.lane(LANES[task])],
                args=[task, *(int(wait_s * 1000) for wait_s in waits_s)],
            )
            or None
        )

    def _newest(self, queue: str) -> list[bytes]:
        return cast("list[bytes]", self._client.lrange(queue, 0, _LOOKED_AT - 1))

    def begin(
        self, task: str, request_id: str, number: int = NO_NUMBER, lists: Sequence[str] = ()
    ) -> Run | None:
        """Begin a run, which serves every request made until now; None where the request needs no
        run of its own: another serves it, or it is noted as wanted.

        `lists` are those of the queue in Redis, from which requests served by this run are taken.
        """
        token = uuid4().hex
        state, *found = _BEGIN.run(
            self._client,
            keys=[self._keys.lane(LANES[task]), self._keys.requests, *lists],
            args=[task, request_id, number, token, int(LANE_S * 1000), *_PLAIN_BODIES],
        )
        return Run(task, request_id, token, *found) if state == 1 else None

    def extend(self, run: Run) -> bool:
        """Say that the run goes on; returns False where its lane is another's."""
        args = [run.token, int(LANE_S * 1000)]
        lane = self._keys.lane(LANES[run.task])
        return bool(_EXTEND.run(self._client, keys=[lane], args=args))

    def end(self, run: Run, *, is_done: bool, is_away: bool = False) -> list[str]:
        """End the run; returns the tasks of its lane that are wanted, for which a message must be
        sent. May be repeated. `is_away` says that it failed for want of a server, so that it is
        due again soon, and does not count as one that does not end."""
        lane = LANES[run.task]
        outcome = 1 if is_done else -1 if is_away else 0
        args = [run.task, run.request_id, run.token, run.number, outcome, *LANE_TASKS[lane]]
        keys = [self._keys.lane(lane), self._keys.requests]
        return [name.decode() for name in _END.run(self._client, keys=keys, args=args)]

    def measure_rest_s(self, task: str) -> tuple[float, float]:
        """How long ago the last finished run of a task ended, and how long it took, in seconds;
        infinity and 0 where there was none."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hmget(self._keys.requests, f"{task}:ended_ms", f"{task}:took_ms")
        (now_s, now_us), (ended_ms, took_ms) = pipeline.execute()
        if not ended_ms or not took_ms:
            return inf, 0.0
        return now_s + now_us / 1e6 - int(ended_ms) / 1000, int(took_ms) / 1000

    def find_overdue(self, asked_for_s: float = inf) -> list[str]:
        """Tasks that are wanted, or were asked for so long ago and not begun, while nothing runs in
        their lane. The message of a request may be gone with its worker, or was refused by a Redis
        that is full."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        pipeline.hgetall(self._keys.requests)
        (now_s, _), requests = pipeline.execute()
        overdue = [
            task for task in LANES if _is_overdue(task, requests, (now_s - asked_for_s) * 1000)
        ]
        return [task for task in overdue if not self._client.exists(self._keys.lane(LANES[task]))]


def _is_overdue(task: str, requests: dict[bytes, bytes], asked_before_ms: float) -> bool:
    if f"{task}:wanted".encode() in requests:
        return True
    asked, began, asked_ms = (
        int(requests.get(f"{task}:{field}".encode(), b"0"))
        for field in ("asked", "began", "asked_ms")
    )
    return asked > began and asked_ms <= asked_before_ms


def _asks_for(text: bytes, task: str) -> bool:
    """Whether a message that waits is a plain request for this task, now and without expiry."""
    if task.encode() not in text:
        return False
    try:
        message = json.loads(text)
        headers, body = message["headers"], message["body"]
        if message["properties"].get("body_encoding") == "base64":
            body = b64decode(body)
        args, kwargs, embedded, *_ = json.loads(body)
        return headers["task"] == task and is_plain(headers, args, kwargs, embedded or {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False  # for the worker to judge


def is_plain(headers: Any, args: Any, kwargs: Any, embedded: Any) -> bool:
    """Whether a message asks for a run and for nothing else: no arguments, time, limits or
    callbacks."""
    named = ("eta", "expires", "group")
    return not (
        args
        or kwargs
        or any(headers.get(name) is not None for name in named)
        or any(embedded.values())
        or any(headers.get("timelimit") or ())
    )
