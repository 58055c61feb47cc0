"""How many events a second `Counters.apply` counts, from the call to Redis's answer, beside what
Redis does when a client only counts."""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import uuid4

from benchmarks.report.report import Measured
from benchmarks.rivals import redis_benchmark
from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, Stage, users
from pipeline.contract import TAG_PREFIX
from pipeline.counting.batch import Delivery
from pipeline.event.model import Event

_COUNTERS_AN_EVENT = 3
"""Its type's of the day and of the hour, and its user's."""
_MESSAGE = b"m" * 900
"""About the size of a message with one event. Its text plays no part in an apply."""


@dataclass
class Case:
    """A kind of batch, and what an event of those applied took (µs)."""

    messages: int
    events_each: int
    redis_us: list[float] = field(default_factory=list)
    ours_us: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"An event takes {statistics.median(self.ours_us):.1f} µs of the CPU time of the "
            f"process that applies, and {statistics.median(self.redis_us):.1f} of Redis's."
        )


def measure(stage: Stage) -> Measured:
    """Events a second of batches of 500 messages with one event each, of batches of ten messages
    with 500, and of redis-benchmark's pipelined INCR, three an event."""
    single, several = Case(messages=500, events_each=1), Case(messages=10, events_each=500)
    commands = stage.sizes.benchmark_commands
    samples = stage.interleave(
        {
            "single": lambda: _events_per_s(stage, single),
            "several": lambda: _events_per_s(stage, several),
            "benchmark": lambda: (
                redis_benchmark.incr_per_s(stage.redis_url, commands) / _COUNTERS_AN_EVENT
            ),
        },
        stage.sizes.rounds_of_calls,
    )
    by = redis_benchmark.program() or "our own client"
    how = f"The rate of INCR is measured by {by}, one connection, {redis_benchmark.DEPTH} at a time"
    return Measured(samples, {"apply-single": f"{single} {how}.", "apply-batches": f"{several}"})


def _events_per_s(stage: Stage, case: Case) -> float:
    counters, batches = stage.services.counters, stage.sizes.batches
    waiting = [_unacknowledged(stage, case) for _ in range(batches)]
    events = batches * case.messages * case.events_each
    redis_s, ours_s = stage.redis_cpu_s(), time.process_time()
    began = time.perf_counter()
    for deliveries in waiting:
        counters.apply(deliveries, datetime.now(UTC))
    elapsed_s = time.perf_counter() - began
    case.ours_us.append((time.process_time() - ours_s) / events * 1e6)
    case.redis_us.append((stage.redis_cpu_s() - redis_s) / events * 1e6)
    return events / elapsed_s


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
