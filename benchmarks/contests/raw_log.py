"""What it costs to log raw events, and to sum the numbers of a property, in the step that counts
them: read and applied as a worker does, with events that differ as real ones do. Those of constant
properties compress to a fifth of that, and so would cost less."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from benchmarks.report.report import Measured
from benchmarks.stage.stage import EVENT_TYPE, Stage, users
from pipeline import track_events
from pipeline.contract import EVENTS_QUEUE, TAG_PREFIX
from pipeline.counting.apply import Counters
from pipeline.event.model import Event
from pipeline.options import EventLogOptions
from tasks.consumer.messages import read_message

_SHAPES = {"batches": (10, 200), "single": (500, 1)}
"""Messages in a batch, and events in a message."""


def measure(stage: Stage) -> Measured:
    """Events a second that batches are read and applied with, in turns: logged, not logged, and
    logged with a property summed, sizes of its numbers included."""
    client, keys, usual = (
        stage.services.redis,
        stage.services.keys,
        stage.services.counters.options,
    )
    quiet = replace(usual, event_log=EventLogOptions(types="none"))
    summing = replace(usual, sums={EVENT_TYPE: {"bytes": 0}})
    sides = {
        "logged": stage.services.counters,
        "unlogged": Counters(client, keys, quiet),
        "summed": Counters(client, keys, summing),
    }
    samples: dict[str, list[float]] = {}
    notes = {}
    for shape, (messages, events_each) in _SHAPES.items():
        texts = _texts(stage, messages, events_each)
        entry_bytes = 0.0
        for at in range(stage.sizes.rounds):
            stage.say(f"round {at + 1} of {stage.sizes.rounds}: {shape}")
            elapsed_s: dict[str, list[float]] = {side: [] for side in sides}
            # Turn by turn, so that whatever else the machine does meets both.
            for batch in range(2 * stage.sizes.batches):
                for side in sorted(sides, reverse=bool(batch % 2)):
                    elapsed_s[side].append(_elapsed_s(stage, sides[side], texts))
            for side in sides:
                rate = messages * events_each / statistics.median(elapsed_s[side])
                samples.setdefault(f"{side}-{shape}", []).append(rate)
            held = stage.services.event_log.read_status()
            entry_bytes = held["bytes"] / held["events"]
            stage.clear()
        notes[f"raw-logging-{shape}"] = (
            f"{messages} messages a batch with {events_each} events each; an event takes "
            f"{entry_bytes:.0f} bytes in the log."
        )
    notes["sum-batches"] = "A property of each event, of 50,000 numbers, is summed."
    return Measured(samples, notes)


def varied_events(count: int, seed: int = 1) -> list[Event]:
    """Events like those of a web server's log: of many paths, agents and searches some are common
    and most are rare."""
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


def _texts(stage: Stage, messages: int, events_each: int) -> list[bytes]:
    """Messages as they stand in the queue."""
    events = [event.to_dict() for event in varied_events(messages * events_each)]
    for first in range(0, len(events), events_each):
        track_events.delay(events[first : first + events_each])
    texts: Any = stage.services.redis.lrange(EVENTS_QUEUE, 0, -1)
    stage.services.redis.delete(EVENTS_QUEUE)
    return list(texts)


def _elapsed_s(stage: Stage, counters: Counters, texts: Sequence[bytes]) -> float:
    """How long a batch takes that has just been fetched."""
    keys, client = stage.services.keys, stage.services.redis
    fetched: dict[Any, bytes] = {
        f"{TAG_PREFIX}{uuid4().hex[:16]}/1~1.{n}": text for n, text in enumerate(texts)
    }
    client.hset(keys.unacked, mapping=fetched)
    client.zadd(keys.unacked_index, dict.fromkeys(fetched, time.time()))
    began = time.perf_counter()
    now = datetime.now(UTC)
    read = [read_message(tag, text, now) for tag, text in fetched.items()]
    applied = counters.apply([one.delivery for one in read], now)
    elapsed_s = time.perf_counter() - began
    assert applied.counted
    return elapsed_s
