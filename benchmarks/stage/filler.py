"""Makes counters of different users pending, as workers do: by applying batches of events.

`python -m benchmarks.stage.filler 0 1000000` does so for the users from one number to another.
"""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise

from config.options import pipeline_options
from config.settings import Settings
from pipeline.counting.apply import Applying, Counters
from pipeline.counting.batch import Delivery
from pipeline.event.model import Event
from pipeline.services import connect_counters

EVENT_TYPE = "page_view"
_AT_ONCE = 2_000
_PROCESSES = 2


def fill(counters: Counters, numbers: range) -> None:
    """A counter for each user of these numbers; while Redis applies a batch the next is made."""
    now = datetime.now(UTC)
    under_way: Applying | None = None
    for first in range(numbers.start, numbers.stop, _AT_ONCE):
        users = range(first, min(first + _AT_ONCE, numbers.stop))
        events = [Event(EVENT_TYPE, now, f"user{number}") for number in users]
        begun = Applying(counters, [Delivery(events)], now)
        if under_way:
            under_way.finish()
        under_way = begun
    if under_way:
        under_way.finish()


def fill_by_processes(counters: int) -> None:
    """Do as `fill` does, in several processes. Raises subprocess.CalledProcessError."""
    bounds = [counters * number // _PROCESSES for number in range(_PROCESSES + 1)]
    commands = [
        [sys.executable, "-m", "benchmarks.stage.filler", f"{first}", f"{end}"]
        for first, end in pairwise(bounds)
    ]
    running = [subprocess.Popen(command) for command in commands]
    for command, process in zip(commands, running, strict=True):
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, command)


def main() -> None:
    """Fill from the first number to the second."""
    first, end = map(int, sys.argv[1:])
    counters = connect_counters(pipeline_options(Settings()), os.environ["ANALYTICS_REDIS_URL"])
    fill(counters, range(first, end))


if __name__ == "__main__":
    main()
