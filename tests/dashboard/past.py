"""The last hour of the pipeline, as flush workers would have noted it, for pictures."""

from __future__ import annotations

import math

from pipeline.services import Services
from pipeline.upkeep.condition.history import EVERY_S, KEPT_S

_SAMPLES = 240
_EACH_FLUSH = 4
"""Samples from one flush to the next."""


def write_past(services: Services) -> None:
    """Note an hour of samples, and enter what was counted so far as published by our producers."""
    client, keys = services.redis, services.keys
    counted = int(client.hget(keys.totals, "counted") or 0)
    client.hincrby(keys.totals, "published", counted)
    stretch = int(client.time()[0]) // EVERY_S
    rates = [5 + 3 * math.sin(n / 30) + n * 7 % 5 for n in range(_SAMPLES)]
    for number, rate in enumerate(rates):
        passed = counted - round(sum(rates[number:]))
        since_flush = 1 + number % _EACH_FLUSH
        sample = {
            "published": passed,
            "counted": passed,
            "queued": round(rate) % 4,
            "unacknowledged": round(rate) % 3,
            "pending": round(9 * since_flush + rate),
            "logged": round(12 * since_flush + rate),
        }
        at_ms = (stretch - _SAMPLES + number) * EVERY_S * 1_000
        client.xadd(keys.history, sample, f"{at_ms}-1")
    client.expire(keys.history, KEPT_S)
