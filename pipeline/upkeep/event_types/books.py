"""The rows of the books by event type: kept for the large and the recent, folded for the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import date, timedelta
from itertools import islice
from typing import cast

import msgspec
import redis

from pipeline.counting.apply import Counters
from pipeline.counting.batch import OUTCOMES
from pipeline.counting.event_types import is_named
from pipeline.counting.increments import OTHER
from pipeline.reading.event_types import read_books
from pipeline.redis.keys import Keys
from pipeline.redis.scripts import Script

_FOLD_BOOKS = Script("pipeline.upkeep.event_types.fold_books")
_FOLDED_AT_ONCE = 500
_RECENT = range(-3, 4)
"""Days from today whose sets of types may be there."""


def forget_rare_types(counters: Counters, today: date) -> int:
    """Fold the rows of the books of types that were not seen of late into that of the rest, the
    largest `event_types_cap` apart; returns how many fields left. Sums stay. May be repeated."""
    client, keys, options = counters.client, counters.keys, counters.options
    rows = read_books(client, keys)
    recent = cast("set[bytes]", client.sunion(list_sets(keys, today)))
    kept = {*islice(rows, options.event_types_cap), *(one.decode() for one in recent)}
    rare = [name for name in rows if name not in kept and not is_named(name, options)]
    return fold_books(client, keys, rare)


def fold_books(client: redis.Redis, keys: Keys, types: Collection[str]) -> int:
    """Fold the rows of these types into that of the rest; returns how many fields left."""
    left, every = 0, list(types)
    for first in range(0, len(every), _FOLDED_AT_ONCE):
        some = [every[first : first + _FOLDED_AT_ONCE], ["consumed", *OUTCOMES]]
        left += _FOLD_BOOKS.run(client, [keys.totals], [OTHER, msgspec.msgpack.encode(some)])
    return left


def list_sets(keys: Keys, today: date) -> list[str]:
    """The names of all sets of admitted types that may be there."""
    days: Iterable[date] = [today + timedelta(days=n) for n in _RECENT]
    names = [keys.types(f"{old}{day}") for day in days for old in ("", "past:")]
    return [f"{name}{ending}" for name in names for ending in ("", ":pages")]
