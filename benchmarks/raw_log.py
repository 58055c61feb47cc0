"""What it costs to log raw events in the step that counts them, with events that differ as real
ones do: a tenth of what constant properties would leave of them after compression is no measure."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from benchmarks.report import Measured
from benchmarks.stage import EVENT_TYPE, Stage, users
from pipeline.counters import Counters
from pipeline.deliveries import TAG_PREFIX, Delivery
from pipeline.events import Event
from pipeline.raw_events import EventLogOptions

MESSAGES = 10
EVENTS_EACH = 500
_SHAPES = ((10, 500), (500, 1))


def measure(stage: Stage) -> Measured:
    """Events a second that batches are applied with, logged and not logged, turn by turn."""
    counters = stage.services.counters
    quiet = replace(counters.options, event_log=EventLogOptions(types="none"))
    sides = {
        "logged": counters,
        "unlogged": Counters(counters.client, counters.keys, quiet),
    }
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for at in range(stage.sizes.rounds * 2):
        stage.say(f"round {at + 1} of {stage.sizes.rounds * 2}")
        for name in sorted(sides, reverse=bool(at % 2)):
            rates[name].append(_events_per_s(stage, sides[name]))
        stage.services.redis.delete(counters.keys.events(0), counters.keys.events_sizes)
    entries = _entry_bytes(stage)
    note = (
        f"Batches of {MESSAGES} messages with {EVENTS_EACH} events each, whose paths, visitors and "
        f"times differ; an event takes {entries:.0f} bytes in the log."
    )
    return Measured(rates, {"raw-logging": note})


def varied_events(count: int, seed: int = 1) -> list[Event]:
    """Events like those of a web server's log: a few hundred paths, agents and referrers, whose
    shares fall off as they do in a real one."""
    chosen = random.Random(seed)
    who = users(count)
    now = datetime.now(UTC)
    agents = [f"Mozilla/5.0 (X11; Linux x86_64; rv:{n}.0) Gecko/20100101" for n in range(200)]

    def some(most: int) -> int:
        return int(chosen.paretovariate(0.6)) % most

    return [
        Event(
            EVENT_TYPE,
            now - timedelta(milliseconds=chosen.randrange(3_600_000)),
            who[n],
            {
                "path": f"/articles/{some(2_000)}/{chosen.choice(('', 'comments', 'print'))}",
                "status": chosen.choice((200, 200, 200, 304, 404)),
                "bytes": chosen.randrange(50_000),
                "referrer": f"https://example.org/search?q={some(500)}",
                "agent": agents[some(200)],
            },
        )
        for n in range(count)
    ]


def _events_per_s(stage: Stage, counters: Counters) -> float:
    events = varied_events(20_000)
    batches = max(4, stage.sizes.batches)
    waiting = [_unacknowledged(stage, events, n) for n in range(batches)]
    began = time.perf_counter()
    for deliveries in waiting:
        counters.apply(deliveries, datetime.now(UTC))
    return batches * MESSAGES * EVENTS_EACH / (time.perf_counter() - began)


def _unacknowledged(stage: Stage, events: Sequence[Event], batch: int) -> list[Delivery]:
    keys = stage.services.keys
    first = batch * MESSAGES * EVENTS_EACH % len(events)
    tags = [f"{TAG_PREFIX}{uuid4().hex[:16]}/1~1.{n}" for n in range(MESSAGES)]
    stage.services.redis.hset(keys.unacked, mapping=dict.fromkeys(tags, "[]"))
    stage.services.redis.zadd(keys.unacked_index, dict.fromkeys(tags, time.time()))
    return [
        Delivery(events[first + n * EVENTS_EACH : first + (n + 1) * EVENTS_EACH], tag=tag)
        for n, tag in enumerate(tags)
    ]
