"""How many events a second the archive stores, beside what Postgres does when it gets the same rows
by a bare COPY into the same table with its indexes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime

from benchmarks.contests.raw_log import varied_events
from benchmarks.report.report import Measured
from benchmarks.stage.stage import Stage
from pipeline.counting.batch import Delivery
from pipeline.counting.log_entries import pack, unpack
from pipeline.event_log.archiving import ArchiveOptions
from pipeline.event_log.copying import COPY_EVENTS, copy_text
from pipeline.postgres.names import place_tables

_EVENTS_AN_ENTRY = 500


def measure(stage: Stage) -> Measured:
    """Events a second of `analytics archive` with a backlog, and of COPY with rows that are ready,
    in transactions of as many."""
    events = varied_events(stage.sizes.archived)
    at_once = ArchiveOptions().events_at_once
    texts = [
        copy_text(unpack(pack(events[first : first + at_once])))
        for first in range(0, len(events), at_once)
    ]
    stage.services.maintain(datetime.now(UTC))

    def archive() -> float:
        stage.clear()
        for first in range(0, len(events), _EVENTS_AN_ENTRY):
            delivery = Delivery(events[first : first + _EVENTS_AN_ENTRY])
            stage.services.counters.apply([delivery], datetime.now(UTC))
        began = time.perf_counter()
        archived = stage.services.archive_events()
        assert archived == len(events)
        return archived / (time.perf_counter() - began)

    def copy() -> float:
        stage.clear()
        return len(events) / _copied_s(stage, texts)

    samples = stage.interleave({"archive": archive, "copy": copy})
    note = f"{len(events):,} events in batches of {_EVENTS_AN_ENTRY}, one consumer."
    return Measured(samples, {"archive-copy": note})


def _copied_s(stage: Stage, texts: Sequence[str]) -> float:
    statement = place_tables(COPY_EVENTS, stage.services.engine)
    with stage.connect_postgres() as postgres:
        began = time.perf_counter()
        for text in texts:
            with postgres.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(text)
        return time.perf_counter() - began
