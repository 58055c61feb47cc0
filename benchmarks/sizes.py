"""What an event takes of memory and disk, for docs/guides/deploying/sizing.md.

`python -m benchmarks.sizes` sends events with 60 bytes of properties one by one and by a Tracker,
and looks at what waits in Redis and at its append-only file; then counts, flushes and archives
events, each of a user who has no other, and looks at Postgres's tables.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import UTC, datetime

from benchmarks.stage import sides
from benchmarks.stage.stage import EVENT_TYPE, FULL, PROPERTIES, Stage, open_stage
from pipeline import Tracker
from pipeline.counting.batch import Delivery
from pipeline.event.model import Event

_SENT = 20_000
_A_MESSAGE = 500
_SIZE_OF = "SELECT coalesce(sum(pg_total_relation_size(relid)), 0) FROM pg_partition_tree(%s)"


def main() -> None:
    """Run what the options say."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sizes", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000)
    events = parser.parse_args().events
    with open_stage(FULL, lambda _: None) as stage:
        stage.services.redis.config_set("auto-aof-rewrite-percentage", 0)
        for what, value in (*_waiting(stage), *_stored(stage, events)):
            print(f"{what}: {value:,.0f} bytes", flush=True)


def _waiting(stage: Stage) -> Iterator[tuple[str, float]]:
    """Bytes an event takes in Redis while it waits, and in the append-only file."""
    ours = sides.ours(stage)
    for how in ("by .delay()", "by a Tracker"):
        stage.clear()
        memory, file = stage.used_bytes(), _appended(stage)
        if how == "by .delay()":
            for n in range(_SENT):
                ours.send(f"u{n}")
        else:
            with Tracker() as tracker:
                for n in range(_SENT):
                    tracker.track(EVENT_TYPE, f"u{n}", PROPERTIES)
        yield f"waiting in the queue, {how}", (stage.used_bytes() - memory) / _SENT
        yield f"append-only file, to publish it, {how}", (_appended(stage) - file) / _SENT
    stage.clear()


def _stored(stage: Stage, events: int) -> Iterator[tuple[str, float]]:
    """Bytes that an event of a user who has no other takes: counters and raw log in Redis, its rows
    in Postgres."""
    memory, file = stage.used_bytes(), _appended(stage)
    for first in range(0, events, _A_MESSAGE):
        now = datetime.now(UTC)
        some = tuple(
            Event.create(EVENT_TYPE, f"user {n}", now=now, properties=PROPERTIES)
            for n in range(first, first + _A_MESSAGE)
        )
        stage.services.counters.apply([Delivery(events=some, task_id=f"t{first}")], now)
    yield "counters and raw event until they are stored", (stage.used_bytes() - memory) / events
    yield "append-only file, to count it", (_appended(stage) - file) / events
    stage.services.flush()
    stage.services.archive_events()
    with stage.connect_postgres() as postgres:
        for what, table in (
            ("a user's count of a day, in Postgres", "analytics_user_daily"),
            ("a raw event, in Postgres", "events"),
        ):
            postgres.execute(f"VACUUM (ANALYZE) {table}")
            [(size,)] = postgres.execute(_SIZE_OF, (table,)).fetchall()
            [(rows,)] = postgres.execute(f"SELECT count(*) FROM {table}").fetchall()
            assert rows == events, (table, rows)
            yield what, int(size) / events


def _appended(stage: Stage) -> int:
    """Bytes written to the append-only file since it was last rewritten."""
    found = stage.services.redis.info("persistence")
    return int(found["aof_current_size"]) - int(found["aof_base_size"])


if __name__ == "__main__":
    main()
