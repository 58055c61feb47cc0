"""All events of a question, some users after others, so many that memory is bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date

from pipeline.reading.journeys.archived import Marked, Source, join_marked, list_ranges
from pipeline.reading.journeys.snapshot import estimate_rows

EVENTS_AT_ONCE = 2_000_000
"""About: users of one bucket are never apart."""
Progress = Callable[[float], None]
"""Is called with how much is done, from 0 to 1."""


def take_in_parts(source: Source, packed: Sequence[date], progress: Progress) -> Iterator[Marked]:
    """All events of some users after those of others; `packed` are the sealed days."""
    rows = source.read_rows(packed, lambda done: progress(done / 2))
    counts = dict(source.count_packed(packed))
    for bucket, parts in rows.by_bucket.items():
        counts[bucket] = counts.get(bucket, 0) + sum(len(part.events) for part in parts)
    total, done = sum(counts.values()), 0
    for some in _group(counts):
        parts = [part for one in some for part in rows.by_bucket.pop(one, ())]
        parts += source.read_packed(packed, some[0], some[-1] + 1)
        yield join_marked(parts)
        done += sum(counts[one] for one in some)
        progress((1 + done / total) / 2)


def _group(counts: Mapping[int, int]) -> Iterator[list[int]]:
    """Buckets in order, as many together as make up `EVENTS_AT_ONCE` events."""
    some, size = list[int](), 0
    for bucket in sorted(counts):
        if some and size + counts[bucket] > EVENTS_AT_ONCE:
            yield some
            some, size = [], 0
        some.append(bucket)
        size += counts[bucket]
    if some:
        yield some


def estimate_source(source: Source, packed: Sequence[date]) -> int:
    """How many rows of the archive are read, about; what is packed is not counted."""
    wanted, rows = source.wanted, 0
    for event_type in wanted.list_types():
        for first, last in list_ranges(source.list_days_of_rows(event_type, packed)):
            rows += estimate_rows(source.snapshot, [event_type], first, last)
    return rows
