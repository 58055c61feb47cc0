"""How much there was of everything, each 15 seconds of the last day: one small stream in Redis.

Flush workers take the samples with their heartbeats. The id of a sample is the stretch of time that
it stands for, so that of any number of workers one takes it. A full Redis refuses it, and events
have its memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import redis

from pipeline.contract import PRIORITY_SUFFIXES
from pipeline.installation import queues_of
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

EVERY_S = 15
KEPT_S = 86_400
_TAKE_SAMPLE = Script("pipeline.upkeep.condition.take_sample")
_MINUTE_S = 60
TOTALS = ("published", "counted")
"""Fields that only grow; the others say how much there was at that moment."""


@dataclass(frozen=True)
class Sample:
    """What there was at `at_s` (Unix time of Redis). A field that was not known is not there."""

    at_s: float
    numbers: Mapping[str, int]


def take_sample(client: redis.Redis, keys: Keys, *, with_queue: bool) -> bool:
    """Take a sample, unless there is one of this stretch of time; returns whether it was taken. May
    be repeated, by any number of processes.

    `with_queue` says that Redis is the broker. Raises redis.RedisError, also where it is full.
    """
    names = [keys.history, keys.totals, keys.pending_flush, keys.events_sizes, keys.unacked]
    names += keys.live_buckets
    if with_queue:
        names += [queues_of(keys.prefix).events + suffix for suffix in PRIORITY_SUFFIXES]
    args = [EVERY_S * 1000, KEPT_S // EVERY_S, KEPT_S, len(keys.live_buckets)]
    return bool(_TAKE_SAMPLE.run(client, keys=names, args=args))


def read_samples(client: redis.Redis, keys: Keys, last_s: float) -> list[Sample]:
    """The samples of the last seconds, oldest first. Raises redis.RedisError."""
    now_s = _read_clock_s(client)
    begin_ms = max(0, int((now_s - min(last_s, KEPT_S)) * 1000))
    found: Any = client.xrange(keys.history, f"{begin_ms}")
    return [_read_sample(*one) for one in found]


def _read_clock_s(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def _read_sample(entry_id: bytes, fields: Mapping[bytes, bytes]) -> Sample:
    numbers = {name.decode(): int(value) for name, value in fields.items() if value}
    return Sample(int(entry_id.partition(b"-")[0]) / 1000, numbers)


@dataclass(frozen=True)
class Stretches:
    """Equal stretches of time, one after the other, from `begin_s` (Unix time) on."""

    begin_s: float
    each_s: float
    number: int

    def find(self, at_s: float) -> int | None:
        """The position of the stretch that this time is in."""
        position = int((at_s - self.begin_s) // self.each_s)
        return position if 0 <= position < self.number else None


def spread(samples: Sequence[Sample], field: str, stretches: Stretches) -> list[float | None]:
    """For each stretch: by how much a total has grown, or the most that there was of anything else;
    None where no sample says it. A total that has shrunk, as that of a Redis that went back does,
    says nothing."""
    found: list[float | None] = [None] * stretches.number
    known = [(one.at_s, one.numbers[field]) for one in samples if field in one.numbers]
    before: int | None = None
    for at_s, number in known:
        # A sample stands for the stretch that it ends.
        position = stretches.find(at_s - 0.001)
        grown = None if before is None else number - before
        before = number
        if position is None:
            continue
        if field not in TOTALS:
            found[position] = max(found[position] or 0, number)
        elif grown is not None and grown >= 0:
            found[position] = (found[position] or 0) + grown
    return found


def measure_rate(samples: Sequence[Sample], field: str, over_s: float = 60) -> float | None:
    """By how much it changed a second, over about the last minute of the samples; None where that
    is not known, also of a total that shrank."""
    known = [(one.at_s, one.numbers[field]) for one in samples if field in one.numbers]
    if not known:
        return None
    until_s, newest = known[-1]
    earlier = [one for one in known[:-1] if until_s - one[0] <= over_s]
    if not earlier:
        return None
    since_s, number = earlier[0]
    if field in TOTALS and newest < number:
        return None
    return (newest - number) / (until_s - since_s)


def find_backlog(samples: Sequence[Sample], field: str, many: int) -> tuple[int, int] | None:
    """How many there were in the first sample and in the newest; None where there were fewer than
    `many` meanwhile, and where the samples do not show a minute."""
    known = [one.numbers[field] for one in samples if field in one.numbers]
    if len(known) * EVERY_S < _MINUTE_S or min(known) < many:
        return None
    return known[0], known[-1]
