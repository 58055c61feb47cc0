"""Which counters of event types Redis holds: live ones, and those claimed by open batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import redis

from pipeline.flushing.claims import Claims
from pipeline.redis.keys import Counter, DailyCounter, GapCounter, HourlyCounter, Keys, key_text

_SCANNED_AT_ONCE = 10_000
_OF_TYPES = "[cg][oa]*"
"""Matches `counter:…` and `gap:…` in one pass over all keys."""


def find_type_counters(
    client: redis.Redis, keys: Keys
) -> Iterator[DailyCounter | HourlyCounter | GapCounter]:
    """The counters of event types, without users and values; some come twice.

    Finds each that is there all the while, and needs the memory of one page. The server looks
    through all its keys: about a second for a million.
    """
    for name in _names(client, keys, keys.prefix + _OF_TYPES):
        try:
            counter: Counter = keys.parse(name)
        except ValueError:
            continue
        if isinstance(counter, DailyCounter | HourlyCounter | GapCounter):
            yield counter


def _names(client: redis.Redis, keys: Keys, pattern: str) -> Iterator[str]:
    for name in client.scan_iter(pattern, count=_SCANNED_AT_ONCE):
        yield key_text(cast("bytes", name))
    for batch_id in Claims(client, keys).open_batches():
        journal = keys.inflight + batch_id
        for name, _ in client.hscan_iter(journal, match=pattern, count=_SCANNED_AT_ONCE):
            yield key_text(cast("bytes", name))
