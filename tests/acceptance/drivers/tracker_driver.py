"""One tracker in a process of its own that kills itself at a chosen moment.

    python -m tests.acceptance.drivers.tracker_driver SPOOL_DIR PREFIX EVENTS [--at "after spool"]

Tracks the events PREFIX0, PREFIX1, … in messages of ten, flushes after every hundred and prints how
many were confirmed; then waits until nothing is left on disk, and closes. The moments: before and
after a message is written to the spool ("spool"), sent ("publish"), and marked as sent ("mark");
"mark" is only of messages from disk, and so is "spooled publish".
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pipeline import Tracker
from pipeline.producer.publisher import Publisher
from pipeline.producer.spool import Spool
from tests.acceptance.drivers.moments import Stop, kill
from tests.helpers.support import eventually


def install(stop: Stop) -> None:
    """Wrap the product's functions at these moments."""
    product: Any = Spool
    product.append = stop.around("spool", Spool.append)
    product.mark_sent = stop.around("mark", Spool.mark_sent)
    product.delete = stop.around("delete", Spool.delete)
    product = Publisher
    product.send = stop.around("publish", Publisher.send)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("spool_dir", type=Path)
    parser.add_argument("prefix")
    parser.add_argument("events", type=int)
    parser.add_argument("--at")
    parser.add_argument("--nth", type=int, default=1)
    options = parser.parse_args()
    install(Stop(options.at, options.nth, kill))
    tracker = Tracker(max_events=10, max_age_s=0, when_full="spool", spool_dir=options.spool_dir)
    for n in range(options.events):
        tracker.track("page_view", f"{options.prefix}{n}")
        if (n + 1) % 100 == 0:
            tracker.flush()
            print(n + 1, flush=True)
    eventually(lambda: not list(options.spool_dir.glob("*.spool")))
    tracker.close()


if __name__ == "__main__":
    main()
