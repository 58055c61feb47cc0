"""Single events at a steady rate, until it is killed: `python -m tests.alarms.traffic RATE`."""

from __future__ import annotations

import itertools
import sys
import time

from kombu.exceptions import OperationalError

from pipeline import track_event


def main(per_s: float) -> None:
    """Send them. What cannot be sent is another's concern."""
    began_s = time.monotonic()
    for number in itertools.count():
        time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
        try:
            track_event.delay("page_view", user_id=f"u{number % 1_000}")
        except OperationalError as error:
            print(error, flush=True)


if __name__ == "__main__":
    main(float(sys.argv[1]))
