"""A process of its own whose threads call `track_event.delay()` at a steady pace until its input
ends.

`python -m benchmarks.stage.writer` writes a line when it has begun, and at the end one with the
calls as JSON: [when (CLOCK_MONOTONIC, s), how long (ms)].
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from itertools import cycle

from benchmarks.stage.stage import EVENT_TYPE, PROPERTIES, users
from pipeline import track_event

WRITES_PER_S = 200
THREADS = 10
"""As many as a web server's: while one call waits, the others are made all the same."""

Call = tuple[float, float]
"""When it began (s), and how long it took (ms)."""


class Writer:
    """The process, seen from the one that started it."""

    def __init__(self) -> None:
        """Start it, and wait until it writes."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stage.writer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def end(self) -> list[Call]:
        """Its calls."""
        output, _ = self._process.communicate()
        calls: list[Call] = json.loads(output)
        return calls


def main() -> None:
    """Write until the input ends."""
    ended = threading.Event()
    connected = threading.Barrier(THREADS + 1)
    calls: list[Call] = []
    who = cycle(users(1_000))

    def write(at: int) -> None:
        track_event.delay(EVENT_TYPE, user_id="first", properties=PROPERTIES)
        connected.wait()
        due_s = time.monotonic() + at / WRITES_PER_S
        while not ended.is_set():
            pause_s = due_s - time.monotonic()
            if pause_s > 0:
                time.sleep(pause_s)
            # A call that is late because of the one before has waited since it was due.
            began_s = time.monotonic() if pause_s > 0 else due_s
            track_event.delay(EVENT_TYPE, user_id=next(who), properties=PROPERTIES)
            calls.append((began_s, (time.monotonic() - began_s) * 1e3))
            due_s += THREADS / WRITES_PER_S

    threads = [threading.Thread(target=write, args=(at,)) for at in range(THREADS)]
    for thread in threads:
        thread.start()
    connected.wait()
    print("writing", flush=True)
    sys.stdin.read()
    ended.set()
    for thread in threads:
        thread.join()
    print(json.dumps(calls))


if __name__ == "__main__":
    main()
