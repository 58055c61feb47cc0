"""A producer in a process of its own: page views, each of another user, until its input ends.

    python -m tests.acceptance.drivers.traffic_driver NAME EVENTS_A_SECOND

Prints one line for each event: `accepted USER` when the publish returned, `unsure USER` when it
raised. Where to send and how long to try comes from the settings of a producer.
"""

from __future__ import annotations

import sys
import threading

from kombu.exceptions import OperationalError

from pipeline import track_event


def main() -> None:
    name, rate = sys.argv[1], float(sys.argv[2])
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    number = 0
    while not ended.wait(1 / rate):
        user = f"{name}-{number}"
        number += 1
        try:
            track_event.delay("page_view", user_id=user, properties={"path": f"/{number % 5}"})
        except OperationalError:
            outcome = "unsure"
        else:
            outcome = "accepted"
        print(f"{outcome} {user}", flush=True)


if __name__ == "__main__":
    main()
