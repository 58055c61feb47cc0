"""How fast a batch is applied, in Redis commands a second: those that the script makes, by the time
from sending it to its answer. What Python does before is in the rows about workers."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from benchmarks.report.report import Measured
from benchmarks.rivals import redis_benchmark
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage, users
from pipeline.contract import TAG_PREFIX
from pipeline.counting.batch import Delivery
from pipeline.event.model import Event
from pipeline.redis.scripts import Call

_MESSAGE = b"m" * 900
"""About the size of a message with one event. Its text plays no part in an apply."""


@dataclass
class Case:
    """A kind of batch, and what was seen of those applied."""

    messages: int
    events_each: int
    events_per_s: list[float] = field(default_factory=list)
    commands_a_batch: list[float] = field(default_factory=list)
    in_redis: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"A batch needs {statistics.median(self.commands_a_batch):,.0f} commands. The script "
            f"takes {statistics.median(self.in_redis):.0%} of the time of `Counters.apply`, which "
            f"applies {statistics.median(self.events_per_s):,.0f} events/s."
        )


def measure(stage: Stage) -> Measured:
    """Commands a second of batches of 500 messages with one event each, of batches of ten messages
    with 500, and of redis-benchmark's pipelined INCR."""
    single, several = Case(messages=500, events_each=1), Case(messages=10, events_each=500)
    commands = stage.sizes.benchmark_commands
    samples = stage.interleave(
        {
            "single": lambda: _commands_per_s(stage, single),
            "several": lambda: _commands_per_s(stage, several),
            "benchmark": lambda: redis_benchmark.incr_per_s(stage.redis_url, commands),
        }
    )
    by = redis_benchmark.program() or "our own client"
    how = f"The rate of INCR is measured by {by}, one connection, {redis_benchmark.DEPTH} at a time"
    return Measured(samples, {"apply-single": f"{single} {how}.", "apply-batches": f"{several}"})


def _commands_per_s(stage: Stage, case: Case) -> float:
    counters, batches = stage.services.counters, stage.sizes.batches
    waiting = [_unacknowledged(stage, case) for _ in range(batches)]
    calls_before = _commands(stage)
    with _timed() as asked:
        began = time.perf_counter()
        for deliveries in waiting:
            counters.apply(deliveries, datetime.now(UTC))
        elapsed_s = time.perf_counter() - began
    calls = _commands(stage) - calls_before
    case.events_per_s.append(batches * case.messages * case.events_each / elapsed_s)
    case.commands_a_batch.append(calls / batches)
    case.in_redis.append(sum(asked) / elapsed_s)
    return calls / sum(asked)


@contextmanager
def _timed() -> Iterator[list[float]]:
    """The seconds of each call of the apply script."""
    asked: list[float] = []

    begin, answer = Call.__init__, Call.answer
    began_s = 0.0

    def timed_begin(call: Call, *args: Any) -> None:
        nonlocal began_s
        began_s = time.perf_counter()
        begin(call, *args)

    def timed_answer(call: Call) -> Any:
        try:
            return answer(call)
        finally:
            asked.append(time.perf_counter() - began_s)

    with patch.object(Call, "__init__", timed_begin), patch.object(Call, "answer", timed_answer):
        yield asked


def _unacknowledged(stage: Stage, case: Case) -> list[Delivery]:
    """The deliveries of a batch, their messages entered in Redis as a fetch would."""
    keys, now = stage.services.keys, datetime.now(UTC)
    who = iter(users(case.messages * case.events_each))
    tags = [f"{TAG_PREFIX}{uuid4().hex[:16]}/1~1.{number}" for number in range(case.messages)]
    deliveries = [
        Delivery(
            [Event(EVENT_TYPE, now, next(who), PROPERTIES) for _ in range(case.events_each)],
            tag=tag,
            raw=_MESSAGE,
        )
        for tag in tags
    ]
    entry = json.dumps([_MESSAGE.decode(), "", "analytics.events"])
    stage.services.redis.hset(keys.unacked, mapping=dict.fromkeys(tags, entry))
    stage.services.redis.zadd(keys.unacked_index, dict.fromkeys(tags, now.timestamp()))
    return deliveries


def _commands(stage: Stage) -> int:
    """Commands that scripts have called so far."""
    found = stage.services.redis.info("commandstats")
    of_clients = ("cmdstat_evalsha", "cmdstat_info")
    return sum(one["calls"] for name, one in found.items() if name not in of_clients)
