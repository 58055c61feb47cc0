"""What the lanes show: how many requests wait and since when, what runs, and a line for what falls
behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import Any, cast

import redis

from pipeline.lanes.lanes import LANE_TASKS
from pipeline.redis.keys import Keys

BEHIND_S = 120
"""A lane that is further behind than its interval and this is falling behind."""
ARCHIVE_INTERVAL_S = 60
_UNASKED_S = 10
"""Beat is silent when two intervals and this have passed without a request: it counts from its own
start. Of a long interval it is as late as anything else."""
_LONG_RUN_S = 900
_STUCK_S = 45
"""A flush stores a batch every few seconds. One that waits for a lock in Postgres gives up after
half a minute, and is tried again half a minute later."""
_SETTLED = ("(1e15", "(0")
"""Scores of settled batches: see OPEN of claims.py."""
_LOOKED_AT = 1_000
_REMEDIES = {
    "flush": "see whether a flush worker runs (`analytics worker flush`) and Postgres is fast "
    "enough",
    "archive": "see whether a flush worker runs (`analytics worker flush`) and Postgres is fast "
    "enough; past ANALYTICS_EVENT_LOG_MAX_BYTES events are counted and not logged",
    "maintenance": "see whether a flush worker runs (`analytics worker flush`)",
}
_STUCK_REMEDY = (
    "see the log of the flush worker, and what is in the way in Postgres (pg_stat_activity, its "
    "disk)"
)
_BEATS_REMEDY = "see whether beat runs (`analytics beat`)"

Status = dict[str, Any]


def read_lanes(client: redis.Redis, keys: Keys, lists: Sequence[str]) -> dict[str, Status]:
    """The lanes by name, JSON-ready: `waiting` requests, and for how long (`waiting_s`); for how
    long a run is under way (`running_s`, else None); since when runs began and none ended well
    (`tried_s`, else None); how many `runs` there were and how long the last one took.

    `lists` are those of the queues in Redis; without them `waiting` is None. Raises
    redis.RedisError.
    """
    pipeline = client.pipeline(transaction=False)
    pipeline.time()
    pipeline.hgetall(keys.requests)
    for lane in LANE_TASKS:
        pipeline.hget(keys.lane(lane), "began_ms")
    pipeline.zrevrangebyscore(keys.batches, *_SETTLED, start=0, num=1, withscores=True)
    for name in lists:
        pipeline.lrange(name, 0, _LOOKED_AT - 1)
    (now_s, now_us), requests, *rest = pipeline.execute()
    now_ms = now_s * 1000 + now_us // 1000
    began, (settled, *found) = rest[: len(LANE_TASKS)], rest[len(LANE_TASKS) :]
    texts = [text for of_list in found for text in of_list] if lists else None
    stored_ms = {"flush": int(settled[0][1])} if settled else {}
    return {
        lane: _read_lane(
            tasks,
            _Requests(requests, now_ms),
            (int(began_ms or 0), stored_ms.get(lane, 0)),
            texts,
        )
        for (lane, tasks), began_ms in zip(LANE_TASKS.items(), began, strict=True)
    }


class _Requests:
    """What is noted of the requests, and how long ago."""

    def __init__(self, requests: Any, now_ms: int) -> None:
        self._requests = cast("dict[bytes, bytes]", requests)
        self._now_ms = now_ms

    def number(self, task: str, field: str) -> int:
        """A field of a task; 0 where nothing is noted. Of `wanted` the time alone."""
        return int(self._requests.get(f"{task}:{field}".encode(), b"0").split()[0])

    def age_s(self, since_ms: int) -> float:
        """How long ago that was, in seconds."""
        return round(max(0, self._now_ms - since_ms) / 1000, 1)

    def waits_since_ms(self, task: str, waiting: int | None) -> int:
        """Since when the oldest request waits, as far as it is known; 0 where none does."""
        if wanted_ms := self.number(task, "wanted"):
            return wanted_ms
        is_asked = self.number(task, "asked") > self.number(task, "began")
        return self.number(task, "asked_ms") if is_asked and waiting != 0 else 0

    def tried_since_ms(self, task: str) -> int:
        """When the first run began of those after which none ended well; 0 where the last did."""
        tried_ms = self.number(task, "tried_ms")
        return tried_ms if tried_ms > self.number(task, "ended_ms") else 0


def _read_lane(
    tasks: Sequence[str], requests: _Requests, run: tuple[int, int], texts: list[bytes] | None
) -> Status:
    """`run` is when the run under way began, 0 where there is none, and when something was stored
    last."""
    began_ms, stored_ms = run
    waiting: dict[str, int | None] = {
        task: None if texts is None else sum(task.encode() in text for text in texts)
        for task in tasks
    }
    since_ms = [requests.waits_since_ms(task, number) for task, number in waiting.items()]
    oldest_ms = min(filter(None, since_ms), default=0)
    asked_ms = max(requests.number(task, "asked_ms") for task in tasks)
    took_ms = [requests.number(task, "took_ms") for task in tasks]
    tried_ms = min(filter(None, map(requests.tried_since_ms, tasks)), default=began_ms)
    if began_ms and tried_ms >= began_ms:  # of a first run, what it stores is progress
        tried_ms = max(tried_ms, stored_ms)
    return {
        "waiting": None if texts is None else sum(number or 0 for number in waiting.values()),
        "waiting_s": requests.age_s(oldest_ms) if oldest_ms else 0.0,
        "asked_s": requests.age_s(asked_ms) if asked_ms else None,
        "running_s": requests.age_s(began_ms) if began_ms else None,
        "tried_s": requests.age_s(tried_ms) if tried_ms else None,
        "runs": sum(requests.number(task, "runs") for task in tasks),
        "took_s": max(took_ms) / 1000,
    }


def find_warnings(lanes: Mapping[str, Status], flush_interval_s: float) -> list[str]:
    """A line for each lane that falls behind, with the remedy."""
    intervals_s = {"flush": flush_interval_s, "archive": float(ARCHIVE_INTERVAL_S)}
    return [
        f"{lane} {what}: {remedy}"
        for lane, status in lanes.items()
        for what, remedy in _find_faults(lane, status, intervals_s.get(lane))
    ]


def _find_faults(lane: str, status: Status, interval_s: float | None) -> Iterator[tuple[str, str]]:
    behind_s, running_s = status.get("behind_s"), status["running_s"]
    if interval_s is not None and behind_s is not None:
        if _is_unasked(status, interval_s):
            yield f"has not been asked for, and is {behind_s:.0f} s behind", _BEATS_REMEDY
        elif behind_s > interval_s + BEHIND_S:
            yield f"is {behind_s:.0f} s behind", _REMEDIES[lane]
    if running_s is None and status["waiting_s"] > BEHIND_S:
        was = f"was asked for {status['waiting_s']:.0f} s ago and has not begun"
        yield was, _REMEDIES[lane]
    if lane == "flush":
        if (tried_s := status["tried_s"] or 0) > _STUCK_S:
            what = "has been failing" if running_s is None else "has stood still"
            yield f"{what} for {tried_s:.0f} s", _STUCK_REMEDY
    elif running_s is not None and running_s > _LONG_RUN_S:
        yield f"has been running for {running_s:.0f} s", _REMEDIES[lane]


def _is_unasked(status: Status, interval_s: float) -> bool:
    """Whether something waits for a run that no request has been sent for: beat sends them. What is
    run by hand, or by a cron job, leaves nothing waiting for so long."""
    if status["running_s"] is not None or status["waiting"] or status["waiting_s"]:
        return False
    longest_s = interval_s + min(interval_s + _UNASKED_S, BEHIND_S)
    asked_s = inf if status["asked_s"] is None else status["asked_s"]
    return bool(min(status["behind_s"], asked_s) > longest_s)
