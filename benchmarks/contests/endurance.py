"""The memory of an event worker under full load: `python -m benchmarks.contests.endurance`.

The worker always finds messages in the queue, of one event and of five hundred by turns; a flush
runs every minute. Prints a line a minute, and at the end by how much the worker grew after the
first minute, in which its caches fill.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks.stage import sides
from benchmarks.stage.processes import celery_worker, running
from benchmarks.stage.stage import (
    EVENT_TYPE,
    FULL,
    PROPERTIES,
    Stage,
    open_stage,
    users,
    wait_until,
)
from pipeline import Tracker
from pipeline.contract import EVENTS_QUEUE

_SINGLES = 500
_BATCHED = 20_000
_ENOUGH_MESSAGES = 20
"""So many are left in the queue when the next are sent: the worker never waits."""


def main() -> None:
    """Run what the options say."""
    program = "python -m benchmarks.contests.endurance"
    parser = argparse.ArgumentParser(prog=program, description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    minutes = parser.parse_args().minutes
    with open_stage(FULL, lambda _: None) as stage:
        worker = celery_worker("tasks", EVENTS_QUEUE, stage.directory / "worker.log")
        with running(worker), Tracker() as tracker:
            sizes = [_minute(stage, tracker, worker.pid, at + 1) for at in range(minutes)]
    print(f"from minute 1 to minute {minutes} it grew by {sizes[-1] - sizes[0]:+.1f} MiB")


def _minute(stage: Stage, tracker: Tracker, worker: int, number: int) -> float:
    """Send for a minute; returns the size of the worker at its end (MiB)."""
    ours, client = sides.ours(stage), stage.services.redis
    before, until_s = ours.counted(), time.monotonic() + 60
    while time.monotonic() < until_s:
        for user in users(_SINGLES):
            ours.send(user)
        tracker.track_many(
            {"event_type": EVENT_TYPE, "user_id": user, "properties": PROPERTIES}
            for user in users(_BATCHED)
        )
        wait_until(lambda: client.llen(EVENTS_QUEUE) < _ENOUGH_MESSAGES, "the queue is worked off")
    stage.services.flush()
    size = _resident_mib(worker)
    print(f"minute {number}: {ours.counted() - before:,} events, {size:.1f} MiB", flush=True)
    return size


def _resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


if __name__ == "__main__":
    main()
